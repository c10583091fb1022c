package cloudmls

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestGroupAddAndRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	one := alice.encrypt(id, "for three")
	bob.reads(one, "for three", alice)
	carol.reads(one, "for three", alice)

	s := bob.ensureGroup(id, alice, carol, dave) // somebody else adds
	if s.Epoch != 2 || len(s.Members) != 4 {
		t.Fatalf("after adding: %+v", s)
	}
	two := bob.encrypt(id, "for four")
	for _, d := range []*device{alice, carol, dave} {
		d.reads(two, "for four", bob)
	}
	dave.cannotRead(one, NeverBeforeJoin)

	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	three := alice.encrypt(id, "without Carol")
	bob.reads(three, "without Carol", alice)
	dave.reads(three, "without Carol", alice)
	r := carol.cleanSync()
	if !slices.Contains(r.Removed, id) || !carol.state(id).Removed {
		t.Fatalf("Carol was not told: %+v", r)
	}
	carol.cannotRead(three, NeverAfterRemoval)
	carol.reads(one, "for three", alice) // history stays
	carol.reads(two, "for four", bob)
	if _, err := carol.Encrypt(t.Context(), carol.self, id, []byte("hello?"), nil); !errors.Is(err, ErrNotMember) {
		t.Fatalf("a removed member encrypts: %v", err)
	}
	if p := bob.decrypt(one); len(p.Members) != 3 || p.Conversation != id || p.Kind != KindGroup {
		t.Errorf("roster of the first epoch: %+v", p.Members)
	}
}

func TestRemovedMemberComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	before := alice.encrypt(id, "before")
	carol.reads(before, "before", alice)
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	without := alice.encrypt(id, "without")
	carol.cleanSync()
	alice.ensureGroup(id, bob, carol)
	after := alice.encrypt(id, "after")
	if r := carol.cleanSync(); !slices.Contains(r.Joined, id) {
		t.Fatalf("not joined: %+v", r)
	}
	carol.reads(after, "after", alice)
	carol.reads(before, "before", alice)
	carol.cannotRead(without, NeverAfterRemoval)
	bob.reads(carol.encrypt(id, "back"), "back", carol)
}

func TestFindGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	if _, err := alice.FindGroup(t.Context(), alice.self, accounts(bob, carol)); !errors.Is(err, ErrNoConversation) {
		t.Fatalf("none yet: %v", err)
	}
	old, fresh := newID(t), newID(t)
	alice.ensureGroup(old, bob, carol)
	alice.ensureGroup(fresh, bob, carol)
	for name, members := range map[string][]Account{
		"others":  accounts(bob, carol),
		"all":     accounts(carol, alice, bob),
		"doubles": accounts(carol, bob, bob, alice),
	} {
		s, err := alice.FindGroup(t.Context(), alice.self, members)
		if err != nil || s.ID != fresh {
			t.Errorf("%s: got %+v, %v; want the newest", name, s, err)
		}
	}
	if _, err := alice.FindGroup(t.Context(), alice.self, accounts(bob)); !errors.Is(err, ErrNoConversation) {
		t.Errorf("fewer people: %v", err)
	}
	if err := alice.Remove(t.Context(), alice.self, fresh, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	if s, err := alice.FindGroup(t.Context(), alice.self, accounts(bob, carol)); err != nil || s.ID != old {
		t.Errorf("after the newest changed: %+v, %v", s, err)
	}
	bob.cleanSync()
	list, err := bob.Conversations(t.Context(), bob.self)
	if err != nil || len(list) != 2 {
		t.Errorf("Bob's conversations: %v, %v", list, err)
	}
}

// TestFlaw10_ExpiredKeyPackageDoesNotBlockRemoval: in 2022 one expired
// KeyPackage in the list made removals silently not happen.
func TestFlaw10_ExpiredKeyPackageDoesNotBlockRemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	w.clock.advance(100 * 24 * time.Hour) // Bob's and Dave's KeyPackages are out of date
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatalf("remove: %v", err)
	}
	carol.cleanSync()
	if !carol.state(id).Removed {
		t.Error("Carol is still in")
	}
	_, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob, dave)})
	var missing *MissingKeyPackagesError
	if !errors.As(err, &missing) || !slices.Equal(missing.Accounts, accounts(dave)) {
		t.Errorf("adding Dave: %v", err)
	}
	if got := alice.state(id).Members; !slices.Equal(got, accounts(alice, bob)) {
		t.Errorf("members %v", got)
	}
}

