package cloudmls

import (
	"maps"
	"sync"
	"testing"
)

// copyingStore is a LocalStore of which copies can be made, as of a disk.
type copyingStore struct {
	LocalStore
	mu  sync.Mutex
	all map[[2]string][]byte
}

func newCopyingStore() *copyingStore {
	return &copyingStore{LocalStore: NewMemoryStore(), all: map[[2]string][]byte{}}
}

// Update notes what was written.
func (s *copyingStore) Update(fn func(Writer) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(s.all)
	err := s.LocalStore.Update(func(w Writer) error { return fn(copyingWriter{w, next}) })
	if err == nil {
		s.all = next
	}
	return err
}

type copyingWriter struct {
	Writer
	all map[[2]string][]byte
}

// Put notes the value.
func (w copyingWriter) Put(bucket, key string, v []byte) error {
	w.all[[2]string{bucket, key}] = append([]byte{}, v...)
	return w.Writer.Put(bucket, key, v)
}

// Delete forgets it.
func (w copyingWriter) Delete(bucket, key string) error {
	delete(w.all, [2]string{bucket, key})
	return w.Writer.Delete(bucket, key)
}

// copy is the disk as it is now.
func (s *copyingStore) copy(t *testing.T) *copyingStore {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := newCopyingStore()
	err := c.Update(func(w Writer) error {
		for k, v := range s.all {
			if err := w.Put(k[0], k[1], v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// restoredWorld is Alice on a disk that can be copied, and Bob.
func restoredWorld(t *testing.T) (w *world, alice *device, disk *copyingStore, bob *device, id ConversationID) {
	w = newWorld(t)
	disk = newCopyingStore()
	alice = &device{w: w, t: t, username: "alice-user", self: account("alice"), store: disk}
	c, _, err := Register(t.Context(), alice.username, password, w.options(disk))
	if err != nil {
		t.Fatal(err)
	}
	alice.Client = c
	t.Cleanup(func() { alice.Close() })
	if err := c.AddAccount(t.Context(), alice.self); err != nil {
		t.Fatal(err)
	}
	bob = w.user("bob")
	id = alice.ensureDialog(bob)
	bob.cleanSync()
	return w, alice, disk, bob, id
}

// TestThreat23_RestoredDisk: a machine that is set back to an older copy of its
// disk uses no generation twice.
func TestThreat23_RestoredDisk(t *testing.T) {
	t.Parallel()
	_, alice, disk, bob, id := restoredWorld(t)
	used := map[uint32]bool{}
	send := func(text string) {
		t.Helper()
		p := bob.reads(alice.encrypt(id, text), text, alice)
		if used[p.Generation] {
			t.Errorf("generation %d was used twice", p.Generation)
		}
		used[p.Generation] = true
	}
	send("before the copy")
	copied := disk.copy(t)
	for range 5 {
		send("after the copy")
	}
	for range 3 { // set back again and again
		alice.store = copied.copy(t)
		alice.crash()
		for range 5 {
			send("after it was restored")
		}
	}
}

// TestThreat23_RestartsDoNotExhaustAnEpoch: generations that restarts waste are
// made up for by an update Commit.
func TestThreat23_RestartsDoNotExhaustAnEpoch(t *testing.T) {
	t.Parallel()
	_, alice, _, bob, id := restoredWorld(t)
	first := alice.state(id).Epoch
	for range updateAfterMessages/blockSize + 3 {
		alice.crash()
		bob.reads(alice.encrypt(id, "one for each start"), "one for each start", alice)
	}
	if got := alice.state(id).Epoch; got == first {
		t.Error("no update Commit was made")
	}
}

// TestRestartWithoutTheKeyServer: what is left of the block serves then, as
// before.
func TestRestartWithoutTheKeyServer(t *testing.T) {
	t.Parallel()
	w, alice, _, bob, id := restoredWorld(t)
	one := alice.encrypt(id, "online")
	alice.crash()
	w.wire.fail(anything, faults["down"])
	two := alice.encrypt(id, "offline")
	w.wire.set(nil, nil)
	a, b := bob.reads(one, "online", alice), bob.reads(two, "offline", alice)
	if b.Generation != a.Generation+stride { // the rest of the stride is lost
		t.Errorf("generations %d and %d", a.Generation, b.Generation)
	}
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/tx") }, faults["down"]) // gone in between
	three := alice.encrypt(id, "in between")
	w.wire.set(nil, nil)
	if c := bob.reads(three, "in between", alice); c.Generation != b.Generation+1 {
		t.Errorf("generations %d and %d", b.Generation, c.Generation)
	}
}
