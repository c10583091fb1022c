package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// TestNobodySquatsOnADialog: anybody can compute the id of a dialog, and make a
// group under it with its two people and themselves. It is neither taken for the
// dialog nor in its way, whether or not the dialog is there already.
func TestNobodySquatsOnADialog(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*device, Conversation) (*ConversationState, error){
		"ensure": func(d *device, want Conversation) (*ConversationState, error) {
			return d.Ensure(t.Context(), d.self, want)
		},
		"create": func(d *device, want Conversation) (*ConversationState, error) {
			return d.Create(t.Context(), d.self, want)
		},
		"update": func(d *device, want Conversation) (*ConversationState, error) {
			m, err := d.Update(t.Context(), d.self, want)
			if err == nil && !m.Complete {
				t.Errorf("%+v", m)
			}
			return m.State, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
			id := groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID)
			mallory.ensureGroup(id, alice, bob)
			alice.cleanSync()
			bob.cleanSync()
			hers := mallory.encrypt(id, "in the group")
			s, err := write(alice, Conversation{Kind: KindDialog, Members: accounts(bob), HistoryDays: 30})
			if err != nil || s.Kind != KindDialog || s.ID != id || !slices.Equal(s.Members, accounts(alice, bob)) || s.HistoryDays != 30 {
				t.Fatalf("%+v, %v; want the dialog", s, err)
			}
			bob.cleanSync()
			b := alice.encrypt(id, "for Bob")
			bob.reads(b, "for Bob", alice)
			alice.reads(bob.encrypt(id, "for Alice"), "for Alice", bob)
			if p, err := mallory.Decrypt(t.Context(), mallory.self, b); err == nil {
				t.Errorf("Mallory reads %q", p.Data)
			}
			if p := alice.decrypt(hers); string(p.Data) != "in the group" {
				t.Errorf("what was written in the group: %+v", p)
			}
		})
	}
	w := newWorld(t)
	alice, mallory := w.user("alice"), w.user("mallory")
	own := groupid.Self(PlatformEmail, alice.self.ID)
	mallory.ensureGroup(own, alice)
	alice.cleanSync()
	s, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindSelf})
	if err != nil || s.Kind != KindSelf || len(s.Members) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	alice.reads(alice.encrypt(own, "for me"), "for me", alice)
	bob := w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	mallory.ensureGroup(id, alice, bob)
	for _, d := range []*device{alice, bob} {
		if r := d.mustSync(); !hasProblem(r, ProblemForbidden) || d.state(id).Kind != KindDialog || d.state(id).Blocked != nil {
			t.Errorf("%+v, %+v", r, d.state(id))
		}
	}
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob)}); err == nil {
		t.Error("a dialog is taken for a group")
	}
}

// TestReplacedBehindOnesBack: a member that another group was made without, or
// whose Welcome to it does not come, finds out when it commits, encrypts nothing
// from then on, and is let in again where it is in the new roster.
func TestReplacedBehindOnesBack(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	w.wire.set(nil, func(e *exchange) { // the key server keeps the Welcome from Carol
		if !e.is("GET", "/v1/delivery/email/"+carol.self.ID) || e.status != 200 {
			return
		}
		page := decodeJSON[keyapi.Deliveries](t, e.answered)
		page.Messages = slices.DeleteFunc(page.Messages, func(d keyapi.Delivery) bool { return d.Type == keyapi.DeliveryWelcome })
		e.answered = encodeJSON(t, page)
	})
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	bob.mustSync()
	dave := w.user("dave")
	if _, err := carol.Add(t.Context(), carol.self, id, accounts(dave)); !errors.Is(err, ErrBroken) {
		t.Errorf("a Commit in the old group: %v", err)
	}
	if _, err := carol.Encrypt(t.Context(), carol.self, id, []byte("to whom?"), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("Carol still encrypts: %v", err)
	}
	carol.mustSync() // asks
	w.mended(alice, bob)
	if s := alice.state(id); s.Epoch < 2 || len(s.Lost) != 0 {
		t.Fatalf("nobody has let Carol in again: %+v", s)
	}
	w.wire.set(nil, nil)
	carol.mustSync()
	if s := carol.state(id); s.Blocked != nil || !bytes.Equal(s.Group, alice.state(id).Group) {
		t.Fatalf("%+v", s)
	}
	alice.mustSync()
	alice.reads(carol.encrypt(id, "back"), "back", carol)

	// Without Carol, who is told nothing: she can leave what is over.
	err := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(id)
		if err != nil {
			return err
		}
		conv.Wishes = []wishEntry{{Platform: carol.self.Platform, ID: carol.self.ID, Leave: true}}
		return v.put(conversationKey(alice.self, id), conv)
	})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := alice.Replace(t.Context(), alice.self, id); err != nil || len(s.Members) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := carol.Leave(t.Context(), carol.self, id); err != nil || !carol.state(id).Removed {
		t.Errorf("%v, %+v", err, carol.state(id))
	}
}

// TestWhoLeftIsNotLetInAgain: somebody who left, and cannot follow the Commit after
// it, asks to be removed, not to be let in.
func TestWhoLeftIsNotLetInAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	bob.ensureGroup(id, alice, carol)
	alice.cleanSync()
	carol.cleanSync()
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	bob.splitCommit(id)
	bob.ensureGroup(id, alice, carol)
	carol.mustSync()
	if s := carol.state(id); !s.Removed {
		t.Errorf("Carol: %+v", s)
	}
	if r := bob.mustSync(); !r.tells(NoticeLeaves, carol.self) || r.tells(NoticeAsks, carol.self) {
		t.Errorf("Bob is told %+v", r.Notices)
	}
	w.mended(bob, carol)
	if s := bob.state(id); slices.Contains(s.Members, carol.self) {
		t.Errorf("%+v", s)
	}
	if s := carol.state(id); !s.Removed {
		t.Errorf("Carol is in again: %+v", s)
	}
}

