package cloudmls

import (
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"testing"
)

// TestWaitingMessagesOfTwoAccountsInAGroup: what waits for the one account of a user is
// not what waits for the other, though both are in the group and one device has both.
func TestWaitingMessagesOfTwoAccountsInAGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	work := account("bob-at-work")
	if err := bob.AddAccount(t.Context(), work); err != nil {
		t.Fatal(err)
	}
	id := newID(t)
	members := append(accounts(bob), work)
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: members}); err != nil {
		t.Fatal(err)
	}
	message := alice.encrypt(id, "hello")
	w.wire.fail(anything, faults["down"])
	bob.notYet(message, NotYetOffline)
	w.wire.set(nil, nil)
	for _, self := range members {
		if _, err := bob.Sync(t.Context(), self); err != nil {
			t.Fatal(err)
		}
	}
	if refs, err := bob.Retryable(t.Context(), work); err != nil || len(refs) != 0 {
		t.Errorf("at work %x wait, %v", refs, err)
	}
	bob.retryable(1)
	bob.reads(message, "hello", alice)
	bob.retryable(0)
}

// readingStore calls a function while what waits is read, the first time.
type readingStore struct {
	LocalStore
	while func()
}

func (s *readingStore) ForEach(bucket string, fn func(key string, v []byte) error) error {
	err := s.LocalStore.ForEach(bucket, fn)
	if while := s.while; while != nil {
		s.while = nil
		while()
	}
	return err
}

// TestWaitingMessagesReadTwiceAtFirst: two who need what waits read it at the same
// time. What the one notes is not lost to the other, whose reading is older.
func TestWaitingMessagesReadTwiceAtFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	disk := &readingStore{LocalStore: bob.store}
	bob.store = disk
	bob.crash()
	note := func(text string) {
		t.Helper()
		if err := bob.noteWaiting(bob.self, sha256.Sum256([]byte(text)), []byte("a group"), 1, &NotYetError{Reason: NotYetGroup}); err != nil {
			t.Fatal(err)
		}
	}
	disk.while = func() { note("first") }
	note("second")
	list, err := bob.waitingRefs()
	if err != nil || len(list) != 2 {
		t.Errorf("%d messages are remembered, %v", len(list), err)
	}
}

// TestWaitingMessageOfAGroupThatIsForgotten: a message of a group that stayed unknown is
// tried again just when the disk has forgotten it and memory has not yet. It is noted
// on both then.
func TestWaitingMessageOfAGroupThatIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	disk := &hookedStore{LocalStore: bob.store}
	bob.store = disk
	bob.crash()
	ref := sha256.Sum256([]byte("a message"))
	note := func() error {
		return bob.noteWaiting(bob.self, ref, []byte("a group"), 1, &NotYetError{Reason: NotYetGroup})
	}
	if err := note(); err != nil {
		t.Fatal(err)
	}
	again := make(chan error, 1)
	disk.after = func() {
		disk.after = nil
		go func() { again <- note() }()
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
	if err := bob.forgetWaiting([]string{bob.self.String() + "\x00" + hex.EncodeToString(ref[:])}); err != nil {
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
