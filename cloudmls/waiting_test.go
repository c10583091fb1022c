package cloudmls

import (
	"crypto/sha256"
	"fmt"
	"slices"
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
