package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat25_OneStagedCommitAConversation: the index names each conversation once
// and as long as it has a staged Commit, which is its own; one that is not as it was
// written is an error, not none.
func TestThreat25_OneStagedCommitAConversation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	first, second := newID(t), newID(t)
	record := func(id ConversationID, token string) *stagedRecord {
		return &stagedRecord{Version: recordVersion, Submission: keyapi.CommitSubmission{
			Conversation: id[:], Group: []byte("group of " + token), TokenHash: []byte(token), Commit: []byte(token),
		}}
	}
	index := func(want ...ConversationID) {
		t.Helper()
		got, err := alice.reader(t.Context(), alice.self).stagedIndex()
		if err != nil || !slices.Equal(got.Staged, want) {
			t.Fatalf("the index has %v (%v), want %v", got, err, want)
		}
	}
	stage := func(s *stagedRecord) {
		t.Helper()
		alice.change(func(_ *state.Tx, v *view) error { return v.stage(s) })
		if !alice.staged(s.id()).is(s) {
			t.Error("it is not what is staged")
		}
	}
	has := func(id ConversationID) bool {
		t.Helper()
		_, err := alice.reader(t.Context(), alice.self).get(stagedKey(alice.self, id))
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	stage(record(first, "one"))
	stage(record(first, "one, told to fewer"))
	stage(record(second, "two"))
	index(first, second)
	alice.change(func(_ *state.Tx, v *view) error { return v.unstageOf(first, []byte("another group")) })
	index(first, second)
	alice.change(func(_ *state.Tx, v *view) error { return v.unstageOf(first, []byte("group of one, told to fewer")) })
	index(second)
	if has(first) || !has(second) || alice.staged(first) != nil {
		t.Error("what was forgotten is there, or what was not is not")
	}
	alice.change(func(_ *state.Tx, v *view) error {
		return errors.Join(v.unstage(first), v.unstageOf(first, nil), v.unstageOf(newID(t), nil))
	})
	index(second)
	alice.change(func(_ *state.Tx, v *view) error { return v.put(stagedKey(v.self, second), record(first, "misplaced")) })
	if s, err := alice.reader(t.Context(), alice.self).staged(second); err == nil {
		t.Errorf("another conversation's is taken: %v", s)
	}
	if err := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error { return v.unstageOf(second, []byte("group")) }); err == nil {
		t.Error("one that cannot be read is passed over")
	}
	alice.change(func(_ *state.Tx, v *view) error { return v.unstage(second) })
	index()
	if _, err := alice.reader(t.Context(), alice.self).get(stagedIndexKey(alice.self)); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("an index of nothing is left: %v", err)
	}
	none := &view{self: alice.self, source: func(state.Key) ([]byte, error) { return nil, state.ErrNotFound }, puts: map[state.Key][]byte{}}
	if err := none.unstage(first); err != nil || len(none.puts) != 0 {
		t.Errorf("%d writes to forget nothing, %v", len(none.puts), err)
	}
	alice.change(func(_ *state.Tx, v *view) error {
		v.putRaw(stagedIndexKey(v.self), []byte("no index"))
		return nil
	})
	for what, fn := range map[string]func(v *view) error{
		"read":      func(v *view) error { _, err := v.staged(first); return err },
		"staged":    func(v *view) error { return v.stage(record(first, "one")) },
		"forgotten": func(v *view) error { return v.unstage(first) },
	} {
		if err := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error { return fn(v) }); err == nil {
			t.Errorf("one is %s without the index", what)
		}
	}
}

