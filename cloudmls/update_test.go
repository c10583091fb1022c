package cloudmls

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (d *device) updates(id ConversationID, omitted Omitted, members ...Account) *Membership {
	d.t.Helper()
	m, err := d.Update(d.t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, Members: members, Omitted: omitted})
	if err != nil {
		d.t.Fatalf("%s: update: %v", d.self, err)
	}
	return m
}

func (m *Membership) misses(a Account, why MissingReason) bool {
	return slices.ContainsFunc(m.Missing, func(x Missing) bool { return x.Account == a && x.Why == why && x.Err != nil })
}

// TestUpdate goes through the life of a group as a platform's list tells it.
func TestUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	if _, err := alice.Update(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(alice)}); !errors.Is(err, ErrNobody) {
		t.Errorf("an empty list: %v", err)
	}
	if _, err := alice.Update(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob), Omitted: "expel"}); err == nil {
		t.Error("an unknown policy passes")
	}
	m := alice.updates(id, OmittedLeave, alice.self, bob.self, bob.self, carol.self)
	if !m.Encrypted || !m.Complete || len(m.Missing)+len(m.Extra) != 0 || m.State == nil || len(m.State.Members) != 3 {
		t.Fatalf("made: %+v", m)
	}
	w.wire.reset()
	if m = alice.updates(id, OmittedRemove, bob.self, carol.self); !m.Complete || len(w.wire.requests()) != 0 {
		t.Errorf("nothing to do took %d requests: %+v", len(w.wire.requests()), m)
	}
	// One list adds one and leaves one out; who is left out stays, and is named.
	m = alice.updates(id, OmittedLeave, bob.self, dave.self)
	if m.Complete || !m.Encrypted || !slices.Equal(m.Extra, accounts(carol)) || len(m.State.Members) != 4 {
		t.Errorf("left out: %+v", m)
	}
	// By the other policy it removes, and adds in the same epoch.
	erin := w.user("erin")
	epoch := m.State.Epoch
	m = alice.updates(id, OmittedRemove, bob.self, dave.self, erin.self)
	if !m.Complete || m.State.Epoch != epoch+1 || !slices.Equal(m.State.Members, accounts(alice, bob, dave, erin)) {
		t.Errorf("removed: %+v", m)
	}
	carol.cleanSync()
	if !carol.state(id).Removed {
		t.Error("Carol is still in")
	}
	erin.cleanSync()
	erin.reads(alice.encrypt(id, "hello"), "hello", alice)
}

// TestFlaw10_UpdateRemovesWhateverIsMissing: in 2022 one expired KeyPackage in the
// list made update() skip the removals and still answer "encrypted". Every reason
// for which somebody cannot be added is told, and none keeps anybody in.
func TestFlaw10_UpdateRemovesWhateverIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	old := w.user("old")
	changed := w.user("changed")
	alice.ensureDialog(changed)
	id := newID(t)
	// Of a new group nothing is made.
	if m := alice.updates(id, OmittedRemove, bob.self, account("nobody")); m.State != nil || m.Encrypted || m.Complete ||
		!m.misses(account("nobody"), MissingNoAccount) || len(m.Missing) != 1 {
		t.Fatalf("not made: %+v", m)
	}
	gone := w.user("gone")
	if m := alice.updates(id, OmittedRemove, bob.self, gone.self); !m.Complete {
		t.Fatalf("%+v", m)
	}
	w.clock.advance(100 * 24 * time.Hour) // all published KeyPackages are out of date
	alice.cleanSync()
	fresh, refused, busy := w.user("fresh"), w.user("refused"), w.user("busy")
	foreign := w.forger()
	w.wire.set(nil, func(e *exchange) {
		switch {
		case e.is("POST", "/v1/keypackages/email/"+changed.self.ID+"/claim"):
			e.status, e.header, e.answered = 200, "application/json", encodeJSON(t, keyapi.ClaimedKeyPackage{KeyPackage: foreign.keyPackage(changed.self)})
		case e.is("POST", "/v1/keypackages/email/"+refused.self.ID+"/claim"):
			e.status, e.header, e.answered = 200, "application/json", encodeJSON(t, keyapi.ClaimedKeyPackage{KeyPackage: foreign.keyPackage(bob.self)})
		case e.is("POST", "/v1/keypackages/email/"+busy.self.ID+"/claim"):
			e.status, e.answered = 500, []byte("out of order")
		}
	})
	m := alice.updates(id, OmittedRemove, bob.self, fresh.self, old.self, changed.self, refused.self, busy.self, account("nobody"))
	w.wire.set(nil, nil)
	for a, why := range map[Account]MissingReason{
		old.self: MissingNoKeyPackage, changed.self: MissingIdentityChanged, refused.self: MissingRefused,
		busy.self: MissingUnavailable, account("nobody"): MissingNoAccount,
	} {
		if !m.misses(a, why) {
			t.Errorf("%s is not said to be missing for %q: %+v", a, why, m.Missing)
		}
	}
	if m.Complete || !m.Encrypted || len(m.Missing) != 5 || len(m.Extra) != 0 || !slices.Equal(m.State.Members, accounts(alice, bob, fresh)) {
		t.Errorf("%+v, %+v", m, m.State)
	}
	gone.cleanSync()
	if !gone.state(id).Removed {
		t.Error("somebody's missing KeyPackage kept another one in")
	}
}

