package state

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// CancelMove gives a move up: the state stays where it is, writes go on there, and
// what the new store has got is deleted. ErrMoveDecided: the old store has let go.
//
// The old store decides between this and a device that moves on: it stays, and then
// never goes by this move, or has gone. So it matters to nobody whether the new store
// can be reached, or what it has.
func (s *Store) CancelMove(ctx context.Context) error {
	if err := s.cancelMove(ctx, 0); err != nil {
		return fmt.Errorf("give up the move: %w", err)
	}
	return nil
}

// cancelMove gives up the move of this number; 0: whichever is under way.
func (s *Store) cancelMove(ctx context.Context, move uint64) error {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where the state is
		return err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return err
	}
	if d.Moving == "" || move != 0 && d.Move != move {
		return ErrNoMove
	}
	if s.depot.Load().id == d.Moving {
		gone, err := s.hasGone(ctx, d)
		switch {
		case err != nil:
			return err
		case gone:
			return ErrMoveDecided
		}
	}
	e := ending{Move: d.Move, From: d.At, To: d.Moving}
	err = s.changeDirections(ctx, func(now *directions) error {
		if now.Moving != e.To || now.Move != e.Move || now.At != e.From {
			return ErrMoveDecided
		}
		now.over(e)
		return nil
	}, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("move-given-up")
	from, err := s.depotOf(d, e.From)
	if err != nil {
		return err
	}
	went, err := s.keepAt(ctx, from, e.Move)
	if err != nil {
		return err
	}
	if went {
		if err := s.noteWent(ctx, e.Move); err != nil {
			return err
		}
		if err := s.ResumeMove(ctx, nil); err != nil {
			return err
		}
		return ErrMoveDecided
	}
	crashpoint.Here("move-stayed")
	s.tidyUp(ctx) // what the new store has; where it cannot be reached, Maintain does
	return nil
}
