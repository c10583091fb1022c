package cloudmls

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestRefusedAgainIsNotedOnce: somebody who was removed, and does not enter the
// group again because of strangers, is told so however many Commits of the group
// are refused after it.
func TestRefusedAgainIsNotedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	bob.updates(id, OmittedRemove, carol.self)
	carol.cleanSync()
	carol.updates(id, OmittedRemove, bob.self, alice.self)
	commits := 0
	for range maxNoted / 2 {
		carol.updates(id, OmittedLeave, alice.self, bob.self, dave.self)
		carol.updates(id, OmittedRemove, alice.self, bob.self)
		commits += 2
	}
	if r := alice.mustSync(); len(r.Problems) != 1+commits {
		t.Fatalf("%d problems, want 1 and %d", len(r.Problems), commits)
	}
	s, err := alice.Status(t.Context(), alice.self)
	if err != nil || len(s.Problems) != 2 {
		t.Fatalf("%+v, %v", s.Problems, err)
	}
	if p := s.Problems[0]; p.Kind != ProblemUnknownGroup || p.Conversation != id {
		t.Errorf("newest: %+v", p)
	}
	if p := s.Problems[1]; p.Kind != ProblemForbidden || !strings.Contains(p.Reason, "unknown here") {
		t.Errorf("what it comes from: %+v", p)
	}
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("hello"), nil); !errors.Is(err, ErrNotMember) {
		t.Errorf("encrypts: %v", err)
	}
}

// TestWhatIsToldOutlivesACrash: a device that dies around the transaction in which
// deliveries are acknowledged tells people once what they brought, whichever side of
// it it died on.
func TestWhatIsToldOutlivesACrash(t *testing.T) {
	t.Parallel()
	for _, moment := range []string{"before the transaction", "after it"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
			id, other := newID(t), newID(t)
			alice.ensureGroup(id, bob)
			alice.ensureGroup(other, bob, dave)
			bob.cleanSync()
			dave.cleanSync()
			bob.updates(id, OmittedRemove, carol.self)
			carol.cleanSync()
			carol.updates(id, OmittedLeave, alice.self, bob.self, dave.self) // she does not enter it again
			if err := dave.Leave(t.Context(), dave.self, other); err != nil {
				t.Fatal(err)
			}
			dead := false
			w.wire.set(func(e *exchange) bool {
				if e.is("POST", "/v1/tx") && moment == "before the transaction" {
					dead = true
				}
				if dead {
					e.status = 0
				}
				return dead
			}, func(e *exchange) {
				if e.is("POST", "/v1/tx") {
					dead, e.status = true, 0
				}
			})
			if _, err := alice.Sync(t.Context(), alice.self); err == nil || !dead {
				t.Fatalf("it did not die: %v", err)
			}
			w.wire.set(nil, nil)
			alice.crash()
			for range 2 {
				alice.mustSync()
				s, err := alice.Status(t.Context(), alice.self)
				if err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != ProblemForbidden || s.Problems[0].Conversation != id {
					t.Errorf("problems: %+v, %v", s.Problems, err)
				}
				var leaves int
				for _, n := range s.Notices {
					if n.Kind == NoticeLeaves && n.Conversation == other && n.Account == dave.self {
						leaves++
					}
				}
				if leaves != 1 {
					t.Errorf("told %d times that somebody leaves: %+v", leaves, s.Notices)
				}
				alice.crash()
			}
		})
	}
}

