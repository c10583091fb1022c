package cloudmls

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// rogueCommit publishes a Commit that this package would not make, with the
// real token, as a member with another program can.
func (d *device) rogueCommit(id ConversationID, o mls.CommitOptions) error {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	g, _, err := d.reader(d.t.Context(), d.self).group(conv.Group, conv.Epoch)
	if err != nil {
		d.t.Fatal(err)
	}
	o.Now = d.w.clock.now()
	pending, err := g.Commit(o)
	if err != nil {
		d.t.Fatalf("rogue Commit: %v", err)
	}
	s, err := submit(d.self, conv, g, pending)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, kp := range o.Add {
		cert, err := leafCertificate(kp.Credential(), kp.SignatureKey())
		if err != nil {
			d.t.Fatal(err)
		}
		s.Joiners = append(s.Joiners, cert.Account())
	}
	return d.update(d.t.Context(), d.self, func(tx *state.Tx, _ *view) error { return tx.SetCommit(*s) })
}

// TestFlaw01_DialogStaysAPair: nobody else enters a dialog, not even at the
// other member's invitation.
func TestFlaw01_DialogStaysAPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := alice.encrypt(id, "before")
	if err := bob.rogueCommit(id, mls.CommitOptions{Add: []*mls.KeyPackage{mallory.unusedKeyPackage(suitePQ)}}); err != nil {
		t.Logf("the key server refuses it already: %v", err)
		return
	}
	if r := mallory.mustSync(); !hasProblem(r, ProblemForbidden) || len(r.Joined) != 0 {
		t.Errorf("Mallory: %+v", r)
	}
	if r := alice.mustSync(); !hasProblem(r, ProblemForbidden) {
		t.Errorf("Alice: %+v", r)
	}
	if b, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil); !errors.Is(err, ErrBroken) || b != nil {
		t.Errorf("Alice still encrypts: %v", err)
	}
	if s := alice.state(id); !s.Broken || len(s.Members) != 2 {
		t.Errorf("state %+v", s)
	}
	bob.reads(before, "before", alice)
}

// TestBindingNeverChanges: a Commit that makes the group serve another
// conversation is refused.
func TestBindingNeverChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	const ours, strangers = extensionBinding, mls.ExtensionExternalSenders
	same := binding{kind: KindGroup, origin: w.ks.Origin}
	other := binding{kind: KindGroup, conversation: newID(t), origin: w.ks.Origin}
	for name, make := range map[string]func() mls.Proposal{
		"changed": func() mls.Proposal {
			return &mls.GroupContextExtensions{Extensions: []mls.Extension{{Type: ours, Data: other.marshal()}}}
		},
		"removed": func() mls.Proposal { return &mls.GroupContextExtensions{} },
		"with strangers who may propose": func() mls.Proposal {
			same.conversation = id
			return &mls.GroupContextExtensions{Extensions: []mls.Extension{{Type: ours, Data: same.marshal()}, {Type: strangers, Data: []byte{0}}}}
		},
		"ended by ReInit": func() mls.Proposal {
			same.conversation = id
			return &mls.ReInit{GroupID: mls.GroupID("next"), Version: mls.MLS10, CipherSuite: suitePQ, Extensions: []mls.Extension{{Type: ours, Data: same.marshal()}}}
		},
	} {
		err := bob.rogueCommit(id, mls.CommitOptions{Proposals: []mls.Proposal{make()}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := alice.mustSync(); !hasProblem(r, ProblemForbidden) {
			t.Errorf("%s: %+v", name, r)
		}
		if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
		id = newID(t)
		alice.ensureGroup(id, bob)
		bob.mustSync() // his own program lost track of the old group
	}
}

// TestLastResortJoinIsFollowedByFreshKeys: its init key may serve again.
func TestLastResortJoinIsFollowedByFreshKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	var id ConversationID
	for range defaultKeyPackages + 1 {
		id = newID(t)
		alice.ensureGroup(id, bob)
	}
	bob.cleanSync()
	alice.reads(bob.encrypt(id, "hello"), "hello", bob)
	if e := bob.state(id).Epoch; e != 2 {
		t.Errorf("epoch %d, want 2: no update after a last-resort join", e)
	}
	bob.encrypt(id, "again")
	if e := bob.state(id).Epoch; e != 2 {
		t.Errorf("epoch %d, want 2: one update is enough", e)
	}
}

func TestBindingEncoding(t *testing.T) {
	t.Parallel()
	b := binding{kind: KindGroup, conversation: ConversationID{1, 2}, origin: "https://keys.example.org", days: 30}
	good := b.marshal()
	if got, err := parseBinding(good); err != nil || got != b {
		t.Fatalf("got %+v, %v", got, err)
	}
	with := func(i int, v byte) []byte {
		p := bytes.Clone(good)
		p[i] = v
		return p
	}
	for name, p := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
		"version": with(0, 2), "kind 0": with(1, 0), "kind 4": with(1, 4), "length": with(18, 0xff),
		"policy unknown": with(len(good)-5, 2), "for ever with days": with(len(good)-5, 0),
	} {
		if got, err := parseBinding(p); !errors.Is(err, errBinding) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	zero := binding{kind: KindGroup, origin: "x"}
	if _, err := parseBinding(zero.marshal()); err == nil {
		t.Error("a zero conversation id passes")
	}
}
