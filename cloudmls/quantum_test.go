package cloudmls

import (
	"errors"
	"slices"
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

// classicUser registers one whose client knows no post-quantum KeyPackages.
func (w *world) classicUser(name string) *device {
	w.t.Helper()
	w.wire.set(nil, func(e *exchange) {
		if pool := "/v1/keypackages/email/" + account(name).ID; e.status == 200 && (e.is("GET", pool) || e.is("POST", pool)) {
			n := decodeJSON[keyapi.KeyPackageCount](w.t, e.answered)
			n.Suites = slices.DeleteFunc(n.Suites, func(s keyapi.SuiteCount) bool { return s.Suite != uint16(suite) })
			e.answered = encodeJSON(w.t, n)
		}
	})
	defer w.wire.set(nil, nil)
	return w.user(name)
}

// hides makes the key server say that an account has no post-quantum KeyPackages.
func (w *world) hides(d *device) {
	w.wire.set(nil, func(e *exchange) {
		switch {
		case e.is("POST", "/v1/keypackages/email/"+d.self.ID+"/claim") && e.request.URL.Query().Get("suite") != "1":
			e.status = 404
			e.header = "application/problem+json"
			e.answered = encodeJSON(w.t, keyapi.Problem{Status: 404, Code: keyapi.CodeNoKeyPackage, Title: "none"})
		case e.is("GET", "/v1/reachable/email/"+d.self.ID) && e.status == 200:
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
	erin := w.classicUser("erin")
	w.hides(carol) // in a group with Erin nobody loses anything by it
	mixed, other := newID(t), alice.ensureDialog(erin)
	alice.ensureGroup(mixed, bob, carol, erin)
	w.wire.set(nil, nil)
	carol.cleanSync()
	erin.cleanSync()
	for _, id := range []ConversationID{mixed, other} {
		if cs := erin.suiteIn(id); cs != suite || erin.state(id).PostQuantum {
			t.Errorf("suite 0x%04x", uint16(cs))
		}
		alice.reads(erin.encrypt(id, "sealed once"), "sealed once", erin)
	}
	carol.reads(erin.encrypt(mixed, "sealed once"), "sealed once", erin)
	bob.cleanSync()
	dave := w.user("dave") // joins a group of the other suite all the same
	alice.ensureGroup(mixed, dave)
	dave.reads(alice.encrypt(mixed, "hello"), "hello", alice)
}

// TestFirstContactIsNotDowngraded: a key server that keeps the post-quantum
// KeyPackages of people back is found out by the others of theirs, in which they
// say that they publish them, and there is no conversation without them.
func TestFirstContactIsNotDowngraded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	group := newID(t)
	w.hides(carol)
	refused := func(what string, err error) {
		t.Helper()
		var missing *MissingKeyPackagesError
		if !errors.Is(err, ErrDowngrade) || !errors.As(err, &missing) || !slices.Contains(missing.Accounts, carol.self) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: accounts(carol)})
	refused("dialog", err)
	_, err = alice.Ensure(t.Context(), alice.self, Conversation{ID: group, Kind: KindGroup, Members: accounts(bob, carol)})
	refused("group", err)
	if _, err := alice.Conversation(t.Context(), alice.self, group); !errors.Is(err, ErrNoConversation) {
		t.Errorf("there is a group: %v", err)
	}
	if m := alice.updates(group, OmittedLeave, carol.self); !m.misses(carol.self, MissingPostQuantum) || m.Complete {
		t.Errorf("update: %+v", m)
	}
	w.wire.set(nil, nil)
	id := alice.ensureDialog(carol)
	if cs := alice.suiteIn(id); cs != suitePQ {
		t.Errorf("suite 0x%04x", uint16(cs))
	}
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

// TestPostQuantumPoolComesFirst: else whoever is faster than the second upload
// would take the key server for a liar.
func TestPostQuantumPoolComesFirst(t *testing.T) {
	t.Parallel()
	got := poolsOf(keyapi.KeyPackageCount{Suites: []keyapi.SuiteCount{{Suite: uint16(suite)}, {Suite: 3}, {Suite: uint16(suitePQ)}}})
	if len(got) != 2 || got[0].Suite != uint16(suitePQ) || got[1].Suite != uint16(suite) {
		t.Errorf("%+v", got)
	}
}
