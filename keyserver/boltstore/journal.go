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
	had, old := b.find(key)
	b.note(bytes.Clone(key), old, had, len(value))
	return b.Bucket.Put(key, value)
}

// Delete removes a key, if it is there.
func (b *bucket) Delete(key []byte) error {
	had, old := b.find(key)
	b.note(bytes.Clone(key), old, had, 0)
	return b.Bucket.Delete(key)
}

// replace is Put where it is known what the key has, in this bucket and
// transaction, which saves looking for it; nil: it is not there. The caller does
// not change the key any more.
func (b *bucket) replace(key, old, value []byte) error {
	b.note(key, old, old != nil, len(value))
	return b.Bucket.Put(key, value)
}

// remove is Delete of a key whose value is known, in the manner of replace.
func (b *bucket) remove(key, old []byte) error {
	if old == nil {
		return nil
	}
	b.note(key, old, true, 0)
	return b.Bucket.Delete(key)
}

// find tells an empty value from none, which Get does not.
func (b *bucket) find(key []byte) (had bool, value []byte) {
	k, v := b.Cursor().Seek(key)
	if k == nil || !bytes.Equal(k, key) {
		return false, nil
	}
	return true, v
}

func (b *bucket) note(key, old []byte, had bool, size int) {
	if b.journal == nil {
		return
	}
	b.journal.changes = append(b.journal.changes, change{bucket: b.Bucket, key: key, value: old, had: had})
	b.journal.octets += len(key) + size
}

// begin forgets what earlier functions did.
func (j *journal) begin() {
	clear(j.changes)
	j.changes, j.octets = j.changes[:0], 0
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
	j.begin()
	return nil
}