// TestThreat25_PromotedWhereItWasMade: a staged Commit takes its place in the state
// only where the conversation is in the group and the epoch that it was made in, and
// brings what it was made for.
func TestThreat25_PromotedWhereItWasMade(t *testing.T) {
	t.Parallel()
	a, alice, bob, id := pairApart(t)
	s := alice.left(a, id, false)
	before := alice.state(id).Epoch
	promote := func(s *stagedRecord, change func(*conversationRecord)) (conv *conversationRecord, staged *stagedRecord, err error) {
		t.Helper()
		undo := errors.New("as a rehearsal")
		e := alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error {
			if err := v.stage(s); err != nil {
				return err
			}
			if change == nil {
				v.delete(conversationKey(v.self, id))
			} else {
				now, err := v.conversation(id)
				if err != nil {
					return err
				}
				change(now)
				if err := v.put(conversationKey(v.self, id), now); err != nil {
					return err
				}
			}
			if conv, err = alice.promote(v, s); err != nil {
				return undo
			}
			var e error
			if staged, e = v.staged(id); e != nil {
				return e
			}
			if stored, e := v.conversation(id); e != nil || stored.Epoch != conv.Epoch || !bytes.Equal(stored.Group, conv.Group) {
				t.Errorf("%+v is stored (%v)", stored, e)
			}
			return undo
		})
		if !errors.Is(e, undo) {
			t.Fatal(e)
		}
		return conv, staged, err
	}
	same := func(*conversationRecord) {}
	var moved *movedError
	for what, change := range map[string]func(*conversationRecord){
		"there is no conversation": nil,
		"it was removed":           func(r *conversationRecord) { r.Removed = 1 },
		"another group serves":     func(r *conversationRecord) { r.Group = []byte("another") },
		"the epoch before":         func(r *conversationRecord) { r.Epoch-- },
		"the epoch after":          func(r *conversationRecord) { r.Epoch++ },
	} {
		if conv, _, err := promote(s, change); !errors.As(err, &moved) || conv != nil {
			t.Errorf("%s: %v, %v", what, conv, err)
		}
	}
	create := *s
	create.Submission.Create = true
	if conv, _, err := promote(&create, same); !errors.As(err, &moved) || conv != nil {
		t.Errorf("a new group that serves already: %v, %v", conv, err)
	}
	garbage := *s
	garbage.Next = []byte("no group")
	if _, _, err := promote(&garbage, same); err == nil || errors.As(err, &moved) {
		t.Errorf("a group that cannot be read: %v", err)
	}
	conv, staged, err := promote(s, same)
	if err != nil || conv.Epoch != before+1 || staged != nil {
		t.Fatalf("%+v, %v, staged %v", conv, err, staged)
	}
	if m, ok := rosterFind(conv.Members, bob.self); !ok || m.Joined != 1 || len(conv.Wishes) != 0 {
		t.Errorf("Bob joined in epoch %d, %+v", m.Joined, conv.Wishes)
	}
	for _, c := range []struct {
		kind        ProblemKind
		broken      bool
		renew, made bool // keys are asked for, and the Commit is what was asked for
		want        bool
	}{
		{ProblemWithheld, false, true, true, false},
		{ProblemLostState, true, true, false, true},
		{ProblemForbidden, true, false, true, false},
		{ProblemWithheld, false, false, false, false},
	} {
		s := *s
		s.Renewed = c.made
		s.Owed, s.Vouched = accounts(bob), accounts(bob)
		conv, _, err := promote(&s, func(r *conversationRecord) {
			r.Broken, r.BrokenKind, r.Asked, r.Renew = "for the test", c.kind, 7, c.renew
		})
		if err != nil || (conv.Broken != "") != c.broken || (conv.BrokenKind != "") != c.broken || (conv.Asked != 0) != c.broken || conv.Renew != c.want {
			t.Errorf("%+v: %+v, %v", c, conv, err)
			continue
		}
		if m, _ := rosterFind(conv.Members, bob.self); m.Joined != conv.Epoch || len(conv.Wishes) != 0 {
			t.Errorf("he was let in again, and is in since epoch %d, owed %+v", m.Joined, conv.Wishes)
		}
	}
	owing := *s
	owing.Owed = accounts(bob)
	if conv, _, err = promote(&owing, same); err != nil || len(conv.Wishes) != 1 || conv.Wishes[0].account() != bob.self || conv.Wishes[0].Leave {
		t.Errorf("it was not sent to Bob: %+v, %v", conv, err)
	}
	undo := errors.New("as a rehearsal")
	err = alice.update(t.Context(), alice.self, func(_ *state.Tx, v *view) error {
		v.putRaw(inboxKey(v.self), []byte("no inbox"))
		if conv, err := alice.promote(v, &owing); err == nil {
			t.Errorf("that it is owed to him is not noted anywhere: %+v", conv)
		}
		return undo
	})
	if !errors.Is(err, undo) {
		t.Error(err)
	}
	// A dialog whose roster is not the pair is not entered, whoever made it.
	if conv, _, err := promote(s, func(r *conversationRecord) { r.Kind = KindSelf }); err == nil {
		t.Errorf("a group of two as a conversation with oneself: %+v", conv)
	}
}

// TestServersAreApart: that no transaction covers deliveries and objects is found out
// once, and then nothing is tried that needs one.
func TestServersAreApart(t *testing.T) {
	t.Parallel()
	tried := 0
	try := func(d *device) error {
		return d.together(t.Context(), d.self, func(*state.Tx, *view) error { tried++; return errNothing })
	}
	_, together, _, id := newPair(t)
	together.renewKeys(id)
	if err := try(together); !errors.Is(err, errNothing) || tried != 1 {
		t.Errorf("one server: %v", err)
	}
	a := newApart(t)
	alice := a.user("alice")
	if err := try(alice); !errors.Is(err, errNothing) || tried != 2 {
		t.Errorf("not found out yet: %v", err)
	}
	alice.ensureGroup(newID(t))
	if err := try(alice); !errors.Is(err, keyapi.ErrSplit) || tried != 2 {
		t.Errorf("three servers: %v, tried %d times", err, tried-2)
	}
}
