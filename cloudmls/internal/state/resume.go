package state

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Resume opens a device that has signed in before, without the password and,
// if its local copy is whole, without the network: the state is the one last
// verified. ErrNoVault if nobody has signed in on this device.
func Resume(ctx context.Context, c Config) (*Store, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	l, err := newLocals(&c)
	if err != nil {
		return nil, err
	}
	v, err := l.loadVault()
	if err != nil {
		return nil, err
	}
	switch {
	case v == nil, v.Slot == 0: // none, or a sign-in that was interrupted
		return nil, ErrNoVault
	case v.Pending != nil:
		return nil, ErrUnfinished
	}
	s := newStore(c, l, v)
	if err := s.resumeView(ctx); err != nil {
		s.inform(ctx, "local copy of the state is read anew", err)
		if _, err := s.Refresh(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

var errCopy = errors.New("local copy of the state is incomplete")

// resumeView rebuilds the last verified view from the LocalStore. It is
// verified like one from the server, and has to be exactly the floor's.
func (s *Store) resumeView(ctx context.Context) error {
	low, err := s.locals.loadFloor(s.scope.User, keyHead)
	if err != nil {
		return err
	}
	id := bootstrapID(TypeHead)
	b, err := s.cfg.Local.Get(bucketObjects, localKey(id))
	if err != nil {
		return fmt.Errorf("read local store: %w", err)
	}
	if low.counter == 0 || b == nil || envelope.Hash(b) != low.hash {
		return errCopy
	}
	index := []version{{id, low.counter, low.hash}}
	err = s.cfg.Local.ForEach(bucketIndex, func(k string, v []byte) error {
		raw, err := hex.DecodeString(k)
		if err != nil || len(raw) != len(keyapi.ObjectID{}) || len(v) != 40 {
			return errCopy
		}
		index = append(index, version{keyapi.ObjectID(raw), binary.BigEndian.Uint64(v), [32]byte(v[8:])})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read local store: %w", err)
	}
	n, err := s.unseal(ctx, nil, index, index[0], b)
	if err != nil {
		return err
	}
	if err := s.loadCore(ctx, nil, n); err != nil {
		return err
	}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.now.Store(n)
	return nil
}
