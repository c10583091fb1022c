package state

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// CancelMove gives a move up: the state stays where it is, writes go on there, and
// what the new store has got is deleted. ErrMoveDecided: the old store has let go.
//
// The old store decides between this and a device that moves on: it stays, and then
// does not go, or has gone. So it matters to nobody whether the new store can be
// reached, or what it has.
func (s *Store) CancelMove(ctx context.Context) error {
	if err := s.cancelMove(ctx); err != nil {
		return fmt.Errorf("give up the move: %w", err)
	}
	return nil
}

func (s *Store) cancelMove(ctx context.Context) error {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where the state is
		return err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return err
	}
	if d.Moving == "" {
		return ErrNoMove
	}
	from, err := s.depotOf(d, d.At)
	if err != nil {
		return err
	}
	to, err := s.depotOf(d, d.Moving)
	if err != nil {
		return err
	}
	if s.depot.Load() == to {
		return ErrMoveDecided
	}
	err = s.changeDirections(ctx, func(now *directions) error {
		if now.Moving != to.id || now.At != from.id {
			return ErrMoveDecided
		}
		now.Moving = ""
		return nil
	}, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("move-given-up")
	at, err := s.placeAt(ctx, from)
	if err == nil && at.Place == keyapi.PlaceLeaving {
		if err = s.stay(ctx, from); problemCode(err) == keyapi.CodeConflict {
			at, err = s.placeAt(ctx, from)
		}
	}
	if err != nil {
		return err
	}
	if at.Place == keyapi.PlaceGone {
		if err := s.ResumeMove(ctx, nil); err != nil {
			return err
		}
		return ErrMoveDecided
	}
	s.discard(ctx, to, from)
	return nil
}

// discard deletes what a move that was given up has brought to a store. It is for
// that store's room alone; where it cannot be reached, nothing depends on it.
func (s *Store) discard(ctx context.Context, to, from *depot) {
	at, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveAbandon})
	if problemCode(err) == keyapi.CodeConflict { // not arriving: opened, or nothing came
		if at, err = s.placeAt(ctx, to); err == nil && at.Place == keyapi.PlaceHere && at.Objects > 0 {
			at, err = s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveLeave, To: from.origin})
		}
		if err == nil && at.Place == keyapi.PlaceLeaving {
			_, err = s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveGo, IndexHash: at.IndexHash})
		}
	}
	if err != nil {
		s.cfg.Logger.DebugContext(ctx, "what a move has brought to a store was not deleted there", "err", err)
	}
}
