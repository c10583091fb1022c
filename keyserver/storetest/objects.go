package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func version(o *keyapi.Object) keyapi.ObjectVersion {
	h := sha256.Sum256(o.Data)
	return keyapi.ObjectVersion{ID: o.ID, Counter: o.Counter, Hash: h[:], Size: len(o.Data)}
}

// flaw24: the store has no rule of its own about counters, 1 included; that a
// counter never goes back is decided by what it says about the stored one.
func flaw24(s *suite) {
	u, id := userID(1), objectID(1)
	for _, counter := range []uint64{1, 2, 3, 1 << 40} {
		o := object(id, counter, "state")
		s.both(func(w keyserver.Writer) error { return w.PutObject(u, o) }, func(r keyserver.Reader) error {
			return errors.Join(found("version", version(o))(r.ObjectVersion(u, id)), found("object", *o)(r.Object(u, id)))
		})
	}
}

func objects(s *suite) {
	u, other := userID(1), userID(2)
	a, b := object(objectID(2), 1, "aaaa"), object(objectID(1), 1, "b")
	s.view(func(r keyserver.Reader) error {
		return errors.Join(absent[keyapi.Object]("object")(r.Object(u, a.ID)), absent[keyapi.ObjectVersion]("version")(r.ObjectVersion(u, a.ID)),
			is("list", []keyapi.ObjectVersion{})(r.ObjectVersions(u)), is("usage", keyserver.Usage{})(r.Usage(u)))
	})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutObject(u, a), w.PutObject(u, b), w.PutObject(other, object(a.ID, 5, "other")))
	}, func(r keyserver.Reader) error {
		return errors.Join(is("list by id", []keyapi.ObjectVersion{version(b), version(a)})(r.ObjectVersions(u)),
			is("usage", keyserver.Usage{Objects: 2, Bytes: 5})(r.Usage(u)),
			found("other user's", *object(a.ID, 5, "other"))(r.Object(other, a.ID)))
	})
	a = object(a.ID, 2, "aa")
	s.both(func(w keyserver.Writer) error { return errors.Join(w.PutObject(u, a), w.DeleteObject(u, b.ID)) },
		func(r keyserver.Reader) error {
			return errors.Join(is("list", []keyapi.ObjectVersion{version(a)})(r.ObjectVersions(u)),
				is("usage", keyserver.Usage{Objects: 1, Bytes: 2})(r.Usage(u)), absent[keyapi.Object]("deleted")(r.Object(u, b.ID)))
		})
	s.both(func(w keyserver.Writer) error { return errors.Join(w.DeleteObject(u, a.ID), w.DeleteObject(u, a.ID)) },
		func(r keyserver.Reader) error {
			return errors.Join(is("usage", keyserver.Usage{})(r.Usage(u)), is("other's usage", keyserver.Usage{Objects: 1, Bytes: 5})(r.Usage(other)))
		})
}

// objectsInOne: one transaction may write an object several times.
func objectsInOne(s *suite) {
	u, id := userID(1), objectID(1)
	last := object(id, 4, "four")
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutObject(u, object(id, 1, "1")), w.PutObject(u, object(id, 2, "22")), w.DeleteObject(u, id),
			w.PutObject(u, object(id, 3, "333")), w.PutObject(u, last))
	}, func(r keyserver.Reader) error {
		return errors.Join(found("object", *last)(r.Object(u, id)), is("usage", keyserver.Usage{Objects: 1, Bytes: 4})(r.Usage(u)),
			is("list", []keyapi.ObjectVersion{version(last)})(r.ObjectVersions(u)))
	})
}

// largeObjects: four of the largest in one transaction, and a Commit as large
// for two inboxes.
func largeObjects(s *suite) {
	u := userID(1)
	data := make([]byte, keyapi.MaxObjectSize)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(data) // never fails
	s.update(func(w keyserver.Writer) error {
		for i := range byte(3) {
			if err := w.PutObject(u, &keyapi.Object{ID: objectID(i), Counter: 1, Data: data}); err != nil {
				return err
			}
		}
		m := message(keyapi.DeliveryCommit, "")
		m.Message = data
		return w.Deliver(m, u, []keyapi.Account{account("a"), account("b")})
	})
	s.view(func(r keyserver.Reader) error {
		o, err := r.Object(u, objectID(2))
		if err != nil || o == nil || !bytes.Equal(o.Data, data) {
			return errors.Join(errors.New("object differs"), err)
		}
		d, err := r.Deliveries(account("b"), 0, 10, 1)
		if err != nil || len(d) != 1 || !bytes.Equal(d[0].Message, data) {
			return errors.Join(errors.New("delivery differs"), err)
		}
		return is("usage", keyserver.Usage{Objects: 3, Bytes: 3 * keyapi.MaxObjectSize})(r.Usage(u))
	})
}

func results(s *suite) {
	u, end := userID(1), start.Add(time.Hour)
	r1, r2 := keyapi.TxResult{Applied: true, Epoch: 7}, keyapi.TxResult{Applied: true, Epoch: 8}
	s.both(func(w keyserver.Writer) error { return w.PutTxResult(u, hash(1), &r1, end) }, func(r keyserver.Reader) error {
		return errors.Join(found("result", r1)(r.TxResult(u, hash(1), end)), absent[keyapi.TxResult]("expired")(r.TxResult(u, hash(1), end.Add(time.Second))),
			absent[keyapi.TxResult]("other body")(r.TxResult(u, hash(2), start)), absent[keyapi.TxResult]("other user")(r.TxResult(userID(2), hash(1), start)))
	})
	s.both(func(w keyserver.Writer) error { return w.PutTxResult(u, hash(1), &r2, end.Add(time.Hour)) }, func(r keyserver.Reader) error {
		return found("renewed", r2)(r.TxResult(u, hash(1), end.Add(time.Minute)))
	})
}
