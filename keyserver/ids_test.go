package keyserver_test

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// F31: ids are octets. They are not split at "/", not folded, not unescaped
// twice, and platforms do not share them.
func TestFlaw31_IdsArePerPlatformAndVerbatim(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	ids := []keyapi.Account{
		{Platform: "email", ID: "a/b@example.org"}, {Platform: "email", ID: "a%2Fb@example.org"}, {Platform: "email", ID: "a"},
		{Platform: "email", ID: "a/b"}, {Platform: "email", ID: "a/claim"}, {Platform: "email", ID: "A/B"}, {Platform: "email", ID: "."},
		{Platform: "email", ID: ".."}, {Platform: "email", ID: "../x"}, {Platform: "email", ID: "a b+c?d#e&f"}, {Platform: "email", ID: "100%25"},
		{Platform: "email", ID: "100%"}, {Platform: "email", ID: "/"}, {Platform: "email", ID: "//"}, {Platform: "email", ID: "grüße 日本 😀"},
		{Platform: "emai", ID: "la/b"}, {Platform: "telegram", ID: "a/b"}, {Platform: "telegram", ID: "A/B"}, {Platform: "email", ID: "a/b\x01"},
	}
	asker := w.person("asker")
	var people []*person
	for i, a := range ids {
		p := w.register("user" + string(rune('a'+i)))
		people = append(people, p)
		p.account = a
		r, err := w.c.Reachable(t.Context(), asker.token(), a)
		if err != nil || r.HasAccount {
			t.Fatalf("%q is there before it was claimed: %+v, %v", a, r, err)
		}
		p.claim(a)
		if _, err := p.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{p.keyPackage(nil)}}); err != nil {
			t.Fatalf("%q: upload: %v", a, err)
		}
	}
	g := newGroup()
	asker.mustCommit(g, g.create(asker.account, "first", ids...))
	for i, a := range ids {
		p := people[i]
		r, err := w.c.Reachable(t.Context(), asker.token(), a)
		if err != nil || !r.HasAccount || !bytes.Equal(r.IdentityKey, public(p.identity)) {
			t.Errorf("%q: reachable: %v", a, err)
		}
		kp, err := asker.claimFrom(p)
		if err != nil {
			t.Errorf("%q: claim: %v", a, err)
			continue
		}
		parsed, err := mls.ParseKeyPackage(kp.KeyPackage)
		if err != nil {
			t.Fatal(err)
		}
		c, err := keyapi.ParseLeafCert(parsed.Credential().Identity)
		if err != nil || c.Account() != a {
			t.Errorf("%q: KeyPackage of %v: %v", a, c, err)
		}
		_, err = asker.claimFrom(p)
		wantCode(t, err, keyapi.CodeNoKeyPackage)
		wantMessages(t, p.inbox(0), "welcome of first")
		if err := w.c.Ack(t.Context(), p.token(), a, 1); err != nil {
			t.Errorf("%q: acknowledge: %v", a, err)
		}
	}
	for _, a := range []keyapi.Account{{Platform: "Email", ID: "a"}, {Platform: "", ID: "a"}, {Platform: "email", ID: ""}, {Platform: "email", ID: "a\x00b"}} {
		if _, err := w.c.AddAccount(t.Context(), asker.token(), keyapi.AccountRequest{Account: a, IdentityKey: random(32)}); err == nil {
			t.Errorf("%q was taken", a)
		}
	}
}
