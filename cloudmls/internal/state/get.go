package state

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxStale bounds how often a read is repeated because other devices write.
const maxStale = 8

// Get returns the object's data from the verified state: from the local cache
// if that has it (no network), else from the server. ErrNotFound if the
// verified head says that there is none. A sender object is always read from
// the server. The caller owns the result.
func (s *Store) Get(ctx context.Context, k Key) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	var data []byte
	err := s.steady(ctx, func(n *snapshot) (err error) {
		data, err = s.getFrom(ctx, n, k)
		return err
	})
	return data, err
}

// List returns the keys of all objects of a type, sorted by account and name.
// Objects not in the local cache yet are fetched for it.
func (s *Store) List(ctx context.Context, t Type) ([]Key, error) {
	var all []Key
	err := s.steady(ctx, func(n *snapshot) (err error) {
		all, err = s.listFrom(ctx, n, t)
		return err
	})
	return all, err
}

// steady runs read on the current snapshot, and again on a newer one where the
// server has moved on. A server that claims to have moved on but shows no newer
// head withholds objects.
func (s *Store) steady(ctx context.Context, read func(n *snapshot) error) error {
	for range maxStale {
		if s.closed.Load() {
			return ErrClosed
		}
		n := s.now.Load()
		if n == nil {
			return errors.New("state was never verified on this device: the key server must be reached first")
		}
		if err := read(n); !errors.Is(err, errStale) {
			return err
		}
		if _, err := s.Refresh(ctx); err != nil {
			return err
		}
		if s.now.Load() == n {
			return s.trip(&RollbackError{Reason: "an object that the head names was withheld"})
		}
	}
	return ErrBusy
}

func (s *Store) getFrom(ctx context.Context, n *snapshot, k Key) ([]byte, error) {
	id := objectID(n.ring.Index, k)
	v, ok := n.view.find(id)
	if !ok {
		return nil, ErrNotFound
	}
	if k.Type == TypeSender {
		data, _, err := s.fetchSender(ctx, n, k)
		return data, err
	}
	o, err := s.read(ctx, n, []version{v})
	if err != nil {
		return nil, err
	}
	if o[0].key != k {
		return nil, fmt.Errorf("open object: %w", errObject)
	}
	return o[0].data, nil
}

func (s *Store) listFrom(ctx context.Context, n *snapshot, t Type) ([]Key, error) {
	if t < TypeIdentity || t > TypeHistory || t == TypeSender {
		return nil, fmt.Errorf("objects of type %d cannot be listed", t)
	}
	var all []Key
	for part := range slices.Chunk(n.view.list(t), keyapi.MaxObjectsPerRequest) {
		objects, err := s.read(ctx, n, part)
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			all = append(all, o.key)
		}
	}
	return sortKeys(all), nil
}

func sortKeys(all []Key) []Key {
	slices.SortFunc(all, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Account.Platform, b.Account.Platform),
			cmp.Compare(a.Account.ID, b.Account.ID), cmp.Compare(a.Name, b.Name))
	})
	return all
}
