package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func (d *device) suiteIn(id ConversationID) mls.CipherSuite {
	d.t.Helper()
	s := d.state(id)
	g, _, err := d.reader(d.t.Context(), d.self).group(s.group(d.t, d), s.Epoch)
	if err != nil {
		d.t.Fatal(err)
	}
	return g.CipherSuite()
}

// hides makes the key server say that an account has no post-quantum KeyPackages,
// as one does that has an old client, or an evil key server.
func (w *world) hides(d *device) {
	w.wire.set(nil, func(e *exchange) {
		switch {
		case e.is("POST", "/v1/keypackages/email/"+d.self.ID+"/claim") && e.request.URL.Query().Get("suite") != "1":
			e.status = 404
			e.header = "application/problem+json"
			e.answered = encodeJSON(w.t, keyapi.Problem{Status: 404, Code: keyapi.CodeNoKeyPackage, Title: "none"})
		case e.is("GET", "/v1/keypackages/email/"+d.self.ID+"/reachable") && e.status == 200:
			r := decodeJSON[keyapi.Reachability](w.t, e.answered)
			r.Suites = []uint16{uint16(suite)}
			e.answered = encodeJSON(w.t, r)
		}
	})
}

// TestPostQuantumWhereEverybodyOffersIt, and the other suite where not.
func TestPostQuantumWhereEverybodyOffersIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	dialog, group := alice.ensureDialog(bob), newID(t)
	alice.ensureGroup(group, bob, carol)
	for _, id := range []ConversationID{dialog, group} {
		bob.cleanSync()
		if cs := bob.suiteIn(id); cs != suitePQ || !bob.state(id).PostQuantum {
			t.Errorf("suite 0x%04x", uint16(cs))
		}
		alice.reads(bob.encrypt(id, "sealed twice"), "sealed twice", bob)
	}
	w.hides(carol)
	mixed, other := newID(t), alice.ensureDialog(carol)
	alice.ensureGroup(mixed, bob, carol)
	carol.cleanSync()
	for _, id := range []ConversationID{mixed, other} {
		if cs := carol.suiteIn(id); cs != suite || carol.state(id).PostQuantum {
			t.Errorf("suite 0x%04x", uint16(cs))
		}
		alice.reads(carol.encrypt(id, "sealed once"), "sealed once", carol)
	}
	bob.cleanSync()
	dave := w.user("dave") // joins a group of the other suite all the same
	alice.ensureGroup(mixed, dave)
	dave.reads(alice.encrypt(mixed, "hello"), "hello", alice)
}

// TestPostQuantumStays: neither adding somebody nor a new group takes it away,
// whoever makes it; the attempt has an error of its own.
func TestPostQuantumStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	dialog, group := alice.ensureDialog(bob), newID(t)
	alice.ensureGroup(group, bob)
	bob.cleanSync()
	w.hides(carol)
	_, err := alice.Add(t.Context(), alice.self, group, accounts(carol))
	var missing *MissingKeyPackagesError
	if !errors.Is(err, ErrDowngrade) || !errors.As(err, &missing) {
		t.Errorf("adding: %v", err)
	}
	if m := alice.updates(group, OmittedLeave, bob.self, carol.self); !m.misses(carol.self, MissingPostQuantum) || m.Complete {
		t.Errorf("update: %+v", m)
	}
	w.hides(bob)
	if _, err := alice.Replace(t.Context(), alice.self, group); !errors.Is(err, ErrDowngrade) {
		t.Errorf("replacing: %v", err)
	}
	if _, err := alice.Replace(t.Context(), alice.self, dialog); !errors.Is(err, ErrDowngrade) {
		t.Errorf("replacing a dialog: %v", err)
	}
	w.wire.set(nil, nil)
	// What another program of a member makes is refused as well.
	who, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity, f.classic = who.private(), true
	for id, kind := range map[ConversationID]Kind{dialog: KindDialog, group: KindGroup} {
		before := bob.state(id).group(t, bob)
		d, _ := f.welcome(alice.self, binding{kind: kind, conversation: id, origin: w.ks.Origin}, bob)
		r := w.deliver(bob, carol, d)
		if len(r.Problems) != 1 || !errors.Is(r.Problems[0].Err, ErrDowngrade) || string(bob.state(id).group(t, bob)) != string(before) {
			t.Errorf("kind %d: %+v", kind, r)
		}
		alice.reads(bob.encrypt(id, "still"), "still", bob)
	}
}

// TestKeyServerOfOneSuite: everything works with one that knows nothing else.
func TestKeyServerOfOneSuite(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, keyserver.Options{CipherSuites: []mls.CipherSuite{suite}})
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	if cs := bob.suiteIn(id); cs != suite {
		t.Errorf("suite 0x%04x", uint16(cs))
	}
	bob.reads(alice.encrypt(id, "hello"), "hello", alice)
}
