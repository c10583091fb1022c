package cloudmls

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// TestLeave: who leaves sends nothing any more, on no device, is out with the
// next Commit of anybody, and keeps what was read.
func TestLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := carol.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	old := alice.encrypt(id, "before")
	carol.reads(old, "before", alice)
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
	phone.cleanSync()
	for _, d := range []*device{carol, phone} {
		if s := d.state(id); !s.Removed || !s.Left || slices.Contains(s.Members, carol.self) {
			t.Errorf("%+v", s)
		}
		if _, err := d.Encrypt(t.Context(), d.self, id, []byte("one last word"), nil); !errors.Is(err, ErrNotMember) {
			t.Errorf("encrypts after leaving: %v", err)
		}
		if _, err := d.Add(t.Context(), d.self, id, accounts(bob)); !errors.Is(err, ErrNotMember) {
			t.Errorf("adds after leaving: %v", err)
		}
		if _, err := d.FindGroup(t.Context(), d.self, accounts(alice, bob)); !errors.Is(err, ErrNoConversation) {
			t.Errorf("the group is still offered: %v", err)
		}
	}
	// The first message after it already is without her.
	after := bob.encrypt(id, "without Carol")
	if s := bob.state(id); s.Epoch != 2 || !slices.Equal(s.Members, accounts(alice, bob)) || len(s.Leaving) != 0 {
		t.Errorf("Bob: %+v", s)
	}
	alice.reads(after, "without Carol", bob)
	carol.cleanSync()
	carol.cannotRead(after, NeverAfterRemoval)
	carol.reads(old, "before", alice)
	if s := carol.state(id); !s.Removed || !s.Left {
		t.Errorf("Carol after her removal: %+v", s)
	}
	// She can be asked in again.
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	bob.reads(carol.encrypt(id, "here again"), "here again", carol)
}

// TestLeaveIsDoneByASync: nobody has to write for it.
func TestLeaveIsDoneByASync(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	if r := alice.cleanSync(); !r.tells(NoticeLeaves, carol.self) {
		t.Errorf("Alice is not told: %+v", r)
	}
	w.mended(alice, bob, carol)
	for _, d := range []*device{alice, bob} {
		if s := d.state(id); s.Epoch != 2 || len(s.Members) != 2 {
			t.Errorf("%s: %+v", d.self, s)
		}
	}
	if s := carol.state(id); !s.Removed || !s.Left {
		t.Errorf("Carol: %+v", s)
	}
}

// TestThreat25_LeavingIsProposedAgain: a Commit that was made before the proposal
// came makes it void; it is proposed again in the new epoch.
func TestThreat25_LeavingIsProposedAgain(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	dave := w.user("dave")
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") || !isCommit(t, e, alice) {
			return false
		}
		raced = true // Alice's Commit is on its way
		w.wire.set(nil, nil)
		if err := carol.Leave(t.Context(), carol.self, id); err != nil {
			t.Error(err)
		}
		return false
	}, nil)
	alice.ensureGroup(id, bob, carol, dave)
	if !raced {
		t.Fatal("there was no race")
	}
	w.mended(carol, alice, bob, dave)
	for _, d := range []*device{alice, bob, dave} {
		if s := d.state(id); slices.Contains(s.Members, carol.self) {
			t.Errorf("%s still has Carol: %+v", d.self, s)
		}
	}
	dave.reads(alice.encrypt(id, "three of us"), "three of us", alice)
}

// TestLeaveAloneWhileASiblingAdds: whoever is alone in a group leaves it without
// asking anybody. Somebody whom a sibling device adds meanwhile is asked all the same,
// and is not left behind in a group that its other member does not know.
func TestLeaveAloneWhileASiblingAdds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := alice.sibling()
	id := newID(t)
	alice.ensureGroup(id)
	phone.cleanSync()
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") {
			return false
		}
		raced = true // what says that Alice is out is on its way
		w.wire.set(nil, nil)
		phone.ensureGroup(id, bob)
		return false
	}, nil)
	if err := alice.Leave(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	if !raced {
		t.Fatal("there was no race")
	}
	if s := alice.state(id); !s.Removed || !s.Left {
		t.Errorf("Alice: %+v", s)
	}
	w.mended(alice, phone, bob)
	if s := bob.state(id); s.Removed || !slices.Equal(s.Members, accounts(bob)) {
		t.Errorf("Bob: %+v", s)
	}
	for _, d := range []*device{alice, phone} {
		if s := d.state(id); !s.Removed || !s.Left {
			t.Errorf("Alice in the end: %+v", s)
		}
	}
}

