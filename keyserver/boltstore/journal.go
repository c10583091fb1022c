package boltstore

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// journal remembers what the writes of one function replaced, so that they can
// be taken back without giving up the transaction that others share.
type journal struct {
	changes []change
	octets  int // written, roughly
}

// change is one write. Values are those of the transaction, which stay valid
// until its end.
type change struct {
	bucket     *bolt.Bucket
	key, value []byte
	had        bool
}

// bucket is a bolt bucket whose writes are journaled.
type bucket struct {
	*bolt.Bucket
	journal *journal // nil in views
}

// Put stores value, which must not be changed before the transaction ends.
func (b *bucket) Put(key, value []byte) error {
	b.note(key, len(value))
	return b.Bucket.Put(key, value)
}

// Delete removes a key, if it is there.
func (b *bucket) Delete(key []byte) error {
	b.note(key, 0)
	return b.Bucket.Delete(key)
}

func (b *bucket) note(key []byte, size int) {
	if b.journal == nil {
		return
	}
	k, v := b.Cursor().Seek(key) // Get does not tell an empty value from none
	c := change{bucket: b.Bucket, key: bytes.Clone(key), had: k != nil && bytes.Equal(k, key)}
	if c.had {
		c.value = v
	}
	b.journal.changes = append(b.journal.changes, c)
	b.journal.octets += len(key) + size
}

// undo takes all writes back. After an error the transaction is worth nothing.
func (j *journal) undo() error {
	for i := len(j.changes) - 1; i >= 0; i-- {
		c := &j.changes[i]
		var err error
		if c.had {
			err = c.bucket.Put(c.key, c.value)
		} else {
			err = c.bucket.Delete(c.key)
		}
		if err != nil {
			return err
		}
	}
	j.changes = nil
	return nil
}