// TestFlaw32_CreatorIsNotAddedTwice: 2022 made three leaves for two people.
func TestFlaw32_CreatorIsNotAddedTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	shouted := Account{Platform: PlatformEmail, ID: "ALICE@example.org"}
	s, err := alice.Ensure(t.Context(), alice.self, Conversation{
		ID: id, Kind: KindGroup, Members: []Account{alice.self, bob.self, shouted, bob.self},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Members, accounts(alice, bob)) {
		t.Errorf("members %v", s.Members)
	}
	g, _, err := alice.reader(t.Context(), alice.self).group(s.group(t, alice), s.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(g.Members()); n != 2 {
		t.Errorf("%d leaves for 2 people", n)
	}
	if n := w.wire.count("POST", "/v1/keypackages/email/alice@example.org/claim"); n != 0 {
		t.Errorf("%d own KeyPackages were claimed", n)
	}
}

func (s *ConversationState) group(t *testing.T, d *device) []byte {
	t.Helper()
	r, err := d.reader(t.Context(), d.self).conversation(s.ID)
	if err != nil || r == nil {
		t.Fatalf("conversation: %v", err)
	}
	return r.Group
}

// TestFlaw33_MissingKeyPackages: in 2022 a missing KeyPackage made a promise
// that never settled.
func TestFlaw33_MissingKeyPackages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	id := newID(t)
	_, err := alice.Ensure(ctx, alice.self, Conversation{
		ID: id, Kind: KindGroup, Members: []Account{bob.self, account("nobody"), account("noone")},
	})
	var missing *MissingKeyPackagesError
	if !errors.As(err, &missing) || !slices.Equal(missing.Accounts, []Account{account("nobody"), account("noone")}) {
		t.Fatalf("got %v; want nobody and noone named", err)
	}
	if _, err := alice.Conversation(ctx, alice.self, id); !errors.Is(err, ErrNoConversation) {
		t.Errorf("a half-made conversation: %v", err)
	}
	if n := w.wire.count("POST", "/v1/keypackages/email/bob@example.org/claim"); n != 0 {
		t.Errorf("%d of Bob's KeyPackages were used up for nothing", n)
	}
	_, err = alice.Ensure(ctx, alice.self, Conversation{Kind: KindDialog, Members: []Account{account("nobody")}})
	if !errors.As(err, &missing) || len(missing.Accounts) != 1 {
		t.Errorf("dialog: %v", err)
	}
	alice.ensureGroup(id, bob)
	if _, err = alice.Ensure(ctx, alice.self, Conversation{ID: id, Kind: KindGroup, Members: []Account{account("nobody")}}); !errors.As(err, &missing) {
		t.Errorf("adding: %v", err)
	}
	bob.reads(alice.encrypt(id, "still works"), "still works", alice)
}

// TestFlaw27_LoserRebases: in 2022 two Commits on one epoch were both
// delivered, and the loser stored a wrong state as success.
func TestFlaw27_LoserRebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	extra := []*device{w.user("dave"), w.user("erin"), w.user("frank")}
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	var wg sync.WaitGroup
	for i, d := range []*device{alice, bob, carol} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := d.Ensure(t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(extra[i])})
			if err != nil {
				t.Errorf("%s: %v", d.self, err)
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	all := append([]*device{alice, bob, carol}, extra...)
	for _, d := range all {
		d.cleanSync()
		if s := d.state(id); s.Epoch != 4 || len(s.Members) != 6 {
			t.Fatalf("%s: %+v", d.self, s)
		}
	}
	for _, from := range all {
		text := "from " + from.self.ID
		b := from.encrypt(id, text)
		for _, to := range all {
			to.reads(b, text, from)
		}
	}
}

// TestLosersCommitIsDropped makes the race certain: Bob's Commit is on its way
// when Alice's is accepted.
func TestLosersCommitIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") || !isCommit(t, e, bob) {
			return false
		}
		raced = true
		w.wire.set(nil, nil)
		alice.ensureGroup(id, carol)
		return false
	}, nil)
	s := bob.ensureGroup(id, dave)
	if !raced {
		t.Fatal("there was no race")
	}
	if s.Epoch != 3 || len(s.Members) != 4 {
		t.Fatalf("Bob: %+v", s)
	}
	text := bob.encrypt(id, "all four")
	for _, d := range []*device{alice, carol, dave} {
		d.reads(text, "all four", bob)
	}
}
