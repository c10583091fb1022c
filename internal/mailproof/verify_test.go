package mailproof_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/cloudmls/gateway/internal/mailproof"
)

const (
	origin  = "https://keys.example.org"
	address = "alice@mail.example"
	sender  = "challenge@keys.example.org"
)

// zone is DNS as far as DKIM asks it.
type zone struct {
	keys  map[string]ed25519.PrivateKey // by domain
	asked int
}

func newZone(domains ...string) *zone {
	z := &zone{keys: map[string]ed25519.PrivateKey{}}
	for _, d := range domains {
		_, z.keys[d], _ = ed25519.GenerateKey(rand.Reader)
	}
	return z
}

func (z *zone) lookUp(name string) ([]string, error) {
	z.asked++
	k := z.keys[strings.TrimPrefix(name, "s._domainkey.")]
	if k == nil {
		return nil, errors.New("no such record")
	}
	return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))}, nil
}

var allFields = []string{"From", "To", "Subject", "Date", "Auto-Submitted", mailproof.Field, "Content-Type"}

func (z *zone) sign(t *testing.T, message []byte, domain string, fields []string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := dkim.Sign(&b, bytes.NewReader(message), &dkim.SignOptions{
		Domain: domain, Selector: "s", Signer: z.keys[domain], HeaderKeys: fields, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func challenge() *mailproof.Challenge {
	return &mailproof.Challenge{
		Origin: origin, Address: address, ID: bytes.Repeat([]byte{0xab}, 16), Token: []byte("0123456789abcdef"), Code: "K7X2-M9QP",
		Expires: time.Date(2026, 11, 23, 12, 15, 0, 0, time.UTC),
	}
}

func compose(t *testing.T, from string) []byte {
	t.Helper()
	m, err := mailproof.Compose(challenge(), from, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func expected(z *zone) *mailproof.Expected {
	return &mailproof.Expected{Origin: origin, Address: address, ID: challenge().ID, LookupTXT: z.lookUp, Now: time.Now}
}

func TestGenuineChallenge(t *testing.T) {
	for domain, from := range map[string]string{"keys.example.org": sender, "example.org": "noreply@example.org"} {
		z := newZone(domain, "relay.example.net")
		m := z.sign(t, compose(t, from), domain, allFields)
		// What providers do on the way: their trace, another signature, LF to CRLF stays.
		m = append([]byte("Received: from relay by mail.example; Mon, 23 Nov 2026 12:00:00 +0000\r\n"), z.sign(t, m, "relay.example.net", allFields)...)
		token, err := expected(z).Token(m)
		if err != nil || !bytes.Equal(token, challenge().Token) {
			t.Errorf("signed by %s: token %x, %v", domain, token, err)
		}
	}
}

func TestTextForPeople(t *testing.T) {
	m := string(compose(t, sender))
	for _, want := range []string{"K7X2-M9QP", "Auto-Submitted: auto-generated\r\n", "12:15 UTC on 23 November 2026", origin} {
		if !strings.Contains(m, want) {
			t.Errorf("the mail lacks %q:\n%s", want, m)
		}
	}
	for line := range strings.Lines(m) {
		if !strings.HasSuffix(line, "\r\n") || len(line) > 200 {
			t.Errorf("line %q", line)
		}
	}
	if strings.Contains(m, "http") && strings.Count(m, "http") != strings.Count(m, origin) {
		t.Error("there is a link in it")
	}
}

// TestThreat54_UnsolicitedChallenge: the gateway ignores challenges that it did
// not ask for, that nobody or somebody else signed, that were changed, nested
// or forwarded.
func TestThreat54_UnsolicitedChallenge(t *testing.T) {
	z := newZone("keys.example.org", "example.org", "evil.example", "org", "example.com")
	plain := compose(t, sender)
	good := z.sign(t, plain, "keys.example.org", allFields)
	edit := func(m []byte, old, new string) []byte {
		t.Helper()
		if !bytes.Contains(m, []byte(old)) {
			t.Fatalf("%q is not in the message", old)
		}
		return bytes.Replace(m, []byte(old), []byte(new), 1)
	}
	without := func(name string) []string {
		return slices.DeleteFunc(slices.Clone(allFields), func(f string) bool { return f == name })
	}
	evil := func(old, new string) []byte {
		return z.sign(t, edit(plain, old, new), "evil.example", allFields)
	}
	server := func(old, new string) []byte {
		return z.sign(t, edit(plain, old, new), "keys.example.org", allFields)
	}
	late := expected(z)
	late.Now = func() time.Time { return time.Now().Add(time.Hour) }
	other := expected(z)
	other.ID = bytes.Repeat([]byte{1}, 16)
	somebody := expected(z)
	somebody.Address = "bob@mail.example"
	elsewhere := expected(z)
	elsewhere.Origin = "https://keys.example.com"
	e := expected(z)
	for name, c := range map[string]struct {
		by      *mailproof.Expected
		message []byte
		want    string
	}{
		"not signed":             {e, plain, "no signature"},
		"signed by a stranger":   {e, z.sign(t, plain, "evil.example", allFields), "signed by evil.example"},
		"by a public suffix":     {e, z.sign(t, plain, "org", allFields), "signed by org"},
		"stranger's From":        {e, evil("challenge@keys.example.org", "challenge@evil.example"), "signed by evil.example"},
		"From of somebody else":  {e, server("challenge@keys.example.org", "challenge@evil.example"), "From is not of"},
		"token changed":          {e, edit(good, "token="+base64.RawURLEncoding.EncodeToString(challenge().Token)[:2], "token=AA"), "DKIM"},
		"body changed":           {e, edit(good, "Somebody, probably", "Somebody, surely"), "DKIM"},
		"body continued":         {e, append(slices.Clone(good), "More.\r\n"...), "DKIM"},
		"field not signed":       {e, z.sign(t, plain, "keys.example.org", without(mailproof.Field)), "cloudmls-challenge is not signed"},
		"To not signed":          {e, z.sign(t, plain, "keys.example.org", without("To")), "to is not signed"},
		"two From":               {e, server("To: <", "From: <mallory@evil.example>\r\nTo: <"), "2 fields From"},
		"two addresses in From":  {e, server("<challenge@keys.example.org>", "<challenge@keys.example.org>, <mallory@evil.example>"), "2 addresses"},
		"two challenges":         {e, server("MIME-Version", mailproof.Field+": v1; id=ab; token=cd; origin=x\r\nMIME-Version"), "2 fields CloudMLS-Challenge"},
		"to somebody else":       {somebody, good, "to somebody else"},
		"to several":             {e, server("To: <alice@mail.example>", "To: <alice@mail.example>, <bob@mail.example>"), "to somebody else"},
		"not asked for":          {other, good, "did not ask"},
		"of another server":      {elsewhere, good, "another key server"},
		"old signature":          {late, good, "not of now"},
		"forwarded as it is":     {e, forwarded(good), "0 fields CloudMLS-Challenge"},
		"attached":               {e, server("text/plain; charset=us-ascii", "multipart/mixed; boundary=x"), "text/plain"},
		"wrong version":          {e, server("v1;", "v2;"), "version 1"},
		"short token":            {e, server("token="+base64.RawURLEncoding.EncodeToString(challenge().Token), "token=AAAA"), "16 octets"},
		"too long":               {e, append(slices.Clone(good), make([]byte, 70_000)...), "longer than"},
		"garbage":                {e, []byte("\x00\xff"), "challenge"},
		"behind many signatures": {e, many(t, z, good, 6), "signed by evil.example"},
	} {
		if token, err := c.by.Token(c.message); err == nil || token != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: token %x, error %v, want %q", name, token, err, c.want)
		}
	}
	if token, err := e.Token(good); err != nil || len(token) != 16 {
		t.Errorf("the genuine one: %v", err)
	}
	// Whatever comes, DNS is not asked without end.
	z.asked = 0
	if _, err := e.Token(many(t, z, plain, 50)); err == nil || z.asked > 5 {
		t.Errorf("50 signatures: %v, %d look-ups", err, z.asked)
	}
}

func forwarded(m []byte) []byte {
	return fmt.Appendf(nil, "From: x@mail.example\r\nTo: %s\r\nSubject: Fwd\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nContent-Type: message/rfc822\r\n\r\n%s", address, m)
}

func many(t *testing.T, z *zone, m []byte, n int) []byte {
	t.Helper()
	for range n {
		m = z.sign(t, m, "evil.example", allFields)
	}
	return m
}

func TestAddressesThatCannotBeProven(t *testing.T) {
	for _, bad := range []string{"", "alice", "@x", "a@", "a b@x.example", "a@x\r\nBcc: b@y", `"a"@x.example`, "a@x@y", "ä@x.example", "a,b@x.example", strings.Repeat("a", 250) + "@x.example"} {
		c := challenge()
		c.Address = bad
		if m, err := mailproof.Compose(c, sender, time.Now()); err == nil {
			t.Errorf("%q:\n%s", bad, m)
		}
	}
	c := challenge()
	c.ID = nil
	if _, err := mailproof.Compose(c, sender, time.Now()); err == nil {
		t.Error("a challenge without an id")
	}
}

func FuzzToken(f *testing.F) {
	z := newZone("keys.example.org")
	m, err := mailproof.Compose(challenge(), sender, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m)
	f.Add(forwarded(m))
	f.Add([]byte(mailproof.Field + ": v1; id=; token=; origin=\r\n\r\n"))
	f.Fuzz(func(t *testing.T, m []byte) {
		if token, err := expected(z).Token(m); err == nil {
			t.Errorf("nobody signed this: %x", token)
		}
	})
}

// The last two numbers of an address are no organisation.
func TestThreat26_AddressesHaveNoOrganisation(t *testing.T) {
	const from = "keys@0.1"
	z := newZone("0.1")
	c := challenge()
	c.Origin = "http://127.0.0.1:8080"
	m, err := mailproof.Compose(c, from, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := expected(z)
	e.Origin = c.Origin
	if _, err := e.Token(z.sign(t, m, "0.1", allFields)); err == nil || !strings.Contains(err.Error(), "signed by 0.1") {
		t.Errorf("signed by 0.1 for 127.0.0.1: %v", err)
	}
}
