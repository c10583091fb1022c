package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrMoving means that the state is moving to another store: it can be read, and
// is not written until it has arrived. Nothing was changed.
var ErrMoving = errors.New("the state is moving to another store; it is written again when it has arrived")

// errStray: a store sends this device where no device of the user said to go.
var errStray = errors.New("a store says that the state is elsewhere, and no device of the user says where: it is not followed")

// maxFollows bounds how often one call is sent on.
const maxFollows = 3

// directions are those that this device knows. They are not changed.
func (s *Store) directions() *directions {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	if s.vault.Directions == nil {
		return noDirections(0)
	}
	return s.vault.Directions
}

// noteDirections keeps newer ones; on a device that is about to sign in, with the
// vault.
func (s *Store) noteDirections(d *directions) error {
	s.vaultMu.Lock()
	have, fresh := s.vault.Directions, s.vault.Slot == 0
	if have != nil && have.Counter >= d.Counter {
		s.vaultMu.Unlock()
		return nil
	}
	if fresh {
		next := *s.vault
		next.Directions = d
		s.vault = &next
	}
	s.vaultMu.Unlock()
	if fresh {
		return nil
	}
	return s.changeVault(func(v *vault) {
		if v.Directions == nil || v.Directions.Counter < d.Counter {
			v.Directions = d
		}
	})
}

// fetchDirections asks the home store where the objects are: its own word, and
// the devices'. Older directions than this device has seen are refused.
func (s *Store) fetchDirections(ctx context.Context) (keyapi.StorePlace, *directions, error) {
	var at keyapi.StorePlace
	err := s.atMovable(ctx, s.homeDepot(), func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.StorePlace(ctx, token)
		return err
	})
	if err != nil {
		return at, nil, fmt.Errorf("ask where the state is: %w", err)
	}
	d, err := s.readDirections(at.Directions)
	return at, d, err
}

// readDirections opens and keeps what the home store shows.
func (s *Store) readDirections(x *keyapi.Directions) (*directions, error) {
	if x == nil {
		x = &keyapi.Directions{}
	}
	have := s.directions()
	switch {
	case x.Counter < have.Counter:
		return nil, &RollbackError{Reason: "older directions to the state were served", Seen: have.Counter, Got: x.Counter}
	case x.Counter == have.Counter:
		return have, nil
	} // what is empty is sealed too: a counter alone is not believed
	ws, err := s.openers()
	if err != nil {
		return nil, err
	}
	d, err := openDirections(*x, s.scope, ws...)
	if err != nil {
		return nil, err
	}
	return d, s.noteDirections(d)
}

// openers are what directions can be opened with here: what the user signs in
// with at this moment, and the device's own key.
func (s *Store) openers() ([]*keys.Wrapper, error) {
	own, err := s.deviceWrapper()
	if err != nil {
		return nil, err
	}
	if w := s.opener.Load(); w != nil {
		return []*keys.Wrapper{w, own}, nil
	}
	return []*keys.Wrapper{own}, nil
}

func (s *Store) homeDepot() *depot {
	p, _ := s.depotOf(nil, atHome) // never fails
	return p
}

// findDepot makes a device that signs in look where the state is. One that has
// signed in before knows; what it does not know yet, the stores and home tell.
func (s *Store) findDepot(ctx context.Context, w *keys.Wrapper, known bool) error {
	s.opener.Store(w)
	if known {
		return nil
	}
	at, d, err := s.fetchDirections(ctx)
	switch {
	case errors.Is(err, errNotMovable), problemCode(err) == keyapi.CodeNoRoute:
		return nil // nothing was ever moved from there
	case errors.Is(err, errNotForUs) && at.Place == keyapi.PlaceHere:
		// A secret was replaced, and the device that did it came no further. Others
		// seal them anew; what the head says is verified as ever. A home store
		// that shows octets of its own here could as well show none.
		s.warn(ctx, "directions to the state do not open with this secret yet and are passed over", err)
		return nil
	case err != nil:
		return err
	case d.Counter == 0 && at.Place == keyapi.PlaceGone:
		return errStray
	}
	p, err := s.depotOf(d, d.At)
	if err != nil {
		return err
	}
	s.depot.Store(p)
	return nil
}
