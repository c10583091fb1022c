package pgstore

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// memo remembers what octets of records mean: reading the JSON of a session costs
// more than all else about looking it up. It knows nothing of what is stored: a
// record is read from the database each time, and its octets are the key. It is
// safe for concurrent use; what it gives out must not be changed.
type memo[T any] struct {
	mu         sync.Mutex
	young, old map[string]*T // each at most half of what is remembered
}

// memoHalf times two records of some hundred octets are a few megabytes, for
// those who are busy now.
const memoHalf = 1024

// memoLongest record is remembered.
const memoLongest = 2 << 10

func (m *memo[T]) decode(record []byte) (*T, error) {
	m.mu.Lock()
	r := m.young[string(record)]
	if r == nil {
		if r = m.old[string(record)]; r != nil {
			m.put(record, r)
		}
	}
	m.mu.Unlock()
	if r != nil {
		return r, nil
	}
	r = new(T)
	if err := json.Unmarshal(record, r); err != nil {
		return nil, fmt.Errorf("store is damaged: %w", err)
	}
	m.know(record, r)
	return r, nil
}

// know is told what a record means that was just written: r, which nobody
// changes from then on.
func (m *memo[T]) know(record []byte, r *T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(record, r)
}

// put forgets what was not asked for during the last memoHalf new ones. The
// caller holds mu.
func (m *memo[T]) put(record []byte, r *T) {
	if len(record) > memoLongest {
		return
	}
	if m.young == nil || len(m.young) >= memoHalf {
		m.old, m.young = m.young, map[string]*T{}
	}
	m.young[string(record)] = r
}

// scan gives the record in the second column of a form.
func (m *memo[T]) scan(rows pgx.Rows) (*T, error) {
	b, err := octetsOf(rows, 1)
	if err != nil {
		return nil, err
	}
	return m.decode(b)
}

// octetsOf gives a column of octets, until the next row.
func octetsOf(rows pgx.Rows, column int) ([]byte, error) {
	b := rows.RawValues()[column]
	if f := rows.FieldDescriptions()[column]; f.Format != pgx.BinaryFormatCode {
		var read []byte
		err := rows.Conn().TypeMap().Scan(f.DataTypeOID, f.Format, b, &read)
		return read, fromDatabase(err)
	}
	return b, nil
}
