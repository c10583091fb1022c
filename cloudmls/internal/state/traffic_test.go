package state

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
)

// In 2022 each message sent or read cost an upload of the whole group with all
// its epochs. Here a block of messages costs one small transaction, a group
// change one of constant size, and reading nothing, whatever lies there.
func TestFlaw29_StateTrafficIsConstant(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	reserve := func([]byte) ([]byte, error) { return make([]byte, 100), nil }
	if err := s.Swap(t.Context(), sending, reserve); err != nil {
		t.Fatal(err)
	}
	put(t, s, conv, "0")
	cost := func(do func()) (octets, requests int) {
		octets, requests = f.server.sent(), len(f.server.bodies)
		do()
		return f.server.sent() - octets, len(f.server.bodies) - requests
	}
	swap := func() {
		if err := s.Swap(t.Context(), sending, reserve); err != nil {
			t.Fatal(err)
		}
	}
	change := func() { put(t, s, conv, "1") }
	var before [2]int
	for i, do := range []func(){swap, change} {
		before[i], _ = cost(do)
	}
	large := strings.Repeat("x", 36<<10)
	for i := range 150 {
		put(t, s, Key{TypeEpoch, fmt.Sprint("instance/", i), mail}, large[:1000])
	}
	put(t, s, group, large)
	for i, do := range []func(){swap, change} {
		octets, requests := cost(do)
		// The head's history grows up to its limit of 2 KiB.
		if requests != 1 || octets > before[i]+4<<10 {
			t.Errorf("operation %d: %d octets in %d requests, was %d", i, octets, requests, before[i])
		}
	}
	if before[0] > 1000 || before[1] > 20<<10 {
		t.Errorf("a reservation costs %d octets, a change %d", before[0], before[1])
	}
	if octets, requests := cost(func() {
		for i := range 150 {
			_ = get(t, s, Key{TypeEpoch, fmt.Sprint("instance/", i), mail})
		}
	}); requests != 0 {
		t.Errorf("reading cost %d octets in %d requests", octets, requests)
	}
	if _, requests := cost(func() { refresh(t, s) }); requests != 1 {
		t.Errorf("asking for news cost %d requests", requests)
	}
}

func TestThreat29_ServerSeesPadmeSizesOnly(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	for i := range 40 {
		put(t, s, Key{TypeApp, fmt.Sprint(i), mail}, strings.Repeat("x", i*i*7))
	}
	for id, o := range f.server.objects(username) {
		if typeOf(id) != TypeWrap && (len(o.Data) < envelope.MinSize || envelope.Padme(len(o.Data)) != len(o.Data)) {
			t.Errorf("object of type %d has %d octets", typeOf(id), len(o.Data))
		}
	}
}

// Blocks of generations reserved by two devices at once, through several
// goroutines each, never overlap.
func TestThreat21_ConcurrentReservationsAreDisjoint(t *testing.T) {
	t.Parallel()
	runs := 2000
	if testing.Short() {
		runs = 400
	}
	const block, workers = 32, 4
	f := setUp(t)
	var mu sync.Mutex
	taken := map[uint64]bool{}
	var wg sync.WaitGroup
	for i := range workers {
		s := f.device(t, i%2)
		wg.Go(func() {
			for range runs / workers {
				var first uint64
				err := ErrBusy // nothing was reserved, and without pauses it happens
				for err == ErrBusy {
					err = s.Swap(t.Context(), sending, func(old []byte) ([]byte, error) {
						first = 0
						if old != nil {
							first = binary.BigEndian.Uint64(old)
						}
						return binary.BigEndian.AppendUint64(nil, first+block), nil
					})
				}
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				mu.Lock()
				for g := first; g < first+block; g++ {
					if taken[g] {
						t.Errorf("generation %d twice", g)
					}
					taken[g] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(taken) != runs/workers*workers*block {
		t.Errorf("%d generations, want %d", len(taken), runs*block)
	}
}

// Updates and reservations of two devices at once lose nothing and deadlock
// nowhere.
func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	const each = 25
	var wg sync.WaitGroup
	for i := range 2 {
		s := f.device(t, i)
		s.cfg.Pause = pause // or whoever was faster once is faster each time, where processors are scarce
		for range 2 {
			wg.Go(func() {
				for range each {
					err := s.Update(t.Context(), func(tx *Tx) error {
						old, err := tx.Get(conv)
						if err != nil && err != ErrNotFound {
							return err
						}
						if snd, err := tx.Get(sending); err == nil {
							if err := tx.Put(sending, append(snd, 'u')); err != nil {
								return err
							}
						}
						return tx.Put(conv, append(old, 'x'))
					})
					if err != nil {
						t.Errorf("update: %v", err)
					}
				}
			})
		}
		wg.Go(func() {
			for range each {
				if err := s.Swap(t.Context(), sending, func(old []byte) ([]byte, error) { return append(old, 's'), nil }); err != nil {
					t.Errorf("swap: %v", err)
				}
				if _, err := s.Refresh(t.Context()); err != nil {
					t.Errorf("refresh: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s := f.device(t, 0)
	refresh(t, s)
	if got := get(t, s, conv); len(got) != 4*each {
		t.Errorf("%d updates of %d are there", len(got), 4*each)
	}
	if got := strings.Count(get(t, s, sending), "s"); got != 2*each {
		t.Errorf("%d reservations of %d are there", got, 2*each)
	}
}
