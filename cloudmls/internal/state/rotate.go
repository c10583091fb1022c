package state

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
)

// newRoot is the ROOT that a transaction introduces.
type newRoot struct {
	key     []byte
	version uint32
	id      [32]byte
}

// RotateRoot makes a new ROOT and new archive keys for all devices but those
// dropped (their 16-octet ids). Neither password nor recovery code is needed.
// also, if not nil, is part of the same transaction.
//
// Objects are sealed under the new ROOT as they are written, or by Reseal; until
// then the keyring keeps the old one, so a dropped device that can still reach
// the server's copies reads what it could read before, and nothing newer.
// Archive records and own uploads made before stay under their keys, which a
// dropped device has; what comes goes under others.
func (s *Store) RotateRoot(ctx context.Context, also func(*Tx) error, drop ...[]byte) error {
	err := s.Update(ctx, func(t *Tx) error {
		key, err := keys.NewSecret()
		if err != nil {
			return err
		}
		id, err := rootID(key)
		if err != nil {
			return err
		}
		t.root = &newRoot{key: key, version: t.base.newest + 1, id: id}
		ring := t.changeRing()
		ring.Roots = append(ring.Roots, oldRoot{Version: t.base.newest, Key: t.base.roots[t.base.newest]})
		if err := ring.retireArchive(); err != nil {
			return err
		}
		for _, d := range drop {
			if err := t.dropDevice(d); err != nil {
				return err
			}
		}
		t.note(EventKeysRotated)
		if also != nil {
			if err := also(t); err != nil {
				return err
			}
		}
		return t.wrapRoot()
	})
	if err != nil {
		return fmt.Errorf("rotate root key: %w", err)
	}
	return nil
}
