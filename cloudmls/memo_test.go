package cloudmls

import (
	"errors"
	"testing"
)

var errDead = errors.New("the disk is dead")

// TestRememberedRecordsFollowTheState: what is kept decoded is dropped with every
// change, by whichever device, and nothing that failed is kept.
func TestRememberedRecordsFollowTheState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := alice.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob)
	phone.cleanSync()
	members := func() int {
		t.Helper()
		r, err := phone.knownConversation(t.Context(), phone.self, id)
		if err != nil {
			t.Fatal(err)
		}
		again, err := phone.knownConversation(t.Context(), phone.self, id)
		if err != nil || again != r {
			t.Fatalf("decoded again though nothing changed (%v)", err)
		}
		return len(r.Members)
	}
	if n := members(); n != 2 {
		t.Fatalf("%d members", n)
	}
	alice.ensureGroup(id, carol)
	phone.cleanSync()
	if n := members(); n != 3 {
		t.Errorf("%d members after a sibling's change", n)
	}
	if err := phone.Remove(t.Context(), phone.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	if n := members(); n != 2 {
		t.Errorf("%d members after an own change", n)
	}
	calls := 0
	for range 2 {
		_, err := remember(phone.Client, keyPackagesKey(phone.self), func() (*keyPackagesRecord, error) {
			calls++
			return nil, errDead
		})
		if !errors.Is(err, errDead) {
			t.Errorf("a record that cannot be read: %v", err)
		}
	}
	if calls != 2 {
		t.Errorf("a failure was kept: %d calls", calls)
	}
	if r, err := phone.knownConversation(t.Context(), phone.self, newID(t)); r != nil || err != nil {
		t.Errorf("a conversation that there is not: %v, %v", r, err)
	}
}