// TestLeaveByReference: a Commit of another program refers to the proposal, as RFC
// 9420 recommends; it is followed by all.
func TestLeaveByReference(t *testing.T) {
	t.Parallel()
	_, alice, bob, carol, id := newTrio(t)
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.sync(t.Context(), bob.self); err != nil { // hears of it and does nothing yet
		t.Fatal(err)
	}
	if s := bob.state(id); !slices.Equal(s.Leaving, accounts(carol)) {
		t.Fatalf("%+v", s)
	}
	if err := bob.rogueCommit(id, mls.CommitOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.sync(t.Context(), alice.self); err != nil {
		t.Fatal(err)
	}
	if s := alice.state(id); s.Broken || !slices.Equal(s.Members, accounts(alice, bob)) || len(s.Leaving) != 0 {
		t.Errorf("Alice: %+v", s)
	}
	carol.cleanSync()
	if s := carol.state(id); !s.Removed || !s.Left {
		t.Errorf("Carol: %+v", s)
	}
}

// TestLeaveWhatCannotBeFollowed and what nobody else is in.
func TestLeaveWhatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := splitOff(t)
	carol.mustSync()
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	if s := carol.state(id); !s.Removed {
		t.Errorf("Carol: %+v", s)
	}
	w.mended(alice, bob, carol)
	for _, d := range []*device{alice, bob} {
		if s := d.state(id); slices.Contains(s.Members, carol.self) {
			t.Errorf("%s still has Carol: %+v", d.self, s)
		}
	}
	if err := alice.Remove(t.Context(), alice.self, id, accounts(bob)); err != nil {
		t.Fatal(err)
	}
	if err := alice.Leave(t.Context(), alice.self, id); err != nil || !alice.state(id).Removed {
		t.Errorf("the last one: %v", err)
	}
	dialog := alice.ensureDialog(bob)
	if err := alice.Leave(t.Context(), alice.self, dialog); !errors.Is(err, errNotLeft) {
		t.Errorf("a dialog: %v", err)
	}
	if err := alice.Leave(t.Context(), alice.self, newID(t)); !errors.Is(err, ErrNoConversation) {
		t.Errorf("nothing: %v", err)
	}
}

// TestLeaveWhatWasMendedMeanwhile: where nobody could be told that this account leaves
// a group it cannot follow, and a sibling device was let in again meanwhile, the
// others are asked in the group.
func TestLeaveWhatWasMendedMeanwhile(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := splitOff(t)
	phone := carol.sibling()
	carol.mustSync()
	if !carol.state(id).Broken {
		t.Fatal("Carol follows the group")
	}
	untold, raced := 0, false
	w.wire.set(func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") {
			return false
		}
		if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c != nil && c.Notice != nil && c.Sender == carol.self {
			untold++
			e.status, e.header = 507, "application/problem+json"
			e.answered = encodeJSON(t, &keyapi.Problem{Status: 507, Code: keyapi.CodeQuota})
			return true
		}
		if untold > 0 && !raced { // what says that Carol is out is on its way
			raced = true
			w.wire.set(nil, nil)
			w.mended(bob, alice, phone)
			if phone.state(id).Broken {
				t.Error("the phone was not let in again")
			}
		}
		return false
	}, nil)
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	if !raced {
		t.Fatal("there was no race")
	}
	for _, d := range []*device{carol, phone} {
		d.mustSync()
		if s := d.state(id); !s.Removed || !s.Left {
			t.Errorf("Carol: %+v", s)
		}
	}
	w.mended(alice, bob)
	for _, d := range []*device{alice, bob} {
		if s := d.state(id); slices.Contains(s.Members, carol.self) {
			t.Errorf("%s still has Carol: %+v", d.self, s)
		}
	}
}

// TestFullInboxKeepsNobodyIn: somebody whose inbox takes nothing any more is
// removed all the same.
func TestFullInboxKeepsNobodyIn(t *testing.T) {
	t.Parallel()
	limits := keyserver.Options{Limits: keyserver.Limits{InboxFrom: 2}}
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		fullInboxKeepsNobodyIn(t, newWorldWith(t, limits))
	})
	t.Run("three servers", func(t *testing.T) {
		t.Parallel()
		fullInboxKeepsNobodyIn(t, newApartWith(t, limits).world)
	})
}

