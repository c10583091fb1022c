package cloudmls

import (
	"testing"
	"time"
)

// countingStore counts the writes that are made durable.
type countingStore struct {
	LocalStore
	updates int
}

func (c *countingStore) Update(fn func(w Writer) error) error {
	c.updates++
	return c.LocalStore.Update(fn)
}

// TestWarmMessagesWriteOncePerStride: a message of a warm conversation costs no
// write to the disk of its own, and a crash repeats no generation.
func TestWarmMessagesWriteOncePerStride(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	disk := &countingStore{LocalStore: alice.store}
	alice.store = disk
	alice.crash()
	type place struct {
		epoch      uint64
		generation uint32
	}
	seen := map[place]bool{}
	send := func(text string) {
		t.Helper()
		p := bob.reads(alice.encrypt(id, text), text, alice)
		at := place{p.Epoch, p.Generation}
		if seen[at] {
			t.Fatalf("generation %d was used twice", p.Generation)
		}
		seen[at] = true
	}
	send("reserves a block")
	disk.updates = 0
	for range blockSize - 1 {
		send("warm")
	}
	if want := blockSize/stride - 1; disk.updates != want {
		t.Errorf("%d writes for %d messages, want %d", disk.updates, blockSize-1, want)
	}
	for range 3 * stride { // each in another place of a stride
		send("before the crash")
		if len(seen)%3 == 0 {
			alice.crash()
		}
	}
}

// TestEncryptSinceTrustsNoOlderSync: only a Sync that began after the moment
// takes the place of its own, so a member's removal is not missed.
func TestEncryptSinceTrustsNoOlderSync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	alice.encrypt(id, "reserves a block")
	since := func(m Moment, text string) []byte {
		t.Helper()
		b, err := alice.EncryptSince(t.Context(), alice.self, id, m, []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}

	m := alice.Moment()
	if alice.SyncedSince(alice.self, m) {
		t.Error("a Sync before the moment counts")
	}
	alice.mustSync()
	if !alice.SyncedSince(alice.self, m) || alice.SyncedSince(bob.self, m) {
		t.Error("a Sync after the moment does not count, or counts for others")
	}
	w.wire.reset()
	carol.reads(since(m, "without a request"), "without a request", alice)
	if n := w.wire.count("GET", "/v1/delivery"); n > 0 {
		t.Errorf("%d requests after a Sync", n)
	}

	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.mustSync()
	m = alice.Moment()
	carol.cannotRead(since(m, "after the removal"), NeverAfterRemoval)

	// A Sync that failed is none.
	m = alice.Moment()
	w.wire.fail(anything, faults["down"])
	if _, err := alice.Sync(t.Context(), alice.self); err == nil {
		t.Fatal("synced without a key server")
	}
	w.wire.set(nil, nil)
	if alice.SyncedSince(alice.self, m) {
		t.Error("a Sync that failed counts")
	}
}

// TestEncryptSinceNoticesASiblingsEpoch: where an epoch was missed all the same,
// the generations' object says so before anything is encrypted.
func TestEncryptSinceNoticesASiblingsEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	laptop := alice.sibling()
	laptop.mustSync()
	m := laptop.Moment()
	laptop.mustSync()
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.mustSync()
	b, err := laptop.EncryptSince(t.Context(), laptop.self, id, m, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	carol.cannotRead(b, NeverAfterRemoval)
}

// TestThreat48_ReachWithin: the key server's word is remembered only where it
// named the pinned key, and only so long.
func TestThreat48_ReachWithin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	const age = 5 * time.Minute
	reach := func(requests int) Reach {
		t.Helper()
		w.wire.reset()
		r, err := alice.ReachWithin(t.Context(), alice.self, bob.self, age)
		if err != nil {
			t.Fatal(err)
		}
		if n := w.wire.count("GET", "/v1/reachable"); n != requests {
			t.Errorf("%d requests, want %d", n, requests)
		}
		return r
	}
	reach(1)
	if r := reach(1); r.Pinned { // nothing is pinned, so each time anew
		t.Error("pinned by asking")
	}
	alice.ensureDialog(bob)
	asked := reach(0) // the key that was named is the one that was pinned since
	if !asked.Pinned || !asked.HasAccount || asked.Changed {
		t.Errorf("got %+v", asked)
	}
	if r, err := alice.Reach(t.Context(), alice.self, bob.self); err != nil || !r.Pinned {
		t.Errorf("got %+v, %v", r, err)
	}
	w.clock.advance(age + time.Second)
	reach(1)
	w.clock.advance(-time.Minute) // set back
	reach(1)

	// The key server names another key, or denies the account: noticed when it is
	// asked again, and not remembered.
	mallory := w.user("mallory")
	key, err := alice.Reach(t.Context(), alice.self, mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	lie := func(hasAccount bool) {
		w.wire.set(nil, func(e *exchange) {
			if e.is("GET", "/v1/reachable") {
				answer := map[string]any{"account": bob.self, "has_account": hasAccount}
				if hasAccount {
					answer["identity_key"] = key.IdentityKey
				}
				e.answered = encodeJSON(t, answer)
			}
		})
	}
	lie(true)
	if r := reach(0); r.Changed {
		t.Errorf("got %+v within the time", r)
	}
	w.clock.advance(age + time.Second)
	for range 2 {
		if r := reach(1); !r.Changed || !r.Pinned {
			t.Errorf("a changed key is not noticed: %+v", r)
		}
	}
	lie(false)
	for range 2 {
		if r := reach(1); r.HasAccount || !r.Pinned {
			t.Errorf("got %+v", r)
		}
	}
}
