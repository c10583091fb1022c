package pgstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// form is a statement for any number of rows: its first parameters are arrays,
// one for each column. Transactions that share one of the database put their
// rows into one statement, which costs little more than that of one of them.
//
// One that reads gives back, as first column, which row it answers (WITH
// ORDINALITY). One that must change a certain number of rows checks that by
// itself and divides by zero where it did not: it goes out together with the
// COMMIT behind it, so nobody could do so later.
type form struct {
	sql string
	// rank orders statements of different transactions. Each keeps its own order
	// whatever the ranks are; these let the same forms meet.
	rank int
}

// read is a question: one row or more of a form, or a statement by itself.
type read struct {
	form *form
	sql  string // where there is no form
	// args are the columns of the form, each a []int64, []int16, []string or
	// [][]byte, or the parameters of sql.
	args []any
	same []any // parameters behind the columns; questions meet where these are equal
	scan func(pgx.Rows) error
}

// write is one row or more of a form, or a statement by itself that must change
// a number of rows; anyRows: any number.
type write struct {
	form *form
	sql  string
	args []any
	want int64
}

const anyRows = -1

// step is a statement of a batch.
type step struct {
	sql     string
	args    []any
	receive func(pgx.BatchResults) error
}

// mostOctets bounds what is put together in one statement. What one transaction
// has may be larger.
const mostOctets = 4 << 20

// length is the number of rows of a column.
func length(column any) int {
	switch c := column.(type) {
	case [][]byte:
		return len(c)
	case []int64:
		return len(c)
	case []int16:
		return len(c)
	case []string:
		return len(c)
	}
	panic(fmt.Sprintf("pgstore: column of %T", column)) // of our own statements
}

func size(columns []any) (octets int) {
	for _, column := range columns {
		if c, ok := column.([][]byte); ok {
			for _, b := range c {
				octets += len(b)
			}
		}
	}
	return octets
}

// appendColumns puts the rows of one behind those of the other.
func appendColumns(to, more []any) []any {
	if to == nil {
		to = make([]any, len(more))
	}
	for i := range more {
		switch c := more[i].(type) {
		case [][]byte:
			have, _ := to[i].([][]byte)
			to[i] = append(have, c...)
		case []int64:
			have, _ := to[i].([]int64)
			to[i] = append(have, c...)
		case []int16:
			have, _ := to[i].([]int16)
			to[i] = append(have, c...)
		case []string:
			have, _ := to[i].([]string)
			to[i] = append(have, c...)
		}
	}
	return to
}

// writeSteps puts the writes of several transactions together. unchecked: the
// number of rows that one of them changed must be looked at.
func writeSteps(lists [][]write) (steps []step, unchecked bool) {
	for {
		next := -1
		for i, list := range lists {
			if len(list) > 0 && (next < 0 || rankOf(list) < rankOf(lists[next])) {
				next = i
			}
		}
		if next < 0 {
			return steps, unchecked
		}
		w := &lists[next][0]
		if w.form == nil {
			unchecked = unchecked || w.want != anyRows
			steps = append(steps, step{w.sql, w.args, func(results pgx.BatchResults) error { return w.receive(results) }})
			lists[next] = lists[next][1:]
			continue
		}
		var args []any
		octets := 0
		for i, list := range lists {
			if len(list) > 0 && list[0].form == w.form {
				if octets += size(list[0].args); args != nil && octets > mostOctets {
					break
				}
				args = appendColumns(args, list[0].args)
				lists[i] = list[1:]
			}
		}
		steps = append(steps, step{w.form.sql, args, w.receive})
	}
}

// rankOf is that of the next write; statements by themselves come last.
func rankOf(list []write) int {
	if list[0].form == nil {
		return 1 << 30
	}
	return list[0].form.rank
}

func (w *write) receive(results pgx.BatchResults) error {
	tag, err := results.Exec()
	if isServerError(err, "22012") && w.form != nil {
		return fmt.Errorf("store is damaged: other rows than were due: %s", w.form.sql)
	}
	if err != nil {
		return fromDatabase(err)
	}
	if w.form == nil && w.want != anyRows && tag.RowsAffected() != w.want {
		return fmt.Errorf("store is damaged: %d rows changed where %d were due: %s", tag.RowsAffected(), w.want, w.sql)
	}
	return nil
}

// readSteps puts the questions of several transactions together. What is wrong
// with the answer to one of them is that one's error.
func readSteps(members []*tx) (steps []step) {
	type question struct {
		*read
		of *tx
	}
	var open []question
	for _, t := range members {
		for i := range t.reads {
			open = append(open, question{&t.reads[i], t})
		}
	}
	for len(open) > 0 {
		first := open[0]
		if first.form == nil {
			steps = append(steps, step{first.sql, first.args, func(results pgx.BatchResults) error {
				return eachRow(results, func(rows pgx.Rows) error {
					first.of.scanned(first.scan(rows))
					return nil
				})
			}})
			open = open[1:]
			continue
		}
		var args []any
		var asked []question // by row
		rest := open[:0:0]
		for _, q := range open {
			if q.form != first.form || !slices.Equal(q.same, first.same) {
				rest = append(rest, q)
				continue
			}
			args = appendColumns(args, q.args)
			for range length(q.args[0]) {
				asked = append(asked, q)
			}
		}
		open = rest
		steps = append(steps, step{first.form.sql, append(args, first.same...), func(results pgx.BatchResults) error {
			return eachRow(results, func(rows pgx.Rows) error {
				n, err := ordinal(rows)
				if err != nil || n < 1 || n > int64(len(asked)) {
					return errors.Join(errors.New("store: the database answered what was not asked"), err)
				}
				q := &asked[n-1]
				q.of.scanned(q.scan(rows))
				return nil
			})
		}})
	}
	return steps
}

// ordinal is the first column.
func ordinal(rows pgx.Rows) (n int64, err error) {
	b := rows.RawValues()[0]
	if f := rows.FieldDescriptions()[0]; f.Format != pgx.BinaryFormatCode || len(b) != 8 {
		err = rows.Conn().TypeMap().Scan(f.DataTypeOID, f.Format, b, &n)
		return n, err
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

func eachRow(results pgx.BatchResults, do func(pgx.Rows) error) error {
	rows, err := results.Query()
	if err != nil {
		return fromDatabase(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := do(rows); err != nil {
			return err
		}
	}
	return fromDatabase(rows.Err())
}
