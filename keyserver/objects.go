package keyserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// indexEntry is what an object takes up in the index, in octets.
const indexEntry = 256

type objectIndexInput struct {
	Buckets string `query:"buckets" doc:"A set of second octets of ids, 256 bits in 64 hexadecimal digits, the bit of octet 0 first: only objects with one of these; none: all."`
}

func (s *Server) objectIndex(ctx context.Context, in *objectIndexInput) (*output[keyapi.ObjectIndex], error) {
	var index keyapi.ObjectIndex
	var buckets *keyapi.Buckets
	if in.Buckets != "" {
		var err error
		if buckets, err = keyapi.ParseBuckets(in.Buckets); err != nil {
			return nil, invalid(err.Error())
		}
	}
	err := s.Store.View(ctx, func(r Reader) (err error) {
		if err := s.mayRead(r, caller(ctx).user); err != nil {
			return err
		}
		use, err := r.Usage(caller(ctx).user)
		if err != nil {
			return err
		}
		if err := s.hold(ctx, int64(use.Objects)*indexEntry); err != nil {
			return err
		}
		index.Objects, err = r.ObjectVersions(caller(ctx).user)
		if buckets != nil {
			index.Objects = slices.DeleteFunc(index.Objects, func(v keyapi.ObjectVersion) bool { return !buckets.Has(v.ID.Bucket()) })
		}
		return err
	})
	return &output[keyapi.ObjectIndex]{index}, err
}

func (s *Server) objects(ctx context.Context, in *input[keyapi.ObjectsRequest]) (*output[keyapi.ObjectList], error) {
	if len(in.Body.IDs) > keyapi.MaxObjectsPerRequest {
		return nil, invalid(fmt.Sprintf("more than %d ids", keyapi.MaxObjectsPerRequest))
	}
	return s.listObjects(ctx, in.Body.IDs, nil)
}

type objectInput struct {
	Object string `path:"object" doc:"The object's id in hexadecimal."`
	Unless string `query:"unless" doc:"SHA-256 in hexadecimal: if the octets have this hash they are not sent."`
}

func (s *Server) object(ctx context.Context, in *objectInput) (*output[keyapi.ObjectList], error) {
	var id keyapi.ObjectID
	if err := id.UnmarshalText([]byte(in.Object)); err != nil {
		return nil, invalid(err.Error())
	}
	unless, err := hex.DecodeString(in.Unless)
	if err != nil || len(unless) != 0 && len(unless) != sha256.Size {
		return nil, invalid("unless: not a SHA-256 hash in hexadecimal")
	}
	return s.listObjects(ctx, []keyapi.ObjectID{id}, unless)
}

// listObjects reads objects; those whose octets have the hash unless are not sent.
func (s *Server) listObjects(ctx context.Context, ids []keyapi.ObjectID, unless []byte) (*output[keyapi.ObjectList], error) {
	id := caller(ctx)
	u := id.user
	if _, err := s.remoteSession(ctx, id); err != nil { // which may have ended while the body came
		return nil, err
	}
	list := keyapi.ObjectList{Objects: []keyapi.Object{}}
	seen := make(map[keyapi.ObjectID]bool, len(ids))
	size := 0
	err := s.Store.View(ctx, func(r Reader) error {
		if err := r.Foresee(&Plan{User: u, Session: id.session, Objects: ids}); err != nil {
			return err
		}
		if _, err := s.localSession(r, id); err != nil {
			return err
		}
		if err := s.mayRead(r, u); err != nil {
			return err
		}
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			v, err := r.ObjectVersion(u, id)
			if err != nil {
				return err
			}
			if v == nil {
				list.Missing = append(list.Missing, id)
				continue
			}
			if unless != nil && bytes.Equal(v.Hash, unless) {
				list.Unchanged = append(list.Unchanged, id)
				continue
			}
			if size += v.Size; size > s.Limits.AnswerBytes && len(list.Objects) > 0 {
				size -= v.Size
				continue // left for the next request
			}
			if err := s.hold(ctx, int64(v.Size)); err != nil {
				return err
			}
			o, err := r.Object(u, id)
			if err != nil {
				return err
			}
			list.Objects = append(list.Objects, *o)
		}
		return nil
	})
	return &output[keyapi.ObjectList]{list}, err
}

