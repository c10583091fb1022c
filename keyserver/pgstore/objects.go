package pgstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// scanVersion scans a version behind other columns.
func scanVersion(rows pgx.Rows, v *keyapi.ObjectVersion, before ...any) error {
	var id []byte
	var counter, size int64
	if err := rows.Scan(append(before, &id, &counter, &size, &v.Hash)...); err != nil {
		return fromDatabase(err)
	}
	if len(id) != len(v.ID) {
		return fmt.Errorf("store is damaged: object id of %d octets", len(id))
	}
	v.ID, v.Counter, v.Size = keyapi.ObjectID(id), uint64(counter), int(size)
	return nil
}

// version reads from the cache what is there; the caller must not change it.
func (t *tx) version(u keyserver.UserID, id keyapi.ObjectID) (*keyapi.ObjectVersion, error) {
	if reads := t.readVersions(u, []keyapi.ObjectID{id}); reads != nil {
		if err := t.ask(t.locks(lockUser(u)), reads...); err != nil {
			return nil, err
		}
	}
	return t.cache.objects[objectName{u, id}], nil
}

func (t *tx) ObjectVersion(u keyserver.UserID, id keyapi.ObjectID) (*keyapi.ObjectVersion, error) {
	v, err := t.version(u, id)
	if err != nil || v == nil {
		return nil, err
	}
	mine := *v
	mine.Hash = bytes.Clone(v.Hash)
	return &mine, nil
}

func (t *tx) Object(u keyserver.UserID, id keyapi.ObjectID) (*keyapi.Object, error) {
	var o *keyapi.Object
	err := t.ask(t.locks(lockUser(u)), read{
		sql: "SELECT counter, data FROM objects WHERE user_id = $1 AND id = $2", args: []any{u[:], id[:]},
		scan: func(rows pgx.Rows) error {
			var counter int64
			o = &keyapi.Object{ID: id}
			err := rows.Scan(&counter, &o.Data)
			o.Counter = uint64(counter)
			return fromDatabase(err)
		},
	})
	return o, err
}

func (t *tx) ObjectVersions(u keyserver.UserID) ([]keyapi.ObjectVersion, error) {
	all := []keyapi.ObjectVersion{}
	err := t.ask(t.locks(lockUser(u)), read{
		sql: "SELECT id, counter, size, hash FROM objects WHERE user_id = $1 ORDER BY id", args: []any{u[:]},
		scan: func(rows pgx.Rows) error {
			var v keyapi.ObjectVersion
			err := scanVersion(rows, &v)
			all = append(all, v)
			return err
		},
	})
	return all, err
}

// PutObject writes only over the counter that was read under the user's lock:
// a compare-and-swap of one row, whatever happened to the lock.
func (t *tx) PutObject(u keyserver.UserID, o *keyapi.Object) error {
	old, err := t.version(u, o.ID)
	if err != nil {
		return err
	}
	use, err := t.usage(u)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(o.Data)
	size := int64(len(o.Data))
	if old == nil {
		use.add(1, size)
		t.row(formInsertObject, u[:], o.ID[:], int64(o.Counter), size, hash[:], octets(o.Data))
	} else {
		use.add(0, size-int64(old.Size))
		t.row(formUpdateObject, u[:], o.ID[:], int64(o.Counter), size, hash[:], octets(o.Data), int64(old.Counter))
	}
	set(&t.cache.objects, objectName{u, o.ID}, &keyapi.ObjectVersion{ID: o.ID, Counter: o.Counter, Hash: hash[:], Size: len(o.Data)})
	return nil
}

func (t *tx) DeleteObject(u keyserver.UserID, id keyapi.ObjectID) error {
	old, err := t.version(u, id)
	if err != nil || old == nil {
		return err
	}
	use, err := t.usage(u)
	if err != nil {
		return err
	}
	use.add(-1, -int64(old.Size))
	t.row(formDeleteObject, u[:], id[:], int64(old.Counter))
	set(&t.cache.objects, objectName{u, id}, nil)
	return nil
}

func (t *tx) usage(u keyserver.UserID) (*counts, error) {
	if reads := t.readUsage(u); reads != nil {
		if err := t.ask(t.locks(lockUser(u)), reads...); err != nil {
			return nil, err
		}
	}
	return t.cache.usage[u], nil
}

func (t *tx) Usage(u keyserver.UserID) (keyserver.Usage, error) {
	use, err := t.usage(u)
	if err != nil {
		return keyserver.Usage{}, err
	}
	return keyserver.Usage{Objects: int(use.n), Bytes: use.octets}, nil
}

// result is a remembered answer of a transaction.
type result struct {
	expires int64
	record  []byte
}

func (t *tx) TxResult(u keyserver.UserID, body keyserver.Hash, now time.Time) (*keyapi.TxResult, error) {
	if reads := t.readResult(u, body); reads != nil {
		if err := t.ask(t.locks(lockUser(u)), reads...); err != nil {
			return nil, err
		}
	}
	have := t.cache.results[resultName{u, body}]
	if have == nil || have.expires < seconds(now) {
		return nil, nil
	}
	r := new(keyapi.TxResult)
	if err := json.Unmarshal(have.record, r); err != nil {
		return nil, fmt.Errorf("store is damaged: %w", err)
	}
	return r, nil
}

func (t *tx) PutTxResult(u keyserver.UserID, body keyserver.Hash, r *keyapi.TxResult, expires time.Time) error {
	record, err := encode(r)
	if err != nil {
		return err
	}
	t.row(formPutResult, u[:], body[:], seconds(expires), record)
	set(&t.cache.results, resultName{u, body}, &result{seconds(expires), record})
	return nil
}
