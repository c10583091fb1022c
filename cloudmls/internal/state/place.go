package state

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (s *Store) placeAt(ctx context.Context, p *depot) (at keyapi.StorePlace, err error) {
	err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.StorePlace(ctx, token)
		return err
	})
	if err != nil {
		return at, fmt.Errorf("ask a store for the state: %w", err)
	}
	return at, nil
}

func (s *Store) takeStep(ctx context.Context, p *depot, m keyapi.StoreMove) (at keyapi.StorePlace, err error) {
	err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.MoveStore(ctx, token, m)
		return err
	})
	return at, err
}

// stay makes a store keep the objects that were to leave it by a move.
func (s *Store) stay(ctx context.Context, p *depot, move uint64) error {
	if _, err := s.takeStep(ctx, p, keyapi.StoreMove{Change: keyapi.MoveStay, Move: move}); err != nil {
		return fmt.Errorf("give up a move: %w", err)
	}
	return nil
}

// use makes a store take writes to what a move has opened there. The caller knows
// that the old one has let go, or that the directions name the new one alone: till
// then nobody writes there, not even who has last heard of the state when it was there.
func (s *Store) use(ctx context.Context, p *depot, move uint64) error {
	if _, err := s.takeStep(ctx, p, keyapi.StoreMove{Change: keyapi.MoveUse, Move: move}); err != nil {
		return fmt.Errorf("write at another store: %w", err)
	}
	return nil
}

// switchTo goes over to another store, if it has the objects and shows no older
// head than was seen. What it shows is verified as ever by whoever reads it.
func (s *Store) switchTo(ctx context.Context, d *directions, id string) error {
	p, at, err := s.shows(ctx, d, id)
	if err != nil {
		return err
	}
	if at.Place == keyapi.PlaceHere && at.Move != 0 {
		if err := s.use(ctx, p, at.Move); err != nil {
			return err
		}
	}
	s.depot.Store(p)
	s.cfg.Logger.InfoContext(ctx, "the state is at another store now")
	return nil
}

// switchOver goes over to where the directions lead: to the store that they name, or
// on from there, if that has let go already and no device came as far as to note it.
func (s *Store) switchOver(ctx context.Context, d *directions) error {
	named, err := s.depotOf(d, d.At)
	if err != nil {
		return err
	}
	at, err := s.placeAt(ctx, named)
	if err != nil {
		return err
	}
	if id, ok := d.wentTo(at.Move); ok && at.Place == keyapi.PlaceGone {
		return s.switchTo(ctx, d, id)
	}
	return s.switchTo(ctx, d, d.At)
}

// shows looks whether a store has the objects, and no older head than was seen.
func (s *Store) shows(ctx context.Context, d *directions, id string) (*depot, keyapi.StorePlace, error) {
	p, err := s.depotOf(d, id)
	if err != nil {
		return nil, keyapi.StorePlace{}, err
	}
	at, err := s.placeAt(ctx, p)
	if err != nil {
		return nil, at, err
	}
	switch {
	case at.Place != keyapi.PlaceHere && at.Place != keyapi.PlaceLeaving,
		at.Move > d.Counter: // by a move that these directions know nothing of: they are old by now
		return nil, at, ErrMoving
	}
	low, err := s.locals.loadFloor(s.scope.User, keyHead)
	if err != nil {
		return nil, at, err
	}
	head := bootstrapID(TypeHead)
	var got keyapi.ObjectList
	err = s.at(ctx, p, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.Objects(ctx, token, []keyapi.ObjectID{head})
		return err
	})
	if err != nil {
		return nil, at, fmt.Errorf("read the state at another store: %w", err)
	}
	var v version
	if len(got.Objects) == 1 && got.Objects[0].ID == head {
		v = version{head, got.Objects[0].Counter, envelope.Hash(got.Objects[0].Data)}
	}
	var index []version
	if v.counter > 0 {
		index = []version{v}
	}
	if _, err := findHead(index, low); err != nil {
		return nil, at, s.trip(fmt.Errorf("go over to another store: %w", err))
	}
	return p, at, nil
}
