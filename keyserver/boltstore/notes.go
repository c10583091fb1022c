package boltstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// A note lies under its kind, its owner behind the owner's length in two
// octets, and its key; its value begins with the end of its life in seconds, 0
// for one that has none.
func noteKey(kind keyserver.NoteKind, owner, key []byte) []byte {
	b := append([]byte{byte(kind)}, binary.BigEndian.AppendUint16(nil, uint16(len(owner)))...)
	return join(b, owner, key)
}

func readNote(kind keyserver.NoteKind, owner, key, v []byte) (*keyserver.Note, error) {
	if len(v) < 8 {
		return nil, fmt.Errorf("store is damaged: note of %d octets", len(v))
	}
	n := &keyserver.Note{Kind: kind, Owner: bytes.Clone(owner), Key: bytes.Clone(key), Value: bytes.Clone(v[8:])}
	if at := int64(binary.BigEndian.Uint64(v)); at != 0 {
		n.Expires = time.Unix(at, 0)
	}
	return n, nil
}

func expired(n *keyserver.Note, now time.Time) bool {
	return !n.Expires.IsZero() && n.Expires.Before(now)
}

func (t *tx) Note(kind keyserver.NoteKind, owner, key []byte, now time.Time) (*keyserver.Note, error) {
	v := t.bucket(bucketNotes).Get(noteKey(kind, owner, key))
	if v == nil {
		return nil, nil
	}
	n, err := readNote(kind, owner, key, v)
	if err != nil || expired(n, now) {
		return nil, err
	}
	return n, nil
}

func (t *tx) NotesOf(kind keyserver.NoteKind, owner []byte, now time.Time, limit int) ([]keyserver.Note, error) {
	var all []keyserver.Note
	err := withPrefix(t.bucket(bucketNotes), noteKey(kind, owner, nil), func(key, v []byte) (bool, error) {
		if len(all) >= limit {
			return true, nil
		}
		n, err := readNote(kind, owner, key, v)
		if err == nil && !expired(n, now) {
			all = append(all, *n)
		}
		return false, err
	})
	return all, err
}

func (t *tx) PutNote(n *keyserver.Note) error {
	if len(n.Value) > keyserver.MaxNoteSize || len(n.Owner) > 64 || len(n.Key) > 64 {
		return fmt.Errorf("note of kind %d is too large", n.Kind)
	}
	key := noteKey(n.Kind, n.Owner, n.Key)
	var at uint64
	if !n.Expires.IsZero() {
		at = uint64(max(n.Expires.Unix(), 1))
		if err := t.expireAt(n.Expires, expiresNote, key); err != nil {
			return err
		}
	}
	return t.bucket(bucketNotes).Put(key, join(num(at), n.Value))
}

func (t *tx) DeleteNote(kind keyserver.NoteKind, owner, key []byte) error {
	return t.bucket(bucketNotes).Delete(noteKey(kind, owner, key))
}
