package state

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// changesServer is an objectServer that can be asked for what has changed alone, as
// *keyclient.Client can. Others are asked for everything.
type changesServer interface {
	ObjectUnless(ctx context.Context, token string, id keyapi.ObjectID, hash [32]byte) (keyapi.ObjectList, error)
	ObjectIndexOf(ctx context.Context, token string, buckets keyapi.Buckets) (keyapi.ObjectIndex, error)
}

// unknownToServer tells whether a key server refuses a question that those of earlier
// versions do not know (docs/spec/keyserver-api.md section 10).
func unknownToServer(err error) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && (p.Code == keyapi.CodeInvalid || p.Code == keyapi.CodeNoRoute)
}

// errUnchanged: the head is the one that is known. It never leaves the package.
var errUnchanged = errors.New("the state is as it was")

// loadChanges is load for a store that has verified a head before. It asks for the head
// alone, which is all it takes when nothing changed, and then for the index of those
// buckets alone of which the head says something else than the one before: what it
// says of the others is what they were verified with. errStale: load has to do it.
func (s *Store) loadChanges(ctx context.Context, before *snapshot) (*snapshot, map[keyapi.ObjectID][]byte, error) {
	if before == nil {
		return nil, nil, errStale
	}
	low, err := s.locals.loadFloor(s.scope.User, keyHead) // first: see loadOnce
	if err != nil {
		return nil, nil, err
	}
	o, err := s.newHead(ctx, before.view)
	hv := version{o.ID, o.Counter, envelope.Hash(o.Data)}
	unchanged := errors.Is(err, errUnchanged)
	if unchanged {
		hv = version{bootstrapID(TypeHead), before.view.counter, before.view.hash}
	} else if err != nil {
		return nil, nil, err
	}
	// Unchanged, too: the floor may be above what this Store shows, and the server
	// has answered after it was read.
	if _, err := findHead([]version{hv}, low); err != nil {
		return nil, nil, err
	}
	if unchanged {
		return nil, nil, errUnchanged
	}
	n := &snapshot{roots: maps.Clone(before.roots), newest: before.newest}
	h, err := envelope.ParseHeader(o.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("open head: %w", err)
	}
	if h.KeyVersion > n.newest {
		return nil, nil, errStale // all keys were replaced, which is rare
	}
	if err := s.openHead(n, hv, o.Data); err != nil {
		return nil, nil, err
	}
	if err := s.indexChanges(ctx, before.view, n.view, hv); err != nil {
		return nil, nil, err
	}
	return s.loaded(ctx, before, n, low, o.Data)
}

// newHead asks for the head. errUnchanged: it is the one of v; any other is newer.
func (s *Store) newHead(ctx context.Context, v *view) (keyapi.Object, error) {
	id := bootstrapID(TypeHead)
	var got keyapi.ObjectList
	err := s.atStore(ctx, func(ctx context.Context, srv objectServer, token string) (err error) {
		if c, ok := srv.(changesServer); ok {
			got, err = c.ObjectUnless(ctx, token, id, v.hash)
			if !unknownToServer(err) {
				return err
			}
		}
		got, err = srv.Objects(ctx, token, []keyapi.ObjectID{id})
		return err
	})
	if err != nil {
		return keyapi.Object{}, fmt.Errorf("fetch objects: %w", err)
	}
	if len(got.Unchanged) == 1 && got.Unchanged[0] == id {
		return keyapi.Object{}, errUnchanged
	}
	list, err := answered([]keyapi.ObjectID{id}, got)
	if err != nil {
		return keyapi.Object{}, err
	}
	o, ok := list[id]
	if !ok {
		return o, &RollbackError{Reason: "the head was withheld", Seen: v.counter}
	}
	err = fresh(version{id, v.counter, v.hash}, o, ok)
	switch {
	case err == nil:
		return o, errUnchanged
	case errors.Is(err, errStale): // v is: there is a newer one
		return o, nil
	}
	return o, err
}

// indexChanges sets the objects of next, whose head is verified, from those of before
// and from what the server says of the buckets that differ. All are held against the
// head. The answer has the head's bucket, too, and so tells whether next's is still
// the one that the server has.
func (s *Store) indexChanges(ctx context.Context, before, next *view, head version) error {
	var changed keyapi.Buckets
	changed.Add(bucketOf(head.id))
	for i := range next.head.buckets {
		if next.head.buckets[i] != before.head.buckets[i] {
			changed.Add(i)
		}
	}
	index, err := s.index(ctx, &changed)
	if err != nil {
		return err
	}
	now, err := findHead(index, floor{head.counter, head.hash})
	if err != nil {
		return err
	}
	if now != head {
		return errStale
	}
	objects, err := bucketize(index)
	if err != nil {
		return err
	}
	next.objects = before.objects
	for i := range objects {
		if changed.Has(i) {
			next.objects[i] = objects[i]
		}
	}
	return next.head.verify(&next.objects)
}
