package pgstore

import (
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudmls/gateway/keyserver"
)

// Who waits for several locks is not passed for ever by those who want one of
// them: after mostPassed groups they wait behind him, and others do not.
func TestNobodyIsPassedForEver(t *testing.T) {
	c := &crowd{most: mostMembers, busy: map[int32]int{1: 1}, running: 1}
	patient := &tx{locking: []int32{1, 2}}
	c.waiting = []*tx{patient}
	passed := 0
	for range 3 * mostPassed {
		ahead, other := &tx{locking: []int32{2}}, &tx{locking: []int32{3}}
		c.waiting = append(c.waiting, ahead, other)
		members := c.take()
		for _, m := range members {
			if m == patient {
				t.Fatal("he did not wait for his first lock")
			}
			if m == ahead {
				passed++
			}
		}
		if len(members) == 0 || members[len(members)-1] != other {
			t.Fatalf("who wants something else waits: %v", members)
		}
		c.release(members)
	}
	if passed != mostPassed {
		t.Errorf("%d went ahead, want %d", passed, mostPassed)
	}
	delete(c.busy, 1)
	if members := c.take(); len(members) != 1 || members[0] != patient {
		t.Errorf("his turn: %v", members)
	}
}

// Who has to be alone is, and those behind him do not wait for it.
func TestAloneIsAlone(t *testing.T) {
	c := &crowd{most: mostMembers, busy: map[int32]int{}, running: 1}
	first, alone, last := &tx{locking: []int32{1}}, &tx{locking: []int32{2}, alone: true}, &tx{locking: []int32{3}}
	c.waiting = []*tx{first, alone, last}
	if members := c.take(); len(members) != 2 || members[0] != first || members[1] != last {
		t.Errorf("first: %v", members)
	}
	c.waiting = append(c.waiting, &tx{locking: []int32{4}})
	if members := c.take(); len(members) != 1 || members[0] != alone {
		t.Errorf("alone: %v", members)
	}
}

// A COMMIT that was sent and not answered with success may have been carried
// out: only a refusal from before it, or one that says so, is tried again.
func TestOutcomeOfACommit(t *testing.T) {
	refused := func(code string) error { return fromDatabase(&pgconn.PgError{Code: code}) }
	for _, x := range []struct {
		err     error
		reached bool
		again   bool
	}{
		{refused("23505"), false, true}, {refused("57P01"), false, true}, {refused("40001"), true, true}, {refused("40P01"), true, true},
		{refused("57P01"), true, false}, {refused("53100"), true, false}, {fromDatabase(io.ErrUnexpectedEOF), true, false},
		{fromDatabase(io.ErrUnexpectedEOF), false, false}, // with the statements before, perhaps all of it has arrived
	} {
		err, again := (&group{}).outcome(x.err, x.reached)
		if again != x.again || errors.Is(err, errUnsure) == again || errors.Is(err, keyserver.ErrUnavailable) == again {
			t.Errorf("%v, reached %v: %v, again %v", x.err, x.reached, err, again)
		}
	}
}

// What a database says of a statement whose outcome it does not know is not tried
// again, for it may have been carried out: the client is told that it is not known.
func TestUnknownOutcomesAreNotTriedAgain(t *testing.T) {
	err := fromDatabase(&pgconn.PgError{Code: "40003"})
	if worthAnotherTry(err) || !errors.Is(outcome(t.Context(), err), keyserver.ErrUnavailable) {
		t.Errorf("another try: %v, and the client is told %v", worthAnotherTry(err), outcome(t.Context(), err))
	}
}