// changeObjects is compare-and-swap over all objects of a transaction: either
// every counter is the expected one, or the answer tells which are not.
func (s *Server) changeObjects(w Writer, u UserID, t *keyapi.Tx) error {
	if len(t.Expect)+len(t.Put)+len(t.Delete) > 0 {
		if err := s.mayWrite(w, u); err != nil {
			return err
		}
	}
	var have []keyapi.Expect
	var grown Usage // by the transaction
	compare := func(id keyapi.ObjectID, want uint64) (there Usage, err error) {
		v, err := w.ObjectVersion(u, id)
		if err != nil {
			return there, err
		}
		var counter uint64
		if v != nil {
			counter, there = v.Counter, Usage{Objects: 1, Bytes: int64(v.Size)}
		}
		if counter != want {
			have = append(have, keyapi.Expect{ID: id, Counter: counter})
		}
		return there, nil
	}
	for _, e := range t.Expect {
		if _, err := compare(e.ID, e.Counter); err != nil {
			return err
		}
	}
	for i := range t.Put {
		there, err := compare(t.Put[i].ID, t.Put[i].Counter-1)
		if err != nil {
			return err
		}
		grown.Objects += 1 - there.Objects
		grown.Bytes += int64(len(t.Put[i].Data)) - there.Bytes
	}
	for _, e := range t.Delete {
		there, err := compare(e.ID, e.Counter)
		if err != nil {
			return err
		}
		grown.Objects -= there.Objects
		grown.Bytes -= there.Bytes
	}
	if len(have) > 0 {
		p := conflict(keyapi.CodeConflict, "objects have changed")
		p.Have = have
		return p
	}
	for i := range t.Put {
		if err := w.PutObject(u, &t.Put[i]); err != nil {
			return err
		}
	}
	for _, e := range t.Delete {
		if err := w.DeleteObject(u, e.ID); err != nil {
			return err
		}
	}
	if grown.Objects <= 0 && grown.Bytes <= 0 { // which is never refused
		return nil
	}
	after, err := w.Usage(u)
	if err != nil {
		return err
	}
	return s.checkUsage(w, u, Usage{Objects: after.Objects - grown.Objects, Bytes: after.Bytes - grown.Bytes})
}

// checkTx checks the form of a transaction: what can be said without a store.
func checkTx(t *keyapi.Tx) error {
	if len(t.Nonce) > keyapi.MaxNonceSize {
		return invalid("nonce is too long")
	}
	seen := make(map[keyapi.ObjectID]bool, len(t.Expect)+len(t.Put)+len(t.Delete))
	once := func(id keyapi.ObjectID) error {
		if seen[id] {
			return invalid("an object occurs twice")
		}
		seen[id] = true
		return nil
	}
	for _, e := range t.Expect {
		if err := once(e.ID); err != nil {
			return err
		}
	}
	for i := range t.Put {
		o := &t.Put[i]
		if err := once(o.ID); err != nil {
			return err
		}
		if o.Counter == 0 {
			return invalid("counters begin at 1")
		}
		if len(o.Data) == 0 || len(o.Data) > keyapi.MaxObjectSize {
			return invalid("an object must have 1 octet to 16 MiB")
		}
	}
	for _, e := range t.Delete {
		if err := once(e.ID); err != nil {
			return err
		}
		if e.Counter == 0 {
			return invalid("an object that does not exist cannot be deleted")
		}
	}
	for _, a := range t.Ack {
		if err := a.Account.Check(); err != nil {
			return invalid(err.Error())
		}
	}
	if t.Commit != nil {
		return checkCommit(t.Commit)
	}
	return nil
}
