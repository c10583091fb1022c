package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"

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
//
// Whoever had a dropped device could have added keys of their own to those that
// ROOT is wrapped for: only the devices of the profile, the password and the
// recovery code stay among them.
func (s *Store) RotateRoot(ctx context.Context, also func(*Tx) error, drop ...[]byte) error {
	return s.rotateRoot(ctx, also, func(*profile) [][]byte { return drop })
}

// RotateRootAlone is RotateRoot that drops all devices but this one, those too
// that were added a moment ago.
func (s *Store) RotateRootAlone(ctx context.Context, also func(*Tx) error) error {
	own := s.deviceID()
	return s.rotateRoot(ctx, also, func(p *profile) (drop [][]byte) {
		for _, d := range p.Devices {
			if !bytes.Equal(d.ID, own) {
				drop = append(drop, d.ID)
			}
		}
		return drop
	})
}

func (s *Store) rotateRoot(ctx context.Context, also func(*Tx) error, drop func(*profile) [][]byte) error {
	stays := func(r keys.Recipient) bool {
		p := s.now.Load().profile
		gone := slices.ContainsFunc(drop(p), func(id []byte) bool { return bytes.Equal(id, r.ID[:]) })
		return !gone && !stranger(r, p)
	}
	err := s.renewing(ctx, stays, true, func(renew *renewal) error {
		return s.Update(ctx, func(t *Tx) error {
			if err := renew.ride(t); err != nil {
				return err
			}
			return t.rotateRoot(also, drop)
		})
	})
	if err != nil {
		return fmt.Errorf("rotate root key: %w", err)
	}
	return nil
}

func (t *Tx) rotateRoot(also func(*Tx) error, drop func(*profile) [][]byte) error {
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
	for _, d := range drop(t.base.profile) {
		if err := t.dropDevice(d); err != nil {
			return err
		}
	}
	ring.dropStrangers(t.currentProfile())
	t.note(EventKeysRotated)
	if also != nil {
		if err := also(t); err != nil {
			return err
		}
	}
	return t.wrapRoot()
}

// dropStrangers leaves among the recipients of ROOT the password, the recovery
// code and the devices of the profile.
func (r *keyring) dropStrangers(p *profile) {
	r.Recipients = slices.DeleteFunc(r.Recipients, func(x keys.Recipient) bool { return stranger(x, p) })
}

func stranger(x keys.Recipient, p *profile) bool {
	if x.Kind == keys.KindDevice {
		_, ok := p.device(x.ID[:])
		return !ok
	}
	return x.Kind != keys.KindPassword && x.Kind != keys.KindRecovery || x.ID != [16]byte{}
}

// currentProfile is the profile as of this transaction.
func (t *Tx) currentProfile() *profile {
	if t.users != nil {
		return t.users
	}
	return t.base.profile
}

// keepRoots forgets the ROOTs under which nothing lies any more, so that what
// somebody seals under one of them opens on no device.
func (n *snapshot) keepRoots() {
	roots := map[uint32][]byte{n.newest: n.roots[n.newest]}
	for _, o := range n.ring.Roots {
		roots[o.Version] = o.Key
	}
	n.roots = roots
}

// follow checks that a head names the ROOTs that are known here. Whoever had a
// device that was dropped can wrap a ROOT of their own making for the others,
// since he had the keyring, but cannot name the one that came after his.
func (h *head) follow(roots map[uint32][]byte) error {
	for version, root := range roots {
		id, err := rootID(root)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(h.roots, func(m rootMark) bool { return m.version == version && m.id == id }) {
			return &RollbackError{Reason: "the state lies under a root key that does not follow the one seen before"}
		}
	}
	return nil
}
