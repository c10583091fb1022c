package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// signedInDevice is a device of a person, with the session that it has now.
type signedInDevice struct {
	p       *person
	key     ed25519.PrivateKey
	session keyapi.Session
}

func (p *person) deviceNamed(name string) *signedInDevice {
	p.w.t.Helper()
	d := &signedInDevice{p: p, key: newKey()}
	var err error
	d.session, err = p.w.c.Login(p.w.t.Context(), keyapi.LoginRequest{
		Username: p.name, AuthVersion: 1, Auth: p.auth, Device: keyapi.Device{Name: name, Key: public(d.key)},
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
	return d
}

// refresh gives the notices that come with new tokens.
func (d *signedInDevice) refresh() []keyapi.SessionNotice {
	d.p.w.t.Helper()
	s, err := d.p.refresh(d.session.RefreshToken, d.key)
	if err != nil {
		d.p.w.t.Fatal(err)
	}
	d.session = s
	return s.Notices
}

// reuse has somebody present a token of the device that was used.
func (d *signedInDevice) reuse(by ed25519.PrivateKey) {
	d.p.w.t.Helper()
	used := d.session.RefreshToken
	d.refresh()
	d.p.w.clock.advance(time.Minute)
	_, err := d.p.refresh(used, by)
	wantCode(d.p.w.t, err, keyapi.CodeUnauthorized)
}

// Threat 11: that a used refresh token was presented is told to every other device
// with its next tokens, to those that sign in later, and to nobody else.
func TestThreat11_ReuseIsToldToTheOtherDevices(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	laptop, phone, desk := alice.deviceNamed("laptop"), alice.deviceNamed("phone"), alice.deviceNamed("desk")
	other := bob.deviceNamed("bob's")
	if n := phone.refresh(); n != nil {
		t.Fatalf("nothing happened, and the phone is told %+v", n)
	}
	ended, key := laptop.session.SessionID, public(laptop.key)
	laptop.reuse(newKey())
	at := w.clock.now()
	want := func(who string, got []keyapi.SessionNotice) {
		t.Helper()
		if len(got) != 1 || got[0].Kind != keyapi.NoticeTokenReused || !got[0].At.Equal(at) || !bytes.Equal(got[0].SessionID, ended) ||
			got[0].Device.Name != "laptop" || !bytes.Equal(got[0].Device.Key, key) {
			t.Errorf("%s is told %+v", who, got)
		}
	}
	want("the phone", phone.refresh())
	used := desk.session.RefreshToken
	want("the desk", desk.refresh())
	again, err := alice.refresh(used, desk.key)
	if err != nil {
		t.Fatal(err)
	}
	want("the desk, whose answer was lost", again.Notices)
	want("the phone, again", phone.refresh())
	binary, err := keyclient.New(keyclient.Options{URL: w.URL, CBOR: true})
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	r := keyapi.RefreshRequest{RefreshToken: phone.session.RefreshToken, Time: w.clock.now()}
	r.Signature = ed25519.Sign(phone.key, keyapi.RefreshSigningInput(w.Origin, r))
	if phone.session, err = binary.Refresh(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want("the phone, in CBOR", phone.session.Notices)
	laptop = alice.deviceNamed("laptop") // with another key
	want("the laptop, signed in again", laptop.session.Notices)
	if got := other.refresh(); got != nil {
		t.Errorf("somebody else is told %+v", got)
	}
	w.clock.advance(30 * 24 * time.Hour)
	if got := phone.refresh(); got != nil {
		t.Errorf("after a month the phone is told %+v", got)
	}
}

// Threat 11: a thief without the device's key cannot cause notices by tokens that
// are good, and those that are kept are few: the last ones, in their order.
func TestThreat11_NoticesOfReuseAreBounded(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.person("alice")
	phone := alice.deviceNamed("phone")
	_, err := alice.refresh(phone.session.RefreshToken, newKey())
	wantCode(t, err, keyapi.CodeUnauthorized)
	if got := phone.refresh(); got != nil {
		t.Errorf("a good token without a signature: %+v", got)
	}
	var names []string
	for i := range 20 {
		name := strings.Repeat("x", i+1)
		names = append(names, name)
		alice.deviceNamed(name).reuse(newKey())
	}
	var got []string
	for _, n := range phone.refresh() {
		got = append(got, n.Device.Name)
	}
	if !slices.Equal(got, names[4:]) {
		t.Errorf("the last 16 of 20 are %q", got)
	}
}

// What is told of a user's sessions is the user's: an export has it, and a deletion
// removes it.
func TestNoticesOfSessionsAreUserData(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.person("alice")
	alice.deviceNamed("lost laptop").reuse(newKey())
	w.Close()
	store, err := boltstore.Open(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var out bytes.Buffer
	if err := keyserver.ExportUser(t.Context(), store, "alice", &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `{"type":"session notices","data":[{`) || !strings.Contains(out.String(), "lost laptop") {
		t.Errorf("the export lacks it: %s", out.String())
	}
	if _, err := keyserver.DeleteUser(t.Context(), store, "alice", nil); err != nil {
		t.Fatal(err)
	}
	err = store.View(t.Context(), func(r keyserver.Reader) error {
		n, err := r.Note(keyserver.NoteSessions, alice.session.UserID, nil, w.clock.now())
		if n != nil {
			t.Errorf("after the deletion there is %s", n.Value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
