package pgstore

import (
	"bytes"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
)

type noteName struct {
	kind       keyserver.NoteKind
	owner, key string
}

// storedNote is one that was read ahead.
type storedNote struct {
	expires int64
	value   []byte
}

func scanNotes(into *[]keyserver.Note, kind keyserver.NoteKind, owner []byte) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		n := keyserver.Note{Kind: kind, Owner: append([]byte{}, owner...)}
		var end int64
		if err := rows.Scan(&n.Key, &end, &n.Value); err != nil {
			return fromDatabase(err)
		}
		if end != 0 {
			n.Expires = time.Unix(end, 0)
		}
		*into = append(*into, n)
		return nil
	}
}

func (t *tx) Note(kind keyserver.NoteKind, owner, key []byte, now time.Time) (*keyserver.Note, error) {
	if ahead, known := t.cache.notes[noteName{kind, string(owner), string(key)}]; known {
		if ahead == nil || ahead.expires != 0 && ahead.expires < notBefore(now) {
			return nil, nil
		}
		n := &keyserver.Note{Kind: kind, Owner: bytes.Clone(owner), Key: bytes.Clone(key), Value: bytes.Clone(ahead.value)}
		if ahead.expires != 0 {
			n.Expires = time.Unix(ahead.expires, 0)
		}
		return n, nil
	}
	var found []keyserver.Note
	err := t.ask(t.locks(lockNotes(kind, owner)), read{
		sql:  "SELECT key, expires, value FROM notes WHERE kind = $1 AND owner = $2 AND key = $3 AND (expires = 0 OR expires >= $4)",
		args: []any{int16(kind), octets(owner), octets(key), notBefore(now)}, scan: scanNotes(&found, kind, owner),
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func (t *tx) NotesOf(kind keyserver.NoteKind, owner []byte, now time.Time, limit int) ([]keyserver.Note, error) {
	var all []keyserver.Note
	if limit < 1 {
		return nil, nil
	}
	err := t.ask(t.locks(lockNotes(kind, owner)), read{
		sql:  "SELECT key, expires, value FROM notes WHERE kind = $1 AND owner = $2 AND (expires = 0 OR expires >= $3) ORDER BY key LIMIT $4",
		args: []any{int16(kind), octets(owner), notBefore(now), limit}, scan: scanNotes(&all, kind, owner),
	})
	return all, err
}

func (t *tx) PutNote(n *keyserver.Note) error {
	if len(n.Value) > keyserver.MaxNoteSize || len(n.Owner) > 64 || len(n.Key) > 64 {
		return fmt.Errorf("note of kind %d is too large", n.Kind)
	}
	if err := t.ask(t.locks(lockNotes(n.Kind, n.Owner))); err != nil {
		return err
	}
	delete(t.cache.notes, noteName{n.Kind, string(n.Owner), string(n.Key)})
	var end int64
	if !n.Expires.IsZero() {
		end = max(n.Expires.Unix(), 1)
	}
	t.write(1, `INSERT INTO notes (kind, owner, key, expires, value) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, owner, key) DO UPDATE SET expires = excluded.expires, value = excluded.value`,
		int16(n.Kind), n.Owner, n.Key, end, octets(n.Value))
	return nil
}

func (t *tx) DeleteNote(kind keyserver.NoteKind, owner, key []byte) error {
	if err := t.ask(t.locks(lockNotes(kind, owner))); err != nil {
		return err
	}
	delete(t.cache.notes, noteName{kind, string(owner), string(key)})
	t.write(anyRows, "DELETE FROM notes WHERE kind = $1 AND owner = $2 AND key = $3", int16(kind), owner, key)
	return nil
}

// octets is b, or an empty string where it is nil: nil would be NULL.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
