package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// waitingFixture is a waiting with a clock, and what the SDK says of it.
type waitingFixture struct {
	*waiting
	t     *testing.T
	clock time.Time
	ready [][32]byte
	err   error
	asked int
}

func newWaitingFixture(t *testing.T) *waitingFixture {
	f := &waitingFixture{t: t, clock: time.Unix(1000, 0)}
	f.waiting = newWaiting(func(context.Context) ([][32]byte, error) { f.asked++; return f.ready, f.err })
	f.now = func() time.Time { return f.clock }
	return f
}

// admitted gives how long opening may take, 0 where it is not tried.
func (f *waitingFixture) admitted(ref byte) time.Duration {
	f.t.Helper()
	ctx, cancel := f.admit(f.t.Context(), [32]byte{ref})
	defer cancel()
	if ctx == nil {
		return 0
	}
	deadline, _ := ctx.Deadline()
	return time.Until(deadline)
}

func TestReadersWaitBounded(t *testing.T) {
	f := newWaitingFixture(t)
	const a, b = 'a', 'b'
	if d := f.admitted(a); d < openPatience/2 {
		t.Errorf("first time: %v", d)
	}
	f.outcome([32]byte{b}, errors.New("connection refused"))
	if d := f.admitted(b); d == 0 || d > openImpatience {
		t.Errorf("after a failure: %v", d)
	}
	f.outcome([32]byte{b}, nil)
	if d := f.admitted(b); d < openPatience/2 {
		t.Errorf("after success: %v", d)
	}
	f.outcome([32]byte{b}, &cloudmls.NotYetError{Reason: cloudmls.NotYetOffline, Err: errors.New("down")})
	if d := f.admitted(a); d == 0 || d > openImpatience {
		t.Errorf("after nobody could be asked: %v", d)
	}
}

// TestRetriesAreDecidedByTheSDK: what did not open is tried again when its keys are
// there, and else once an hour only, however often it is asked for.
func TestRetriesAreDecidedByTheSDK(t *testing.T) {
	f := newWaitingFixture(t)
	const a, b = 'a', 'b'
	f.outcome([32]byte{a}, cloudmls.ErrNotYet)
	f.outcome([32]byte{b}, cloudmls.ErrNotYet)
	for range 10 {
		if f.admitted(a) != 0 || f.admitted(b) != 0 {
			t.Fatal("tried again though nothing has come")
		}
		f.clock = f.clock.Add(time.Second)
	}
	if f.asked != 1 {
		t.Errorf("looked %d times in ten seconds", f.asked)
	}
	f.ready = [][32]byte{{b}}
	if f.admitted(b) != 0 {
		t.Error("looked again at once")
	}
	f.clock = f.clock.Add(openAsk) // another call than the loop's may have synced
	if f.admitted(a) != 0 || f.admitted(b) == 0 {
		t.Error("what came for one message was not seen, or let another one be tried")
	}
	f.outcome([32]byte{b}, &cloudmls.NeverError{Reason: cloudmls.NeverBeforeJoin})
	f.ready = [][32]byte{{a}}
	f.look(t.Context()) // as after a Sync
	if f.admitted(a) == 0 {
		t.Error("not tried again after its keys had come")
	}
	f.outcome([32]byte{a}, cloudmls.ErrNotYet)
	f.ready = nil
	f.clock = f.clock.Add(openAgain)
	if f.admitted(a) == 0 {
		t.Error("never tried again without a word of the SDK")
	}
	f.outcome([32]byte{a}, cloudmls.ErrNotYet)
	f.err = errors.New("disk")
	f.look(t.Context())
	if f.admitted(a) == 0 {
		t.Error("not tried again though it cannot be found out whether that is worth it")
	}
	before := f.asked
	f.outcome([32]byte{a}, nil)
	f.look(t.Context())
	if f.asked != before {
		t.Error("looked though nothing waits")
	}
}

// TestTheOldestIsForgotten: a flood of messages that never open forgets the oldest of
// them, one for one, and not what was tried lately.
func TestTheOldestIsForgotten(t *testing.T) {
	f := newWaitingFixture(t)
	ref := func(i int) (r [32]byte) {
		binary.BigEndian.PutUint32(r[:], uint32(i))
		return r
	}
	for i := range openRefs + 10 {
		f.clock = f.clock.Add(time.Millisecond)
		f.outcome(ref(i), cloudmls.ErrNotYet)
	}
	if len(f.tried) != openRefs {
		t.Errorf("%d messages are remembered", len(f.tried))
	}
	for i, want := range map[int]bool{0: false, 9: false, 10: true, openRefs + 9: true} {
		if _, ok := f.tried[ref(i)]; ok != want {
			t.Errorf("message %d is remembered: %v", i, ok)
		}
	}
}
