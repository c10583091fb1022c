package cloudmls

import (
	"crypto/sha256"
	"errors"
	"runtime"
	"strings"
	"testing"
)

// hookedStore calls a function after each write, before whoever wrote goes on.
type hookedStore struct {
	LocalStore
	after func()
}

func (h *hookedStore) Update(fn func(w Writer) error) error {
	err := h.LocalStore.Update(fn)
	if h.after != nil {
		h.after()
	}
	return err
}

// TestWaitingMessageWhileItIsForgotten: a message is tried again, and waits again, just
// when the disk has forgotten it and memory has not yet. It is noted on both then, and
// no crash loses it.
func TestWaitingMessageWhileItIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	disk := &hookedStore{LocalStore: bob.store}
	bob.store = disk
	bob.crash()
	note := func(result error) error {
		return bob.noteWaiting(bob.self, sha256.Sum256([]byte("a message")), []byte("a group"), 1, result)
	}
	notYet := &NotYetError{Reason: NotYetGroup}
	if err := note(notYet); err != nil {
		t.Fatal(err)
	}
	again := make(chan error, 1)
	disk.after = func() {
		disk.after = nil
		go func() { again <- note(notYet) }()
		for len(again) == 0 { // until it is done, or waits for its turn
			bob.locks.mu.Lock()
			n := bob.locks.held[waitingLock]
			waits := n != nil && n.refs == 2
			bob.locks.mu.Unlock()
			if waits {
				break
			}
			runtime.Gosched()
		}
	}
	if err := note(nil); err != nil {
		t.Fatal(err)
	}
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "after a crash"} {
		list, err := bob.waitingRefs()
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %d messages are remembered (%v)", when, len(list), err)
		}
		bob.crash()
	}
}

// TestWaitingMessagesThatCannotBeRead: notes that are not what was written are an error
// of the disk, and nothing is decided by what is left of them.
func TestWaitingMessagesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for what, note := range map[string][2]string{
		"another version":   {"name\x00" + strings.Repeat("0", 64), `{"v":2}`},
		"a short name":      {"abcd", `{"v":1,"account":"email:bob@example.org","group":"","epoch":1}`},
		"no hexadecimal":    {"name\x00" + strings.Repeat("x", 64), `{"v":1,"account":"email:bob@example.org","group":"","epoch":1}`},
		"not even a record": {"name\x00" + strings.Repeat("0", 64), `oops`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			bob := w.user("bob")
			if err := bob.Client.store.Cache("sdk/waiting").Put(note[0], []byte(note[1])); err != nil {
				t.Fatal(err)
			}
			if refs, err := bob.Retryable(t.Context(), bob.self); err == nil {
				t.Errorf("Retryable gives %x", refs)
			}
			if !strings.HasPrefix(note[0], "name") || strings.HasSuffix(note[0], "x") {
				return // only Retryable reads names
			}
			err := bob.noteWaiting(bob.self, sha256.Sum256(nil), []byte("a group"), 1, &NotYetError{Reason: NotYetGroup})
			if err == nil {
				t.Error("a message was noted beside it")
			}
			if list, err := bob.waitingRefs(); err == nil {
				t.Errorf("%d messages are remembered", len(list))
			}
		})
	}
}

// TestWaitingMessagesOfAccounts: each account hears of its own, and only an own one can
// be asked about.
func TestWaitingMessagesOfAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	other := account("bob-at-work")
	if err := bob.AddAccount(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	id := alice.ensureGroup(newID(t), bob).ID
	message := alice.encrypt(id, "hello")
	w.wire.fail(anything, faults["down"])
	bob.notYet(message, NotYetOffline)
	w.wire.set(nil, nil)
	bob.cleanSync()
	bob.retryable(1)
	if refs, err := bob.Retryable(t.Context(), other); err != nil || len(refs) != 0 {
		t.Errorf("the other account is told of %x (%v)", refs, err)
	}
	if _, err := bob.Retryable(t.Context(), alice.self); !errors.Is(err, ErrNoAccount) {
		t.Errorf("of another user's account: %v", err)
	}
}

// TestWhatDecidesAWaitingMessage: its epoch is there, was deleted, or is one that the
// account was not in; else it waits on.
func TestWhatDecidesAWaitingMessage(t *testing.T) {
	t.Parallel()
	_, alice, bob, id := newPair(t)
	group := bob.state(id).group(t, bob)
	now, err := bob.waitingGroups(t.Context(), bob.self)
	if err != nil {
		t.Fatal(err)
	}
	decides := func(g *waitingGroups, group string, epoch uint64, want bool) {
		t.Helper()
		if got, err := g.decides(t.Context(), []byte(group), epoch); err != nil || got != want {
			t.Errorf("epoch %d of %x: decided %v, %v", epoch, group, got, err)
		}
	}
	decides(now, string(group), 1, true)
	decides(now, string(group), 2, false)
	decides(now, string(group), 0, true) // before it entered

	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	later, err := bob.waitingGroups(t.Context(), bob.self)
	if err != nil {
		t.Fatal(err)
	}
	decides(later, string(group), 2, true) // the account did not enter it
	next := bob.state(id).group(t, bob)
	decides(later, string(next), 2, false)
	for name, known := range map[string]bool{string(group): true, string(next): true, "another": false} {
		if got, err := bob.knowsGroup(t.Context(), bob.self, []byte(name)); err != nil || got != known {
			t.Errorf("group %x: known %v, %v", name, got, err)
		}
		if got := len(later.serves[name]) != 0; got != known {
			t.Errorf("group %x: serves a conversation %v", name, got)
		}
	}

	packed := &waitingGroups{
		c: bob.Client, self: bob.self, serves: map[string][]*conversationRecord{
			"in":  {{Group: []byte("in"), JoinEpoch: 1, Epoch: 20}},
			"out": {{Group: []byte("out"), JoinEpoch: 1, Epoch: 20, Removed: 1}},
			"was": {{Group: []byte("in"), Removed: 1, Past: []pastInstance{{Group: []byte("was"), JoinEpoch: 3, Epoch: 20}}}},
		},
		history: map[string]*historyRecord{
			"in": {From: 5, Bundles: []epochSpan{{7, 9}}}, "out": {}, "was": {},
		},
	}
	for epoch, want := range map[uint64]bool{4: true, 5: false, 6: false, 7: true, 9: true, 10: false} {
		decides(packed, "in", epoch, want)
	}
	decides(packed, "out", 21, true)
	decides(packed, "was", 20, false)
	decides(packed, "was", 21, true)
	decides(packed, "was", 2, true)
	decides(packed, "unknown", 1, false)
	if packed.history["unknown"] == nil {
		t.Error("what was read of a group's history is read again for each message")
	}
}
