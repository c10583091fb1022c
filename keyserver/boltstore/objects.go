package boltstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// objectMeta is all of an object but its octets: 56 octets on disk.
type objectMeta struct {
	counter, size, blob uint64
	hash                [sha256.Size]byte
}

func (m *objectMeta) format() []byte {
	b := make([]byte, 0, 56)
	for _, n := range []uint64{m.counter, m.size, m.blob} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, m.hash[:]...)
}

func parseObjectMeta(v []byte) (*objectMeta, error) {
	if len(v) != 56 {
		return nil, fmt.Errorf("store is damaged: object record of %d octets", len(v))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(v[i:]) }
	return &objectMeta{counter: n(0), size: n(8), blob: n(16), hash: [sha256.Size]byte(v[24:])}, nil
}

func (m *objectMeta) version(id keyapi.ObjectID) keyapi.ObjectVersion {
	return keyapi.ObjectVersion{ID: id, Counter: m.counter, Hash: bytes.Clone(m.hash[:]), Size: int(m.size)}
}

func objectKey(u keyserver.UserID, id keyapi.ObjectID) []byte { return join(u[:], id[:]) }

func (t *tx) object(u keyserver.UserID, id keyapi.ObjectID) (*objectMeta, error) {
	v := t.bucket(bucketObjects).Get(objectKey(u, id))
	if v == nil {
		return nil, nil
	}
	return parseObjectMeta(v)
}

func (t *tx) ObjectVersion(u keyserver.UserID, id keyapi.ObjectID) (*keyapi.ObjectVersion, error) {
	m, err := t.object(u, id)
	if err != nil || m == nil {
		return nil, err
	}
	v := m.version(id)
	return &v, nil
}

func (t *tx) Object(u keyserver.UserID, id keyapi.ObjectID) (*keyapi.Object, error) {
	m, err := t.object(u, id)
	if err != nil || m == nil {
		return nil, err
	}
	data, err := t.blob(m.blob)
	if err != nil {
		return nil, err
	}
	return &keyapi.Object{ID: id, Counter: m.counter, Data: data}, nil
}

func (t *tx) ObjectVersions(u keyserver.UserID) ([]keyapi.ObjectVersion, error) {
	all := []keyapi.ObjectVersion{}
	err := withPrefix(t.bucket(bucketObjects), u[:], func(id, v []byte) (bool, error) {
		m, err := parseObjectMeta(v)
		if err != nil {
			return false, err
		}
		all = append(all, m.version(keyapi.ObjectID(id)))
		return false, nil
	})
	return all, err
}

func (t *tx) PutObject(u keyserver.UserID, o *keyapi.Object) error {
	key, objects := objectKey(u, o.ID), t.bucket(bucketObjects)
	have := objects.Get(key)
	more, octets, err := t.release(have)
	if err != nil {
		return err
	}
	blob, err := t.addBlob(o.Data, 1)
	if err != nil {
		return err
	}
	if err := t.addUsage(u, 1-more, int64(len(o.Data))-octets); err != nil {
		return err
	}
	m := objectMeta{counter: o.Counter, size: uint64(len(o.Data)), blob: blob, hash: sha256.Sum256(o.Data)}
	return objects.replace(key, have, m.format())
}

func (t *tx) DeleteObject(u keyserver.UserID, id keyapi.ObjectID) error {
	key, objects := objectKey(u, id), t.bucket(bucketObjects)
	have := objects.Get(key)
	less, octets, err := t.release(have)
	if err != nil {
		return err
	}
	if err := t.addUsage(u, -less, -octets); err != nil {
		return err
	}
	return objects.remove(key, have)
}

// release gives up the octets of an object, if there is one, and tells what it
// counts for.
func (t *tx) release(record []byte) (n, octets int64, err error) {
	if record == nil {
		return 0, 0, nil
	}
	m, err := parseObjectMeta(record)
	if err != nil {
		return 0, 0, err
	}
	return 1, int64(m.size), t.dropBlob(m.blob)
}

func (t *tx) Usage(u keyserver.UserID) (keyserver.Usage, error) {
	n, size, err := t.counts(bucketUsage, u[:])
	return keyserver.Usage{Objects: int(n), Bytes: size}, err
}

func (t *tx) addUsage(u keyserver.UserID, objects, size int64) error {
	return t.count(bucketUsage, u[:], objects, size)
}

// counts reads a pair (things, octets); nothing there means zero of both.
func (t *tx) counts(bucket string, key []byte) (n, size int64, err error) {
	return readCounts(t.bucket(bucket).Get(key))
}

func readCounts(v []byte) (n, size int64, err error) {
	switch len(v) {
	case 0:
		return 0, 0, nil
	case 16:
		return int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:])), nil
	}
	return 0, 0, fmt.Errorf("store is damaged: counts of %d octets", len(v))
}

// count changes a pair. What stays as it is is not written: most objects are
// replaced by ones of the same, padded, size.
func (t *tx) count(bucket string, key []byte, n, size int64) error {
	if n == 0 && size == 0 {
		return nil
	}
	b := t.bucket(bucket)
	have := b.Get(key)
	haveN, haveSize, err := readCounts(have)
	if err != nil {
		return err
	}
	n, size = n+haveN, size+haveSize
	if n < 0 || size < 0 {
		return errors.New("store is damaged: counts below zero")
	}
	if n == 0 {
		return b.remove(key, have)
	}
	return b.replace(key, have, join(num(uint64(n)), num(uint64(size))))
}

func (t *tx) TxResult(u keyserver.UserID, body keyserver.Hash, now time.Time) (*keyapi.TxResult, error) {
	v := t.bucket(bucketResults).Get(join(u[:], body[:]))
	if v == nil {
		return nil, nil
	}
	if len(v) < 8 {
		return nil, fmt.Errorf("store is damaged: result of %d octets", len(v))
	}
	if bytes.Compare(v[:8], unixKey(now)) < 0 {
		return nil, nil
	}
	r := new(keyapi.TxResult)
	if err := json.Unmarshal(v[8:], r); err != nil {
		return nil, fmt.Errorf("store is damaged: %w", err)
	}
	return r, nil
}

func (t *tx) PutTxResult(u keyserver.UserID, body keyserver.Hash, r *keyapi.TxResult, expires time.Time) error {
	v, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	key := join(u[:], body[:])
	if err := t.expireAt(expires, expiresResult, key); err != nil {
		return err
	}
	return t.bucket(bucketResults).Put(key, join(unixKey(expires), v))
}
