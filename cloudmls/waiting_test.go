package cloudmls

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestManyWaitingMessages: of more messages than are remembered, the ones that were
// tried the longest time ago are forgotten, on the disk too; so a flood that never
// opens keeps no later message from being named when its keys come.
func TestManyWaitingMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	wait := func(name string) [32]byte {
		t.Helper()
		ref := sha256.Sum256([]byte(name))
		group := sha256.Sum256([]byte("a group of " + name))
		if err := bob.noteWaiting(bob.self, ref, group[:16], 1, &NotYetError{Reason: NotYetGroup}); err != nil {
			t.Fatal(err)
		}
		return ref
	}
	stored := func() []string {
		t.Helper()
		var names []string
		err := bob.Client.store.Cache("sdk/waiting").ForEach(func(name string, _ []byte) error {
			names = append(names, name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		list, err := bob.waitingRefs()
		if err != nil || len(list) != len(names) {
			t.Fatalf("%d are remembered, %d on the disk (%v)", len(list), len(names), err)
		}
		return names
	}
	first, second := wait("first"), wait("second")
	for i := range maxRetryable - 2 {
		wait(fmt.Sprint("flood ", i))
	}
	if n := len(stored()); n != maxRetryable {
		t.Fatalf("%d messages are remembered", n)
	}
	wait("first") // as whoever opens the mailbox again does
	message := alice.encrypt(id, "after the flood")
	w.wire.fail(anything, faults["down"])
	bob.notYet(message, NotYetOffline)
	w.wire.set(nil, nil)
	has := func(ref [32]byte) bool {
		return slices.ContainsFunc(stored(), func(name string) bool { return name[len(name)-64:] == fmt.Sprintf("%x", ref) })
	}
	if n := len(stored()); n != maxRetryable-makeRoom+1 {
		t.Errorf("%d messages are remembered", n)
	}
	if !has(first) || has(second) || has(sha256.Sum256([]byte("flood 254"))) || !has(sha256.Sum256([]byte("flood 255"))) {
		t.Error("others than the oldest were forgotten")
	}
	bob.cleanSync()
	bob.retryable(1)
	bob.crash()
	bob.retryable(1)
	bob.reads(message, "after the flood", alice)
	bob.retryable(0)
}

// TestUnknownGroupsAreForgotten: a message whose group never becomes known is not
// remembered for ever, one of a known group is.
func TestUnknownGroupsAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	bob.cleanSync()
	wait := func(name string, group []byte, reason NotYetReason) {
		t.Helper()
		if err := bob.noteWaiting(bob.self, sha256.Sum256([]byte(name)), group, 1000, &NotYetError{Reason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	remembered := func(want int) {
		t.Helper()
		bob.retryable(0)
		n := 0
		err := bob.Client.store.Cache("sdk/waiting").ForEach(func(string, []byte) error { n++; return nil })
		if list, e := bob.waitingRefs(); err != nil || e != nil || n != want || len(list) != want {
			t.Errorf("%d on the disk, %d in memory (%v, %v); want %d", n, len(list), err, e, want)
		}
	}
	wait("bogus", []byte("nobody's group"), NotYetGroup)
	wait("early", bob.state(id).group(t, bob), NotYetEpoch)
	w.clock.advance(unknownFor - time.Hour)
	wait("bogus", []byte("nobody's group"), NotYetGroup) // as whoever looks at it again does
	remembered(2)
	w.clock.advance(time.Hour)
	remembered(1)
	bob.crash()
	remembered(1)
	wait("bogus", []byte("nobody's group"), NotYetGroup)
	remembered(2)
}

// fullStore is a disk that takes no more than a few writes, until there is room.
type fullStore struct {
	LocalStore
	room int // writes; negative: without end
}

var errDiskFull = errors.New("no space left on device")

func (f *fullStore) Update(fn func(w Writer) error) error {
	if f.room == 0 {
		return errDiskFull
	}
	f.room--
	return f.LocalStore.Update(fn)
}

// TestWaitingMessagesAreOnTheDiskFirst: what a full disk did not take is not known in
// memory either, so that the next try writes it; what it could not delete is known,
// so that the next try deletes it. A crash in between loses nothing that was noted.
func TestWaitingMessagesAreOnTheDiskFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	disk := &fullStore{LocalStore: bob.store, room: -1}
	bob.store = disk
	bob.crash()
	note := func(name string, result error) error {
		ref := sha256.Sum256([]byte(name))
		return bob.noteWaiting(bob.self, ref, []byte("a group"), 1, result)
	}
	notYet := &NotYetError{Reason: NotYetGroup}
	agree := func(what string, want int) {
		t.Helper()
		n := 0
		err := bob.Client.store.Cache("sdk/waiting").ForEach(func(string, []byte) error { n++; return nil })
		if list, e := bob.waitingRefs(); err != nil || e != nil || n != want || len(list) != want {
			t.Fatalf("%s: %d on the disk, %d in memory (%v, %v); want %d", what, n, len(list), err, e, want)
		}
	}
	disk.room = 0
	if err := note("first", notYet); !errors.Is(err, errDiskFull) {
		t.Fatalf("a full disk: %v", err)
	}
	disk.room = -1
	agree("not noted", 0)
	if err := note("first", notYet); err != nil {
		t.Fatal(err)
	}
	agree("noted", 1)
	bob.crash()
	agree("noted, after a crash", 1)

	for name, result := range map[string]error{"opened": nil, "never opens": &NeverError{Reason: NeverInvalid}} {
		disk.room = 0
		if err := note("first", result); !errors.Is(err, errDiskFull) {
			t.Fatalf("%s, a full disk: %v", name, err)
		}
		disk.room = -1
		agree(name+", not forgotten", 1)
		if err := note("first", result); err != nil {
			t.Fatal(err)
		}
		agree(name+", forgotten", 0)
		if err := note("first", notYet); err != nil {
			t.Fatal(err)
		}
	}
	if err := note("first", errors.New("for the moment")); err != nil {
		t.Fatal(err)
	}
	agree("undecided", 1)

	for i := range maxRetryable - 1 {
		if err := note(fmt.Sprint("flood ", i), notYet); err != nil {
			t.Fatal(err)
		}
	}
	disk.room = 1 // for the message, and not for what makes room
	if err := note("one more", notYet); !errors.Is(err, errDiskFull) {
		t.Fatalf("a full disk: %v", err)
	}
	disk.room = -1
	agree("no room was made", maxRetryable+1)
	if err := note("the next", notYet); err != nil {
		t.Fatal(err)
	}
	agree("room was made", maxRetryable+2-makeRoom)
	w.clock.advance(unknownFor)
	disk.room = 0
	if _, err := bob.Retryable(t.Context(), bob.self); !errors.Is(err, errDiskFull) {
		t.Fatalf("a full disk: %v", err)
	}
	disk.room = -1
	agree("old ones were not forgotten", maxRetryable+2-makeRoom)
	bob.retryable(0)
	agree("old ones were forgotten", 0)
}

// TestWaitingMessagesOfManyReaders: messages that open while others try them again
// leave memory and disk with one mind.
func TestWaitingMessagesOfManyReaders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			for n := range 50 {
				ref := sha256.Sum256([]byte{byte(n % 3)})
				var result error
				if (n+i)%2 == 0 {
					result = &NotYetError{Reason: NotYetGroup}
				}
				if err := bob.noteWaiting(bob.self, ref, []byte("a group"), 1, result); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	stored := map[string]bool{}
	err := bob.Client.store.Cache("sdk/waiting").ForEach(func(name string, _ []byte) error { stored[name] = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	list, err := bob.waitingRefs()
	if err != nil || len(list) != len(stored) {
		t.Errorf("%d on the disk, %d in memory (%v)", len(stored), len(list), err)
	}
	for name := range list {
		if !stored[name] {
			t.Errorf("%q is in memory alone", name)
		}
	}
}