// TestWhatIsToldAndAFullDisk: whichever write of a Sync the disk does not take, what
// the Sync refused is in Status when there is room again. A Sync that processed it, and
// could not note it, gives it to its caller all the same.
func TestWhatIsToldAndAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	disk := &fullStore{LocalStore: alice.store, room: -1}
	alice.store = disk
	alice.crash()
	failed, wrote, unnoted := 0, false, false
	for room := 0; !wrote && room < 20; room++ {
		id := newID(t)
		alice.ensureGroup(id, bob)
		bob.cleanSync()
		bob.updates(id, OmittedRemove, carol.self)
		carol.cleanSync()
		alice.cleanSync()
		carol.updates(id, OmittedLeave, alice.self, bob.self, dave.self) // she does not enter it again
		disk.room = room
		r, err := alice.Sync(t.Context(), alice.self)
		wrote = disk.room > 0 // it needed no more
		disk.room = -1
		if err != nil {
			failed++
		}
		if r.Processed > 0 && !hasProblem(r, ProblemForbidden) {
			t.Errorf("room for %d writes: %+v, %v", room, r, err)
		}
		if err != nil && r.Processed > 0 {
			unnoted = true
		}
		alice.mustSync()
		s, err := alice.Status(t.Context(), alice.self)
		if err != nil {
			t.Fatal(err)
		}
		if noted := s.Problems[0]; noted.Conversation != id || noted.Kind != ProblemForbidden {
			t.Errorf("room for %d writes: %+v", room, s.Problems)
		}
	}
	if failed < 2 || !wrote || !unnoted {
		t.Errorf("%d Syncs failed; one went through: %v; one could not note what it did: %v", failed, wrote, unnoted)
	}
}

// TestUnreadableNotesBlockNothing: what is on the disk of what was told before, and
// cannot be read, is replaced; nothing is kept from being received by it.
func TestUnreadableNotesBlockNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	for _, name := range []string{"sdk/problems", "sdk/notices", aheadCache} {
		if err := bob.Client.store.Cache(name).Put(bob.self.String(), []byte(`{"v":1,"problems":[{"conversation":""}]}`)); err != nil {
			t.Fatal(err)
		}
	}
	f := w.forger()
	d, _ := f.welcome(alice.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, bob)
	if r := w.deliver(bob, w.user("mallory"), d); !hasProblem(r, ProblemIdentityChanged) {
		t.Fatalf("%+v", r)
	}
	if n, err := bob.notedProblems(bob.self); err != nil || len(n.Problems) != 1 || n.Problems[0].Kind != ProblemIdentityChanged {
		t.Errorf("%+v, %v", n, err)
	}
	if err := bob.keepNotices(t.Context(), bob.self, []Notice{{Kind: NoticeFork, Conversation: id}}); err != nil {
		t.Fatal(err)
	}
	if n, err := bob.notedNotices(bob.self); err != nil || len(n.Notices) != 1 || n.Notices[0].Kind != NoticeFork {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestWhatWasNotSubmittedIsNotTold: what a transaction found that never went through
// is not told because a sibling device processed the same deliveries; nor are the
// marks of those that did more than a few.
func TestWhatWasNotSubmittedIsNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	found := &SyncResult{Problems: []Problem{{Kind: ProblemLostState, Err: errors.New("an object was not fetched")}}}
	inbox := &inboxRecord{}
	said := &ahead{c: bob.Client, self: bob.self}
	if err := said.keep(inbox, found); err != nil || len(inbox.Marks) != 1 {
		t.Fatalf("%+v, %v", inbox, err)
	}
	bob.mustSync()
	if s, err := bob.Status(t.Context(), bob.self); err != nil || len(s.Problems) != 0 {
		t.Errorf("%+v, %v", s.Problems, err)
	}
	if b, err := bob.Client.store.Cache(aheadCache).Get(bob.self.String()); err != nil || b != nil {
		t.Errorf("it is kept: %q, %v", b, err)
	}
	for range maxMarks {
		first := inbox.Marks[0]
		if err := said.keep(inbox, found); err != nil {
			t.Fatal(err)
		}
		if len(inbox.Marks) > maxMarks || len(inbox.Marks) < maxMarks && !bytes.Equal(inbox.Marks[0], first) {
			t.Errorf("%d marks, the first one %x, was %x", len(inbox.Marks), inbox.Marks[0], first)
		}
	}
	if !bytes.Equal(inbox.Marks[maxMarks-1], said.kept.Mark) {
		t.Errorf("the last mark is %x, want %x", inbox.Marks[maxMarks-1], said.kept.Mark)
	}
}
