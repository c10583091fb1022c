package cloudmls

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"
)

// recordingStore counts what is put into the local caches.
type recordingStore struct {
	LocalStore
	puts   int
	octets int // of keys and values
}

type recordingWriter struct {
	Writer
	store *recordingStore
}

func (w recordingWriter) Put(bucket, key string, v []byte) error {
	if strings.HasPrefix(bucket, "cache/") {
		w.store.puts++
		w.store.octets += len(key) + len(v)
	}
	return w.Writer.Put(bucket, key, v)
}

func (r *recordingStore) Update(fn func(w Writer) error) error {
	return r.LocalStore.Update(func(w Writer) error { return fn(recordingWriter{w, r}) })
}

// TestReplayMemoryOfAMessage: what a device remembers of a message so that a replay of
// it is marked is one small record, written when the message is first read and never
// again. docs/architecture.md says how it adds up.
func TestReplayMemoryOfAMessage(t *testing.T) {
	t.Parallel()
	_, alice, bob, id := newPair(t)
	disk := &recordingStore{LocalStore: bob.store}
	bob.store = disk
	bob.crash()
	bob.mustSync()
	for i := range 3 {
		message := alice.encrypt(id, fmt.Sprint("message ", i))
		for again := range 3 {
			disk.puts, disk.octets = 0, 0
			bob.reads(message, fmt.Sprint("message ", i), alice)
			if again == 0 && (disk.puts != 1 || disk.octets > 512) || again > 0 && disk.puts != 0 {
				t.Errorf("message %d, read %d times before: %d records, %d octets", i, again, disk.puts, disk.octets)
			}
		}
	}
}

// TestPastGroupsAreShort: a group that served a conversation before stays in its record
// for as long as there is the conversation, and is short there.
func TestPastGroupsAreShort(t *testing.T) {
	t.Parallel()
	group := sha256.Sum256([]byte("a group"))
	now := time.Date(2030, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	r := &conversationRecord{Version: recordVersion, ID: newID(t), Kind: KindGroup, Group: group[:]}
	size := func(past int) int {
		r.Past = nil
		for i := range past {
			r.Past = append(r.Past, pastInstance{Group: group[:], Epoch: uint64(1000 + i), JoinEpoch: uint64(1000 + i), Closed: now, Days: 30})
		}
		b, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	if each := (size(1000) - size(0)) / 1000; each > 56 {
		t.Errorf("%d octets for each", each)
	} else {
		t.Logf("%d octets for each", each)
	}
}
