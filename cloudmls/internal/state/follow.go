package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

type stayPut struct{}

// atStore is at for the store that has the objects. Where that says that they
// moved, or says nothing, and the user's devices say where to, call runs there.
func (s *Store) atStore(ctx context.Context, call func(ctx context.Context, srv objectServer, token string) error) error {
	for range maxFollows {
		p := s.depot.Load()
		err := s.at(ctx, p, call)
		if err == nil || ctx.Value(stayPut{}) != nil {
			return err
		}
		switch {
		case problemCode(err) == keyapi.CodeMoved:
			if e := s.whereabouts(ctx); e != nil {
				return fmt.Errorf("%w (%w)", e, err)
			}
		case p.home() || !silent(err) || ctx.Err() != nil || !s.elsewhere(ctx, p):
			return err
		}
	}
	return ErrMoving
}

// silent tells whether a store of the user's own gave no answer that says anything
// of the objects: it is down, or was set up anew and does not know the user.
func silent(err error) bool {
	var alarm *RollbackError
	if errors.As(err, &alarm) || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, ErrStoreLogin) || errors.Is(err, errDirections) || errors.Is(err, errSession) {
		return true
	}
	switch problemCode(err) {
	case "", keyapi.CodeInternal, keyapi.CodeUnavailable, keyapi.CodeUnauthorized, keyapi.CodeNoRoute:
		return !errors.Is(err, ErrSignedOut) && !errors.Is(err, ErrClosed)
	}
	return false
}

// elsewhere goes over to where the directions at home say that the objects are, if
// that is another store than the silent one.
func (s *Store) elsewhere(ctx context.Context, silent *depot) bool {
	if err := s.follows.acquire(ctx); err != nil {
		return false
	}
	defer s.follows.release()
	if s.depot.Load() != silent {
		return true
	}
	ctx = context.WithValue(ctx, stayPut{}, true)
	_, d, err := s.fetchDirections(ctx)
	if err != nil || d.At == silent.id {
		return false
	}
	if err := s.switchOver(ctx, d); err != nil {
		s.warn(ctx, "the store that had the state does not answer, nor does the one that has it now", err)
		return false
	}
	return true
}

// whereabouts is for when the store says that the objects moved. nil: ask again,
// there or elsewhere; ErrMoving: later.
func (s *Store) whereabouts(ctx context.Context) error {
	if err := s.follows.acquire(ctx); err != nil {
		return err
	}
	defer s.follows.release()
	ctx = context.WithValue(ctx, stayPut{}, true)
	cur := s.depot.Load()
	var at keyapi.StorePlace
	var err error
	if !cur.home() { // before the directions: a move is named in them before it begins
		if at, err = s.placeAt(ctx, cur); err != nil {
			return err
		}
	}
	home, d, err := s.fetchDirections(ctx)
	if err != nil {
		return err
	}
	if cur.home() {
		at = home
	}
	opened := at.Place == keyapi.PlaceHere && at.Move != 0
	gone := false
	if opened && d.Moving == cur.id && d.Move == at.Move { // this device has been away since the state was here before
		if gone, err = s.hasGone(ctx, d); err != nil {
			return err
		}
	}
	switch {
	case opened && (gone || d.At == cur.id):
		return s.use(ctx, cur, at.Move)
	case d.At != cur.id: // another device saw it through
		return s.switchOver(ctx, d)
	}
	switch at.Place {
	case keyapi.PlaceHere:
		return nil
	case keyapi.PlaceLeaving:
		switch {
		case at.Move > d.Counter:
			return s.stray(ctx, cur, at)
		case d.Moving != "" && d.Move == at.Move:
			return ErrMoving
		}
		return unlessConflict(s.stay(ctx, cur, at.Move)) // a move that was given up, by a device that got no further
	case keyapi.PlaceGone:
		id, ok := d.wentTo(at.Move)
		if !ok || id == cur.id {
			return s.stray(ctx, cur, at)
		}
		return s.switchTo(ctx, d, id)
	}
	return s.stray(ctx, cur, at)
}

// stray is for what a store says and the directions know nothing of. They were read
// after it: the state may have come back there since. nil: it says something else by now.
func (s *Store) stray(ctx context.Context, cur *depot, said keyapi.StorePlace) error {
	at, err := s.placeAt(ctx, cur)
	switch {
	case err != nil:
		return err
	case at.Place != said.Place || at.Move != said.Move:
		return nil
	}
	return errStray
}

// hasGone asks the store that a move begins at whether it has let go by that move.
func (s *Store) hasGone(ctx context.Context, d *directions) (bool, error) {
	old, err := s.depotOf(d, d.At)
	if err != nil {
		return false, err
	}
	at, err := s.placeAt(ctx, old)
	return err == nil && at.Place == keyapi.PlaceGone && at.Move == d.Move, err
}
