package pgstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// tx implements keyserver.Writer: one transaction of a caller, carried out in a
// transaction of the database that it may share with others (group.go). Writes
// are put off and go out together, at the latest before the next question that
// needs the database: a transaction of the API is two round trips.
//
// It belongs to the caller's goroutine, and to the group's while that waits.
type tx struct {
	ctx     context.Context
	store   *Store
	crowd   *crowd
	writing bool
	alone   bool // shares with nobody

	group    *group
	state    state
	answered chan struct{} // has a value when the group has done what was asked
	err      error         // what came of it
	broken   error         // why the transaction cannot go on
	over     bool          // the group has ended
	again    bool          // nothing was carried out; another try is allowed
	company  bool          // what went wrong may be the fault of others in the group
	sent     bool          // something was written
	told     bool          // something was read: a view must not be run again, its caller may have used it

	held     map[int32]bool // rows of table locks
	locking  []int32        // those that this question needs besides
	passed   int            // groups that were formed while this waited
	claimed  []int32        // rows that the crowd knows to be busy with this
	expiring bool           // it is the one that removes what has ended
	writes   []write
	reads    []read
	pending  []write
	topics   []keyserver.Topic // what long-polls are to be told after the commit
	cache    cache
}

var _ keyserver.Writer = (*tx)(nil)

type state int

const (
	running state = iota // the caller works
	asking               // it waits for answers
	final                // it waits for the commit
	gone                 // it wants nothing more
)

func (s *Store) newTx(ctx context.Context, c *crowd, alone bool) *tx {
	return &tx{ctx: ctx, store: s, crowd: c, writing: c.writing, alone: alone, answered: make(chan struct{}, 1)}
}

// write puts a statement off. Short octets are copied: they are parts of records
// that the caller may go on to change. Long ones must stay as they are until the
// end of the transaction.
func (t *tx) write(want int64, sql string, args ...any) {
	for i, a := range args {
		if b, ok := a.([]byte); ok && len(b) <= 256 {
			args[i] = append([]byte{}, b...) // never nil, which would be NULL
		}
	}
	t.pending = append(t.pending, write{sql: sql, args: args, want: want})
}

// row puts a row of a form off; octets as in write.
func (t *tx) row(f *form, values ...any) {
	t.pending = append(t.pending, write{form: f, args: columns(values)})
}

// rows puts rows of a form off, of which the caller keeps nothing.
func (t *tx) rows(f *form, args ...any) { t.pending = append(t.pending, write{form: f, args: args}) }

// columns makes columns of one row each.
func columns(values []any) []any {
	for i, v := range values {
		switch v := v.(type) {
		case []byte:
			if len(v) <= 256 {
				v = append([]byte{}, v...)
			}
			values[i] = [][]byte{v}
		case int64:
			values[i] = []int64{v}
		case int16:
			values[i] = []int16{v}
		case string:
			values[i] = []string{v}
		}
	}
	return values
}

// question asks for one row of a form.
func question(f *form, scan func(pgx.Rows) error, values ...any) read {
	return read{form: f, args: columns(values), scan: scan}
}

// send sends the writes that were put off, and then the questions, in one go.
func (t *tx) send(reads ...read) error {
	t.putOffState()
	if len(t.pending) == 0 && len(reads) == 0 {
		return t.broken
	}
	return t.exchange(nil, reads)
}

// ask locks, sends the writes that were put off, and asks; nothing of it where
// there is nothing to lock and nothing to ask.
func (t *tx) ask(locks []int32, reads ...read) error {
	if len(locks) == 0 && len(reads) == 0 {
		return t.broken
	}
	t.putOffState()
	return t.exchange(locks, reads)
}

func (t *tx) exchange(locks []int32, reads []read) error {
	if t.broken != nil {
		return t.broken
	}
	t.locking, t.writes, t.reads, t.pending = locks, t.pending, reads, nil
	t.wait(asking)
	if t.err != nil {
		t.broken = t.err
	}
	t.told = t.told || t.err == nil
	return t.err
}

// wait hands the transaction to its group, which the first time has to be found,
// and returns when it is back.
func (t *tx) wait(s state) {
	t.state, t.err, t.again, t.company = s, nil, false, false
	if t.group == nil {
		if err := t.crowd.enter(t); err != nil { // else t.err is the group's
			t.err = err
			return
		}
	} else {
		t.group.rest()
	}
	<-t.answered
	t.state = running
}

// carryOut runs fn and commits what it wrote. fn may panic.
func (t *tx) carryOut(fn func() error) error {
	defer t.leave()
	err := fn()
	switch {
	case t.broken != nil:
		return t.broken
	case err != nil || !t.writing:
		return err
	}
	t.putOffState()
	t.writes, t.reads, t.locking, t.pending = t.pending, nil, nil, nil
	if t.group == nil && len(t.writes) == 0 {
		return nil
	}
	if err := t.ctx.Err(); err != nil {
		return errors.Join(keyserver.ErrUnavailable, err)
	}
	t.wait(final)
	return t.err
}

// leave takes part no longer. What was not committed is as if it had not been.
func (t *tx) leave() {
	if t.expiring {
		t.store.expiring.Store(false)
	}
	if t.group != nil && !t.over {
		t.state, t.over = gone, true
		t.group.rest()
	}
}

// scanned keeps what is wrong with an answer.
func (t *tx) scanned(err error) {
	if t.err == nil {
		t.err = err
	}
}

// accountKey is platform and id, each behind its length: prefix-free.
func accountKey(a keyapi.Account) []byte {
	b := make([]byte, 0, 4+len(a.Platform)+len(a.ID))
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.Platform))), a.Platform...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(a.ID))), a.ID...)
}

func encode(record any) ([]byte, error) {
	b, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b, nil
}

// one scans a column with a record of JSON into *into.
func one[T any](into **T, column int) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		b, err := octetsOf(rows, column)
		if err != nil {
			return err
		}
		r := new(T)
		if err := json.Unmarshal(b, r); err != nil {
			return fmt.Errorf("store is damaged: %w", err)
		}
		*into = r
		return nil
	}
}

// each appends records of JSON to *list.
func each[T any](list *[]T) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var r *T
		if err := one(&r, 0)(rows); err != nil {
			return err
		}
		*list = append(*list, *r)
		return nil
	}
}

// set makes the map if there is none yet.
func set[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

// seconds is a time as it is stored; before 1970 counts as 1970.
func seconds(t time.Time) int64 { return max(t.Unix(), 0) }

// notBefore is the first second that has not ended at t.
func notBefore(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return seconds(t) + 1
	}
	return seconds(t)
}
