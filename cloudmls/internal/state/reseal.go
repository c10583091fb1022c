package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What one transaction of Reseal rewrites at most.
const (
	resealObjects = 64
	resealSize    = 4 << 20
)

// Reseal writes everything that lies under an earlier ROOT anew under the present
// one, and then destroys the earlier ones: what a device that was dropped has
// opens nothing any more. It may be cut off at any point and goes on where it
// was. progress, if not nil, is told how many objects are done of how many.
// Archive records and own uploads lie under keys of their own and stay.
func (s *Store) Reseal(ctx context.Context, progress func(done, total int)) error {
	if progress == nil {
		progress = func(int, int) {}
	}
	for range maxAttempts {
		if _, err := s.Refresh(ctx); err != nil {
			return fmt.Errorf("seal state anew: %w", err)
		}
		n := s.now.Load()
		if len(n.ring.Roots) == 0 {
			return nil
		}
		stale, senders, err := s.stale(ctx, n)
		if err == nil && len(stale)+len(senders) == 0 {
			err = s.dropRoots(ctx)
			if err == nil {
				return nil
			}
		} else if err == nil {
			err = s.resealAll(ctx, stale, senders, progress)
		}
		if err != nil && !errors.Is(err, errStale) {
			return fmt.Errorf("seal state anew: %w", err)
		}
	}
	return ErrBusy
}

// stale lists what lies under an earlier ROOT.
func (s *Store) stale(ctx context.Context, n *snapshot) (stale, senders []Key, err error) {
	var all, sending []version
	for i := range n.view.objects {
		for _, v := range n.view.objects[i] {
			switch t := typeOf(v.id); {
			case t == TypeSender:
				sending = append(sending, v)
			case t != TypeEpoch && t != TypeWrap:
				all = append(all, v)
			}
		}
	}
	for part := range slices.Chunk(all, keyapi.MaxObjectsPerRequest) {
		sealed, err := s.sealed(ctx, part)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range part {
			old, err := s.older(n, v, sealed[v.id])
			if err != nil {
				return nil, nil, err
			}
			if old != nil {
				stale = append(stale, *old)
			}
		}
	}
	for part := range slices.Chunk(sending, keyapi.MaxObjectsPerRequest) {
		ids := make([]keyapi.ObjectID, len(part))
		for i, v := range part {
			ids[i] = v.id
		}
		got, err := s.objects(ctx, ids)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range part {
			o, ok := got[v.id]
			if !ok {
				return nil, nil, errStale
			}
			old, err := s.older(n, version{v.id, o.Counter, envelope.Hash(o.Data)}, o.Data)
			if err != nil {
				return nil, nil, err
			}
			if old != nil {
				senders = append(senders, *old)
			}
		}
	}
	return stale, senders, nil
}

// older gives the key of an object that lies under an earlier ROOT, else nil.
func (s *Store) older(n *snapshot, v version, b []byte) (*Key, error) {
	h, err := envelope.ParseHeader(b)
	if err != nil {
		return nil, fmt.Errorf("open object: %w", err)
	}
	if h.KeyVersion >= n.newest {
		return nil, nil
	}
	k, _, err := s.open(n, v, b)
	if err != nil {
		return nil, err
	}
	return &k, nil
}

func (s *Store) resealAll(ctx context.Context, stale, senders []Key, progress func(done, total int)) error {
	total, done := len(stale)+len(senders), 0
	progress(done, total)
	for len(stale) > 0 {
		var n int
		err := s.Update(ctx, func(t *Tx) error {
			size := 0
			for n = 0; n < min(len(stale), resealObjects) && size < resealSize; n++ {
				written, err := t.rewrite(stale[n])
				if err != nil {
					return err
				}
				size += written
			}
			return nil
		})
		if err != nil {
			return err
		}
		done, stale = done+n, stale[n:]
		progress(done, total)
	}
	for _, k := range senders {
		err := s.Swap(ctx, k, func(old []byte) ([]byte, error) {
			if old == nil {
				return nil, ErrNotFound
			}
			return old, nil
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		done++
		progress(done, total)
	}
	return nil
}

// rewrite puts an object as it is.
func (t *Tx) rewrite(k Key) (int, error) {
	switch k.Type {
	case TypeProfile:
		t.changeProfile()
		return 0, nil
	case TypeKeyring:
		t.changeRing()
		return 0, nil
	}
	data, err := t.Get(k)
	if errors.Is(err, ErrNotFound) {
		return 0, nil // deleted meanwhile
	}
	if err != nil {
		return 0, err
	}
	return len(data), t.Put(k, data)
}

// dropRoots destroys the earlier ROOTs, if the state of the transaction has
// nothing under them. Sender objects cannot have come to lie under one since
// they were looked at: see store.
func (s *Store) dropRoots(ctx context.Context) error {
	err := s.Update(ctx, func(t *Tx) error {
		stale, senders, err := s.stale(t.ctx, t.base)
		if err != nil {
			return t.fail(err)
		}
		if len(stale)+len(senders) > 0 {
			return errMore
		}
		t.changeRing().Roots = nil
		return nil
	})
	if errors.Is(err, errMore) {
		return errStale
	}
	return err
}

// errMore never leaves dropRoots.
var errMore = errors.New("objects under an earlier root key")
