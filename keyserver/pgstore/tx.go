package pgstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// tx implements keyserver.Writer over one transaction. Writes are put off and
// go out together, at the latest before the next question that needs the
// database: a transaction of the API is some three round trips.
type tx struct {
	ctx       context.Context
	conn      *pgxpool.Conn
	store     *Store
	beginning string
	begun     bool
	writing   bool
	answered  bool // something was read: a view must not be run again, its caller may have used it

	held    map[int32]bool // rows of table locks
	pending []write
	topics  []keyserver.Topic // what long-polls are to be told after the commit
	cache   cache
}

var _ keyserver.Writer = (*tx)(nil)

// write is a statement that must change a number of rows; any: any number.
type write struct {
	sql  string
	args []any
	want int64
}

const anyRows = -1

// read is a question. scan is called for each row; want, if not zero, is how
// many rows must come.
type read struct {
	sql  string
	args []any
	scan func(pgx.Rows) error
	want int
}

func (s *Store) begin(ctx context.Context, conn *pgxpool.Conn, beginning string, writing bool) *tx {
	return &tx{ctx: ctx, conn: conn, store: s, beginning: beginning, writing: writing, held: map[int32]bool{}, cache: newCache()}
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
	t.pending = append(t.pending, write{sql, args, want})
}

// send sends the writes that were put off, and then the questions, in one go.
func (t *tx) send(reads ...read) error {
	t.putOffState()
	if len(t.pending) == 0 && len(reads) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	if !t.begun {
		b.Queue(t.beginning)
	}
	for i := range t.pending {
		b.Queue(t.pending[i].sql, t.pending[i].args...)
	}
	for i := range reads {
		b.Queue(reads[i].sql, reads[i].args...)
	}
	results := t.conn.SendBatch(t.ctx, b)
	err := t.receive(results, reads)
	if closed := results.Close(); err == nil {
		err = fromDatabase(closed)
	}
	t.begun, t.pending, t.answered = true, nil, t.answered || err == nil
	return err
}

func (t *tx) receive(results pgx.BatchResults, reads []read) error {
	if !t.begun {
		if _, err := results.Exec(); err != nil {
			return fromDatabase(err)
		}
	}
	for i := range t.pending {
		tag, err := results.Exec()
		if err != nil {
			return fromDatabase(err)
		}
		if want := t.pending[i].want; want != anyRows && tag.RowsAffected() != want {
			return fmt.Errorf("store is damaged: %d rows changed where %d were due: %s", tag.RowsAffected(), want, t.pending[i].sql)
		}
	}
	for i := range reads {
		if err := reads[i].receive(results); err != nil {
			return err
		}
	}
	return nil
}

func (r *read) receive(results pgx.BatchResults) error {
	rows, err := results.Query()
	if err != nil {
		return fromDatabase(err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
		if r.scan == nil {
			continue
		}
		if err := r.scan(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fromDatabase(err)
	}
	if r.want != 0 && n != r.want {
		return fmt.Errorf("store is damaged: %d rows where %d were due: %s", n, r.want, r.sql)
	}
	return nil
}

// ask locks and asks.
func (t *tx) ask(locks []read, reads ...read) error { return t.send(append(locks, reads...)...) }

// commit tells, in case of an error, whether it is sure that nothing was done.
func (t *tx) commit() (sure bool, err error) {
	tag, err := t.conn.Exec(t.ctx, "COMMIT")
	if err == nil {
		t.begun = false
		if tag.String() != "COMMIT" { // what the server says when it had given up before
			return true, fmt.Errorf("store: COMMIT was answered with %s", tag)
		}
		return true, nil
	}
	err = fromDatabase(err)
	if worthAnotherTry(err) && isServerError(err, "40001", "40P01") {
		return true, err
	}
	return false, fmt.Errorf("%w: %w: %w", keyserver.ErrUnavailable, errUnsure, err)
}

// endTimeout bounds the end of a transaction whose caller has gone.
const endTimeout = 5 * time.Second

// rollback ends what was not committed. Where that fails the connection is not
// idle, and Release closes it.
func (t *tx) rollback() {
	if !t.begun || t.conn.Conn().IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), endTimeout)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "ROLLBACK"); err != nil {
		t.store.log.Debug("transaction could not be rolled back", "error", err)
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

// one scans a record of JSON into *into.
func one[T any](into **T) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return fromDatabase(err)
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
		if err := one(&r)(rows); err != nil {
			return err
		}
		*list = append(*list, *r)
		return nil
	}
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
