package state

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// resealDirections seals them, where there are any, to whom ROOT is wrapped for
// now. Whoever replaces a password or a device does so; where that was cut off,
// Maintain of any device that can open them.
func (s *Store) resealDirections(ctx context.Context) error {
	_, d, err := s.fetchDirections(ctx)
	switch {
	case errors.Is(err, errNotMovable), problemCode(err) == keyapi.CodeNoRoute:
		return nil
	case err != nil:
		return err
	case d.Counter == 0:
		return nil
	}
	return s.changeDirections(ctx, func(d *directions) error {
		ring := s.now.Load().ring
		if d.Root != nil && !slices.ContainsFunc(d.For, func(r keys.Recipient) bool { return !ring.opensWith(r) }) {
			d.Root, d.RootVersion, d.For = nil, 0, nil // the state opens with what was set
			return nil
		}
		if s.sealedRight(d) {
			return errNoChange
		}
		return nil
	}, nil)
}

// resealLater is resealDirections where nothing depends on it at once.
func (s *Store) resealLater(ctx context.Context) {
	if err := s.resealDirections(ctx); err != nil {
		s.warn(ctx, "directions to the state are sealed to former secrets still", err)
	}
}

// sealedRight tells whether directions are sealed to whom they should be, as of the
// last Refresh.
func (s *Store) sealedRight(d *directions) bool {
	return bytes.Equal(d.SealedFor, recipientsHash(append(slices.Clone(s.now.Load().ring.Recipients), d.For...)))
}

// leaked tells whether somebody may know a login who is no device of the user any
// more. Where there is a former one, the store may take that still, whoever knows it.
func (s *Store) leaked(l *storeLogin) bool { return len(l.Former) > 0 || s.knownElsewhere(l) }

// knownElsewhere is leaked of the secret that is named.
func (s *Store) knownElsewhere(l *storeLogin) bool {
	return l.knownBeside(s.now.Load().ring.Recipients)
}

func (l *storeLogin) knownBeside(list []keys.Recipient) bool {
	return slices.ContainsFunc(l.Known, func(id string) bool {
		return !slices.ContainsFunc(list, func(r keys.Recipient) bool { return r.Kind == keys.KindDevice && hexID(r.ID) == id })
	})
}
