package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxDirectionTries bounds how often a change of the directions is tried against
// other devices.
const maxDirectionTries = 8

// errNoChange makes changeDirections leave the directions as they are, and succeed.
var errNoChange = errors.New("directions stay as they are")

// changeDirections applies fn to the directions by compare-and-swap. to says whom
// they are sealed to, given whom ROOT is wrapped for; nil: to these. The state is
// read between reading and writing them: who replaces a password or a device
// changes the state first, then the directions, so that nobody writes them for
// recipients that were replaced.
func (s *Store) changeDirections(ctx context.Context, fn func(d *directions) error, to func([]keys.Recipient) []keys.Recipient) error {
	for try := range maxDirectionTries {
		if try > 0 {
			if err := s.backOff(ctx, try); err != nil {
				return err
			}
		}
		_, d, err := s.fetchDirections(ctx)
		if err != nil {
			return err
		}
		next := d.clone()
		if err := fn(next); errors.Is(err, errNoChange) {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := s.Refresh(ctx); err != nil {
			return err
		}
		list := slices.Clone(s.now.Load().ring.Recipients)
		if to != nil {
			list = to(list)
		}
		list = append(list, next.For...)
		next.Counter++
		next.sealedTo(list)
		x := keyapi.Directions{Counter: next.Counter}
		if x.Data, err = next.seal(next.Counter, list, s.scope, s.slot); err != nil {
			return fmt.Errorf("directions to the state: %w", err)
		}
		err = s.sendDirections(ctx, x)
		if problemCode(err) == keyapi.CodeConflict {
			continue
		}
		if err != nil {
			return fmt.Errorf("change directions to the state: %w", err)
		}
		return s.noteDirections(next)
	}
	return ErrBusy
}

// sendDirections sends the identical octets until there is an answer.
func (s *Store) sendDirections(ctx context.Context, x keyapi.Directions) (err error) {
	for range maxSends {
		err = s.atMovable(ctx, s.homeDepot(), func(ctx context.Context, srv StoreServer, token string) error {
			_, err := srv.SetDirections(ctx, token, x)
			return err
		})
		if err == nil || settled(err) || ctx.Err() != nil || errors.Is(err, errNotMovable) {
			return err
		}
	}
	return err
}