// TestGroupsWithMoreThanTheBinding are not entered.
func TestGroupsWithMoreThanTheBinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob, mallory := w.user("bob"), w.user("mallory")
	f, id := w.forger(), newID(t)
	f.beside = []mls.Extension{{Type: mls.ExtensionExternalSenders, Data: []byte{0}}}
	d, _ := f.welcome(mallory.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob)
	if r := w.deliver(bob, mallory, d); !hasProblem(r, ProblemForbidden) || slices.Contains(r.Joined, id) {
		t.Errorf("%+v", r)
	}
}

// TestThreat43_AnotherGroupKeepsThePolicy: no member gives a group conversation
// another history by beginning it anew.
func TestThreat43_AnotherGroupKeepsThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.limitedGroup(30, bob)
	bob.cleanSync()
	who, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity = who.private()
	for days, accepted := range map[uint32]bool{0: false, 1: false, 31: false, 30: true} {
		d, _ := f.welcome(alice.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin, days: days}, bob)
		r := w.deliver(bob, mallory, d)
		if slices.Contains(r.Replaced, id) != accepted || hasProblem(r, ProblemForbidden) == accepted || bob.state(id).HistoryDays != 30 {
			t.Errorf("%d days: %+v", days, r)
		}
	}
}

// TestFullInboxKeepsNobodyOut: what others do in a group does not wait for a member
// whose inbox takes nothing. It is let in again when there is room.
func TestFullInboxKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	limits := keyserver.Options{Limits: keyserver.Limits{InboxFrom: 2}}
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		fullInboxKeepsNobodyOut(t, newWorldWith(t, limits))
	})
	t.Run("three servers", func(t *testing.T) {
		t.Parallel()
		fullInboxKeepsNobodyOut(t, newApartWith(t, limits).world)
	})
}

func fullInboxKeepsNobodyOut(t *testing.T, w *world) {
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	alice.ensureGroup(newID(t), carol) // two Welcomes that she never fetches
	if err := alice.Remove(t.Context(), alice.self, id, accounts(bob)); err != nil {
		t.Fatal(err)
	}
	if s := alice.state(id); !slices.Equal(s.Members, accounts(alice, carol)) || !slices.Equal(s.Lost, accounts(carol)) {
		t.Fatalf("%+v", s)
	}
	alice.ensureGroup(id, dave)
	dave.cleanSync()
	dave.reads(alice.encrypt(id, "she is away"), "she is away", alice)
	carol.mustSync() // makes room
	w.clock.advance(askAgain)
	alice.mustSync()
	carol.mustSync()
	if s := carol.state(id); s.Blocked != nil || !slices.Equal(s.Members, accounts(alice, carol, dave)) {
		t.Fatalf("Carol: %+v", s)
	}
	carol.reads(alice.encrypt(id, "you are back"), "you are back", alice)
	w.oneCommitPerEpoch(alice, bob, carol, dave)
}

// TestRepairAfterARotation: a member whose identity key was replaced while it could
// not follow a group is let in again with the new one; whoever has the key before is
// not listened to.
func TestRepairAfterARotation(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := splitOff(t)
	carol.mustSync()
	before, err := carol.identity(t.Context(), carol.self)
	if err != nil {
		t.Fatal(err)
	}
	if err := carol.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, bob} {
		if _, err := d.Reach(t.Context(), d.self, carol.self); err != nil {
			t.Fatal(err)
		}
	}
	conv, err := carol.reader(t.Context(), carol.self).conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	r := &repairRequest{reason: repairLeave, origin: w.ks.Origin, account: carol.self, conversation: id, group: conv.Group, epoch: conv.Epoch}
	result := SyncResult{}
	d := &keyapi.Delivery{Conversation: id[:], Type: keyapi.DeliveryNotice, Message: r.sign(before.private())}
	var refused *refusal
	if err := bob.processNotice(bob.reader(t.Context(), bob.self), d, &result); !errors.As(err, &refused) || refused.kind != ProblemForbidden {
		t.Errorf("the key before still speaks for Carol: %v", err)
	}
	w.clock.advance(askAgain)
	w.mended(carol, bob, alice, carol)
	if s := carol.state(id); s.Blocked != nil || len(s.Members) != 3 {
		t.Fatalf("Carol: %+v, Bob: %+v", s, bob.state(id))
	}
	alice.reads(carol.encrypt(id, "back"), "back", carol)
}

// TestWaitingProposalsAreBounded: a member cannot make the state of others as long
// as it wants.
func TestWaitingProposalsAreBounded(t *testing.T) {
	t.Parallel()
	_, alice, bob, id := newPair(t)
	conv, err := bob.member(t.Context(), bob.self, id)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := bob.reader(t.Context(), bob.self).group(conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	v := alice.reader(t.Context(), alice.self).nested()
	for i := range maxWaiting + 1 {
		generation := uint32(i)
		m, err := g.Propose(&mls.Remove{Removed: g.OwnLeaf()}, mls.ProposeOptions{Generation: &generation, AuthenticatedData: []byte{byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		err = alice.processNotice(v, &keyapi.Delivery{Type: keyapi.DeliveryNotice, Conversation: id[:], Message: b}, &SyncResult{})
		var refused *refusal
		if last := i == maxWaiting; last != errors.As(err, &refused) || last && refused.kind != ProblemTooLarge || !last && err != nil {
			t.Fatalf("proposal %d: %v", i, err)
		}
	}
}