func fullInboxKeepsNobodyIn(t *testing.T, w *world) {
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	alice.ensureGroup(newID(t), carol) // two Welcomes that she never fetches
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(alice.state(id).Members, carol.self) {
		t.Fatalf("%+v", alice.state(id))
	}
	bob.reads(alice.encrypt(id, "two of us"), "two of us", alice)
	dave := w.user("dave")
	alice.ensureGroup(id, dave)
	_, err := alice.Add(t.Context(), alice.self, id, accounts(carol))
	if !isCode(err, keyapi.CodeQuota) {
		t.Errorf("adding somebody who cannot be told: %v", err)
	}
	alice.nothingStaged() // or nobody could do anything before she makes room
	alice.renewKeys(id)
	bob.mustSync()
	dave.mustSync()
	dave.reads(alice.encrypt(id, "without her"), "without her", alice)
}

// TestLeaverIsRemovedByAnyCommit, whatever it was made for, and by value: Alice,
// whom the leaver did not send the proposal to, can follow it.
func TestLeaverIsRemovedByAnyCommit(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	dave := w.user("dave")
	conv, err := carol.member(t.Context(), carol.self, id)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := carol.reader(t.Context(), carol.self).group(conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.Propose(&mls.Remove{Removed: g.OwnLeaf()}, mls.ProposeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := carol.notice(carol.self, conv, b)
	s.Recipients = accounts(bob)
	if err := carol.update(t.Context(), carol.self, func(tx *state.Tx, _ *view) error { return tx.SetCommit(*s) }); err != nil {
		t.Fatal(err)
	}
	if st, err := bob.Add(t.Context(), bob.self, id, accounts(dave)); err != nil || !slices.Equal(st.Members, accounts(alice, bob, dave)) {
		t.Fatalf("%+v, %v", st, err)
	}
	alice.cleanSync()
	if st := alice.state(id); st.Broken || !slices.Equal(st.Members, accounts(alice, bob, dave)) {
		t.Errorf("Alice: %+v", st)
	}
}

// TestProposalsOfOthersAreNotReferredTo: one that a member sent to some of the
// others only would cut off the rest.
func TestProposalsOfOthersAreNotReferredTo(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	dave := w.user("dave")
	conv, err := carol.member(t.Context(), carol.self, id)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := carol.reader(t.Context(), carol.self).group(conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.ProposeUpdate(mls.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	s := carol.notice(carol.self, conv, b)
	s.Recipients = accounts(bob)
	if err := carol.update(t.Context(), carol.self, func(tx *state.Tx, _ *view) error { return tx.SetCommit(*s) }); err != nil {
		t.Fatal(err)
	}
	bob.ensureGroup(id, alice, carol, dave)
	for _, d := range []*device{alice, carol, dave} {
		d.cleanSync()
		if st := d.state(id); st.Broken || len(st.Members) != 4 {
			t.Errorf("%s: %+v", d.self, st)
		}
	}
}

// TestLeavingKeepsOthersProposals: while this device makes its proposal, a sibling
// stores somebody else's. It is not lost, so that a Commit which refers to both can
// be followed.
func TestLeavingKeepsOthersProposals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := alice.sibling()
	id := newID(t)
	carol.ensureGroup(id, alice, bob)
	for _, d := range []*device{alice, bob, phone} {
		d.cleanSync()
	}
	once := false
	w.wire.set(func(e *exchange) bool {
		if once || !e.is("POST", "/v1/tx") {
			return false
		}
		if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c != nil && len(c.Notice) > 0 && c.Sender == alice.self {
			once = true
			if err := bob.Leave(t.Context(), bob.self, id); err != nil {
				t.Error(err)
			}
			phone.mustSync()
		}
		return false
	}, nil)
	if err := alice.Leave(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	w.wire.set(nil, nil)
	r := alice.reader(t.Context(), alice.self)
	conv, err := r.conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := r.group(conv.Group, conv.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if !once || len(g.Proposals()) < 2 || conv.Left == 0 {
		t.Errorf("%d proposals are kept, left %d; want Alice's and Bob's", len(g.Proposals()), conv.Left)
	}
}
