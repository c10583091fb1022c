package cloudmls

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// TestThreat43_OneMaintainIsBounded: what is left of a long history, or a state that
// says for ever that more is left, does not keep one Maintain busy without end. The
// next one goes on where it stopped, and nothing is lost that is not due.
func TestThreat43_OneMaintainIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.limitedGroup(10, bob)
	bob.cleanSync()
	var sent [][]byte
	for range purgePasses + 4 {
		sent = append(sent, alice.encrypt(id, "of March"))
		alice.renewKeys(id)
	}
	purge := func() { // Maintain without packing, which leaves less to move
		t.Helper()
		if err := alice.deleteHistory(t.Context(), alice.self); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(50 * day)
	purge() // sees the time
	w.clock.advance(25 * time.Hour)
	w.wire.reset()
	alice.moveStep = 0 // nothing can be moved, so that more is always left
	purge()
	if n := w.wire.count("POST", "/v1/tx"); n < purgePasses || n > 2*purgePasses {
		t.Errorf("%d transactions where there is always more, want some %d", n, purgePasses)
	}
	if got := alice.shelves(id); !slices.Contains(got, "2026-03") {
		t.Fatalf("archive keys of %q: one was destroyed with records under it", got)
	}
	alice.moveStep = 1 // one record at a time
	rounds := 0
	for slices.Contains(alice.shelves(id), "2026-03") {
		if rounds++; rounds > 4 {
			t.Fatal("the month is never done with")
		}
		purge()
	}
	if rounds < 2 {
		t.Error("all was moved by one Maintain: the test tests nothing")
	}
	for _, b := range sent {
		if p := alice.decrypt(b); string(p.Data) != "of March" {
			t.Errorf("got %q", p.Data)
		}
	}
}

// TestThreat43_BrokenGroup: a group broke, nobody lets this account in again, and
// what was sent in it is deleted in time all the same, with the live group, whose
// keys lead to it. To be let in later needs none of it.
func TestThreat43_BrokenGroup(t *testing.T) {
	t.Parallel()
	for _, kind := range []ProblemKind{ProblemForbidden, ProblemWithheld, ProblemLostState} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
			id := alice.limitedGroup(4, bob, carol)
			bob.cleanSync()
			carol.cleanSync()
			first := alice.encrypt(id, "in the first epoch")
			alice.renewKeys(id)
			carol.cleanSync()
			last := alice.encrypt(id, "in the last one")
			conv, err := carol.member(t.Context(), carol.self, id)
			if err != nil {
				t.Fatal(err)
			}
			err = carol.changeConversation(t.Context(), carol.self, conv, func(v *view, now *conversationRecord, result *SyncResult) error {
				return carol.breakDown(v, now, &refusal{kind: kind, err: errors.New("for the test")}, nil, NoticeBroken, result)
			})
			if err != nil {
				t.Fatal(err)
			}
			live := func() error {
				_, err := carol.reader(t.Context(), carol.self).get(groupKey(carol.self, conv.Group))
				return err
			}
			w.pass(4, carol)
			carol.reads(first, "in the first epoch", alice)
			carol.reads(last, "in the last one", alice)
			w.pass(6, carol) // over for three days at most
			carol.reads(last, "in the last one", alice)
			if err := live(); err != nil {
				t.Fatalf("the live group went before it is due: %v", err)
			}
			w.pass(9, carol)
			fresh := carol.sibling()
			for _, d := range []*device{carol, fresh} {
				d.cannotRead(first, NeverDeleted)
				d.cannotRead(last, NeverDeleted)
			}
			if err := live(); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("the live group is left: %v", err)
			}
			sender, err := carol.reader(t.Context(), carol.self).sender(conv.Group)
			if err != nil || len(sender.SignatureKey) != 0 {
				t.Errorf("so is the leaf's key: %v", err)
			}
			if got := carol.archived(id); len(got) != 0 {
				t.Errorf("epochs %q are archived", got)
			}
			w.pass(40, carol)
			if got := carol.shelves(id); len(got) != 0 {
				t.Errorf("archive keys of %q are left", got)
			}
			if s := carol.state(id); !s.Broken || !errors.Is(s.Blocked, ErrBroken) {
				t.Fatalf("%+v", s)
			}
			alice.renewKeys(id)
			if r, err := carol.Sync(t.Context(), carol.self); err != nil || r.Processed == 0 { // of a Commit that she cannot follow
				t.Fatalf("%+v, %v", r, err)
			}
			w.mended(alice, bob, carol, alice, bob, carol)
			if s := carol.state(id); s.Blocked != nil {
				t.Fatalf("she is not let in again: %+v", s)
			}
			carol.reads(alice.encrypt(id, "you are back"), "you are back", alice)
		})
	}
}
