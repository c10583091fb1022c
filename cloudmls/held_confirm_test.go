package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat45_FalsePinHoldsNoDialogBack: Mallory has invited Bob to a group in which
// somebody sits under Alice's name, whom Bob has never met, and then Alice begins a
// dialog with him. Once the key server has named her key the dialog counts, without
// anybody accepting it: there is nothing to accept, for hers is the pinned one.
func TestThreat45_FalsePinHoldsNoDialogBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	f := w.forger()
	d, _ := f.welcome(alice.self, binding{kind: KindGroup, conversation: newID(t), origin: w.ks.Origin}, bob)
	mallory.ensureGroup(newID(t), bob)
	dialog := alice.ensureDialog(bob)
	message := alice.encrypt(dialog, "hello Bob")
	done := false
	w.wire.set(nil, func(e *exchange) {
		if done || !e.is("GET", "/v1/delivery/email/"+bob.self.ID) || e.status != 200 {
			return
		}
		page := decodeJSON[keyapi.Deliveries](t, e.answered)
		forged := *d
		forged.Seq = page.Messages[0].Seq
		page.Messages[0] = forged
		e.answered, done = encodeJSON(t, page), true
	})
	r := bob.mustSync()
	w.wire.set(nil, nil)
	if !done || !hasProblem(r, ProblemIdentityChanged) {
		t.Fatalf("the attack does not begin: %+v", r)
	}
	if p := bob.pinnedKey(alice.self); p.Unconfirmed || !bytes.Equal(p.Key, alice.ownKey()) {
		t.Fatalf("%+v", p)
	}
	inbox, err := bob.reader(t.Context(), bob.self).inbox()
	if err != nil || len(inbox.Held) != 0 {
		t.Errorf("held: %d, %v", len(inbox.Held), err)
	}
	bob.reads(message, "hello Bob", alice)
	alice.reads(bob.encrypt(dialog, "hello Alice"), "hello Alice", bob)
	if s := bob.state(dialog); s.Blocked != nil || !slices.Equal(s.Members, alice.state(dialog).Members) {
		t.Errorf("%+v", s)
	}
}

// TestReleasedWelcomesAreTold: that a Welcome which had waited puts another group in a
// conversation's place is told, though no Sync brings it.
func TestReleasedWelcomesAreTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	f := w.forger()
	d, _ := f.welcome(bob.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, alice)
	w.deliver(alice, mallory, d)
	replaced := func() int {
		s, err := alice.Status(t.Context(), alice.self)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, one := range s.Notices {
			if one.Kind == NoticeReplaced && one.Conversation == id {
				n++
			}
		}
		return n
	}
	if n := replaced(); n != 0 {
		t.Fatalf("%d notices before", n)
	}
	if err := alice.AcceptIdentity(t.Context(), alice.self, bob.self, f.identity.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	if n := replaced(); n != 1 || !bytes.Equal(alice.state(id).group(t, alice), d.Group) {
		t.Errorf("%d notices", n)
	}
}
