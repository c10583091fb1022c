package cloudmls

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
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
	compared := func() bool {
		t.Helper()
		r, err := phone.knownContacts(t.Context(), phone.self)
		if err != nil || r.find(bob.self) == nil {
			t.Fatalf("contacts: %+v, %v", r, err)
		}
		return r.find(bob.self).Verified != 0
	}
	if compared() {
		t.Error("nobody has compared keys yet")
	}
	if err := phone.VerifyKey(t.Context(), phone.self, bob.self, bob.ownKey()); err != nil {
		t.Fatal(err)
	}
	if !compared() {
		t.Error("what changed of the contacts is not known")
	}
	if r, err := phone.knownConversation(t.Context(), phone.self, newID(t)); r != nil || err != nil {
		t.Errorf("a conversation that there is not: %v, %v", r, err)
	}
}

// TestRecordsThatChangeWhileTheyAreRead: which version was read is not known then, so
// it is read again.
func TestRecordsThatChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	key, calls := conversationKey(alice.self, id), 0
	read := func(meanwhile func()) *conversationRecord {
		t.Helper()
		r, err := remember(alice.Client, key, func() (*conversationRecord, error) {
			calls++
			r, err := alice.reader(t.Context(), alice.self).conversation(id)
			if meanwhile != nil {
				meanwhile()
			}
			return r, err
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	before := read(func() {
		if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
			t.Fatal(err)
		}
	})
	calls = 0
	if r := read(nil); len(before.Members) != 3 || len(r.Members) != 2 || calls != 1 {
		t.Errorf("%d members, then %d, read %d times", len(before.Members), len(r.Members), calls)
	}
	if read(nil); calls != 1 {
		t.Errorf("what did not change is read again")
	}
	unknown := newID(t)
	key = conversationKey(alice.self, unknown)
	read(nil)
	if _, kept := alice.memo.items[key]; kept {
		t.Error("something is remembered of a record that there is not")
	}
}

// TestRememberedRecordsAreBounded, whatever is asked for, and what is remembered is
// each record's own.
func TestRememberedRecordsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	names := make([]state.Key, maxMemo+2)
	err := alice.update(t.Context(), alice.self, func(tx *state.Tx, _ *view) error {
		for i := range names {
			names[i] = state.Key{Type: state.TypeApp, Account: alice.self, Name: fmt.Sprint("test ", i)}
			if err := tx.Put(names[i], []byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	alice.memo.items = nil
	for i, k := range names {
		own := i
		for range 2 {
			r, err := remember(alice.Client, k, func() (*int, error) { return &own, nil })
			if err != nil || *r != i {
				t.Fatalf("record %d: %v, %v", i, r, err)
			}
		}
		if n := len(alice.memo.items); n > maxMemo || i == maxMemo-1 && n != maxMemo {
			t.Fatalf("%d records are remembered after %d", n, i+1)
		}
	}
}
