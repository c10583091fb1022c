package mls

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// Whatever was opened before, in whatever order and by however many at once,
// the key of a generation is that of the ratchet.
func TestCheckpointsChangeNoKey(t *testing.T) {
	suite, err := testSuite.suite()
	if err != nil {
		t.Fatal(err)
	}
	const leaves, generations = 4, 5*checkpointEvery + 3
	record := &ArchiveRecord{suite: suite, leaves: leaves, encryptionSecret: randomBytes(suite.Nh)}
	want := map[LeafIndex][]messageKey{}
	for l := range LeafIndex(leaves) {
		use, err := newSecretTree(record.encryptionSecret, leaves).open(suite, l)
		if err != nil {
			t.Fatal(err)
		}
		r := use.ratchets[applicationRatchet]
		for range generations {
			key, err := r.step(suite)
			if err != nil {
				t.Fatal(err)
			}
			want[l] = append(want[l], key)
		}
	}
	var all sync.WaitGroup
	for seed := range uint64(4) {
		all.Go(func() {
			random, last := rand.New(rand.NewPCG(seed, 0)), [leaves]int{}
			for range 1000 {
				l, n := LeafIndex(random.IntN(leaves)), random.IntN(generations)
				if random.IntN(2) == 0 { // near the one before, on either side
					n = min(max(last[l]+random.IntN(5)-2, 0), generations-1)
				}
				last[l] = n
				key, err := record.key(l, uint32(n))
				if err != nil || !bytes.Equal(key.key, want[l][n].key) || !bytes.Equal(key.nonce, want[l][n].nonce) {
					t.Errorf("seed %d: leaf %d, generation %d: another key: %v", seed, l, n, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// A sender that was seen late is remembered densely, and all senders together
// within the limit.
func TestCheckpointsAreBounded(t *testing.T) {
	suite, err := testSuite.suite()
	if err != nil {
		t.Fatal(err)
	}
	const perSender = MaxGeneration / checkpointEvery
	const leaves = 2 * maxCheckpoints / perSender
	record := &ArchiveRecord{suite: suite, leaves: leaves, encryptionSecret: randomBytes(suite.Nh)}
	for l := range LeafIndex(leaves) {
		if _, err := record.key(l, MaxGeneration-1); err != nil {
			t.Fatal(err)
		}
		c := &record.checkpoints
		sum := 0
		for _, secrets := range c.senders {
			sum += len(secrets) / suite.Nh
		}
		if got := len(c.senders[l]) / suite.Nh; got != perSender || sum != c.count || sum > maxCheckpoints || len(c.latest) > len(c.senders) {
			t.Fatalf("leaf %d: %d secrets, %d of all senders, counted as %d, and %d", l, got, sum, c.count, len(c.latest))
		}
	}
	// Who computed less at the same time does not take anything back.
	count := record.checkpoints.count
	record.checkpoints.keep(leaves-1, make([]byte, suite.Nh), ratchetSecret{secret: make([]byte, suite.Nh)})
	if got := len(record.checkpoints.senders[leaves-1]); got != perSender*suite.Nh || record.checkpoints.count != count {
		t.Errorf("%d bytes are left, %d secrets are counted", got, record.checkpoints.count)
	}
	if _, err := record.key(0, MaxGeneration); err == nil {
		t.Error("generation beyond the maximum was derived")
	}
}

// The next message of a sender goes on from the latest secret, an earlier one does
// not.
func TestCheckpointsGoOnFromTheLatest(t *testing.T) {
	suite, err := testSuite.suite()
	if err != nil {
		t.Fatal(err)
	}
	fresh := &ArchiveRecord{suite: suite, leaves: 2, encryptionSecret: randomBytes(suite.Nh)}
	record := &ArchiveRecord{suite: suite, leaves: 2, encryptionSecret: fresh.encryptionSecret}
	const n = 3*checkpointEvery - 3
	for g := range uint32(n + 1) {
		must[messageKey](t)(record.key(1, g))
	}
	want := must[messageKey](t)(fresh.key(1, n+1))
	if got := must[messageKey](t)(record.key(1, n+1)); !bytes.Equal(got.key, want.key) {
		t.Error("another key of the generation after")
	}
	record.checkpoints.keep(1, nil, ratchetSecret{n, randomBytes(suite.Nh)}) // shows in what is derived from it
	if got := must[messageKey](t)(record.key(1, n+1)); bytes.Equal(got.key, want.key) {
		t.Error("the latest secret was not used for the generation after")
	}
	want = must[messageKey](t)(fresh.key(1, n-1))
	if got := must[messageKey](t)(record.key(1, n-1)); !bytes.Equal(got.key, want.key) {
		t.Error("another key of the generation before")
	}
}

// What is remembered is not stored.
func TestCheckpointsAreNotStored(t *testing.T) {
	w := newWorld(t, 2, 0)
	r := w.records()[0]
	before := must[[]byte](t)(r.MarshalBinary())
	sig := w.members[0].SignatureKey()
	n := uint32(3 * checkpointEvery)
	m := must[*Message](t)(r.Seal([]byte("x"), sig, ProtectOptions{Generation: &n}))
	must[*Application](t)(r.Open(m))
	if len(r.checkpoints.senders) == 0 {
		t.Fatal("nothing was remembered")
	}
	if !bytes.Equal(before, must[[]byte](t)(r.MarshalBinary())) {
		t.Error("record changed by opening a message")
	}
	if text := fmt.Sprintf("%+v %#v", r, r); text != "[redacted] [redacted]" {
		t.Errorf("record prints as %s", text)
	}
}