// TestUpdateOfADialog: the same call for two people.
func TestUpdateOfADialog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	want := Conversation{Kind: KindDialog, Members: accounts(bob), Omitted: OmittedRemove}
	m, err := alice.Update(t.Context(), alice.self, want)
	if err != nil || !m.Complete || !m.Encrypted {
		t.Fatalf("%+v, %v", m, err)
	}
	bob.reads(alice.encrypt(m.State.ID, "hello"), "hello", alice)
	m, err = alice.Update(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: []Account{account("nobody")}})
	if err != nil || m.Encrypted || m.State != nil || !m.misses(account("nobody"), MissingNoAccount) {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestUpdateOfWhatCannotBeWrittenTo answers how it stands, and does nothing.
func TestUpdateOfWhatCannotBeWrittenTo(t *testing.T) {
	t.Parallel()
	_, _, bob, carol, id := splitOff(t)
	carol.mustSync()
	m := carol.updates(id, OmittedRemove, bob.self)
	if !m.Encrypted || m.State == nil || !errors.Is(m.State.Blocked, ErrBroken) {
		t.Errorf("broken: %+v", m)
	}
	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	bob.ensureGroup(id, carol)
	carol.mustSync()
	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.mustSync()
	m = carol.updates(id, OmittedRemove, bob.self)
	if !m.Encrypted || m.Complete || !errors.Is(m.State.Blocked, ErrNotMember) {
		t.Errorf("removed: %+v", m)
	}
}

// TestCreateAndAdd is active management: those who are in are ignored.
func TestCreateAndAdd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	want := Conversation{ID: id, Kind: KindGroup, Members: accounts(bob)}
	s, err := alice.Create(t.Context(), alice.self, want)
	if err != nil || len(s.Members) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := alice.Create(t.Context(), alice.self, want); !errors.Is(err, ErrConversationExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := alice.Create(t.Context(), alice.self, Conversation{ID: newID(t), Kind: KindGroup}); !errors.Is(err, ErrNobody) {
		t.Errorf("alone: %v", err)
	}
	if s, err = alice.Add(t.Context(), alice.self, id, accounts(alice, bob, carol, carol)); err != nil || s.Epoch != 2 || len(s.Members) != 3 {
		t.Errorf("added: %+v, %v", s, err)
	}
	if s, err = alice.Add(t.Context(), alice.self, id, accounts(bob)); err != nil || s.Epoch != 2 {
		t.Errorf("who is in: %+v, %v", s, err)
	}
	if _, err := alice.Add(t.Context(), alice.self, newID(t), accounts(bob)); !errors.Is(err, ErrNoConversation) {
		t.Errorf("nowhere: %v", err)
	}
	if _, err := alice.Add(t.Context(), alice.self, alice.ensureDialog(bob), accounts(carol)); !errors.Is(err, errNotThePair) {
		t.Errorf("into a dialog: %v", err)
	}
}

// TestSilentMembersAreShown, and nothing they do is refused for it.
func TestSilentMembersAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	if s := alice.state(id); len(s.Silent) != 0 {
		t.Fatalf("silent from the beginning: %v", s.Silent)
	}
	w.clock.advance(100 * 24 * time.Hour)
	bob.encrypt(id, "renews his keys")
	w.clock.advance(100 * 24 * time.Hour)
	alice.cleanSync()
	if s := alice.state(id); !slices.Equal(s.Silent, accounts(carol)) || s.Blocked != nil {
		t.Errorf("after 200 days: %+v", s)
	}
	alice.reads(carol.encrypt(id, "from the drawer"), "from the drawer", carol)
	if s := alice.state(id); len(s.Silent) != 0 {
		t.Errorf("after her return: %v", s.Silent)
	}
}

// TestUpdateRemovesWhereTheAddedCannotBeTold: the inbox of somebody new takes
// nothing, and who is to go goes all the same.
func TestUpdateRemovesWhereTheAddedCannotBeTold(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, keyserver.Options{Limits: keyserver.Limits{InboxFrom: 2}})
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	for range 2 {
		alice.ensureGroup(newID(t), dave) // Welcomes that he never fetches
	}
	bob.cleanSync()
	m := alice.updates(id, OmittedRemove, bob.self, dave.self)
	if !m.misses(dave.self, MissingUnavailable) || m.Complete || !slices.Equal(m.State.Members, accounts(alice, bob)) {
		t.Errorf("%+v, %+v", m, m.State)
	}
}

// TestUpdateAddsLeaversAgain: somebody who has left, and is on the list, is in the
// group after the Update, although its Commit had to take them out.
func TestUpdateAddsLeaversAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	if err := bob.Leave(t.Context(), bob.self, id); err != nil {
		t.Fatal(err)
	}
	m := alice.updates(id, OmittedRemove, bob.self, carol.self)
	if !m.Complete || !slices.Equal(m.State.Members, accounts(alice, bob, carol)) || len(m.State.Leaving) != 0 {
		t.Fatalf("%+v", m)
	}
	bob.cleanSync()
	carol.cleanSync()
	bob.reads(carol.encrypt(id, "welcome back"), "welcome back", carol)
}
