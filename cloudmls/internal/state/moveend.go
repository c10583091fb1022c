package state

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// finishMove is for when the old store has let go: this device uses the new one.
func (s *Store) finishMove(ctx context.Context, d *directions, to *depot, progress func(MoveProgress)) error {
	if err := s.Update(ctx, noting(EventStoreMoved)); err != nil {
		return err
	}
	move := d.Move
	err := s.changeDirections(ctx, func(d *directions) error {
		if !d.arrived(move, to.id) {
			return errNoChange
		}
		return nil
	}, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("move-done")
	s.tidyUp(ctx)
	progress(MoveProgress{Stage: MoveDone})
	return nil
}

// settleAt is for when this device uses another store than the directions name. That
// one says which is right: it has let go, or this device was away and shows what the
// state was, or what a move that is under way has opened.
func (s *Store) settleAt(ctx context.Context, d *directions, cur *depot, progress func(MoveProgress)) (done bool, err error) {
	named, err := s.depotOf(d, d.At)
	if err != nil {
		return false, err
	}
	at, err := s.placeAt(ctx, named)
	if err != nil {
		return false, s.withoutOld(ctx, d, named, err)
	}
	id, ok := d.wentTo(at.Move)
	switch {
	case !ok || at.Place != keyapi.PlaceGone || id != cur.id:
		return false, s.switchOver(ctx, d)
	case d.Moving != "" && d.Move == at.Move:
		return true, s.finishMove(ctx, d, cur, progress)
	}
	return false, s.noteWent(ctx, at.Move)
}

// noteWent is for a move that was given up on one device while another one saw it
// through: the old store has let go. A move that was named since goes on from where
// the state is.
func (s *Store) noteWent(ctx context.Context, move uint64) error {
	return s.changeDirections(ctx, func(d *directions) error {
		i := slices.IndexFunc(d.Endings, func(e ending) bool { return e.Move == move })
		if i < 0 || d.Endings[i].Went || d.At != d.Endings[i].From {
			return errNoChange
		}
		d.Endings[i].Went = true
		d.At = d.Endings[i].To
		if d.Moving == d.At {
			d.Moving, d.Move, d.Copied = "", 0, false
		}
		return nil
	}, nil)
}

// tidyUp does what moves that are over, and devices that were dropped, have left to
// do. Nothing depends on it at once; what fails is tried again by Maintain.
func (s *Store) tidyUp(ctx context.Context) {
	_, d, err := s.fetchDirections(ctx)
	if err == nil {
		err = errors.Join(s.tidyEndings(ctx, d), s.renewLeaked(ctx), s.resealDirections(ctx))
	}
	if err != nil {
		s.warn(ctx, "something is left of an earlier move of the state", err)
	}
}

func (s *Store) tidyEndings(ctx context.Context, d *directions) error {
	var done []uint64
	var failed []error
	for _, e := range d.Endings {
		ended, err := s.tidyEnding(ctx, d, e)
		if ended {
			done = append(done, e.Move)
		}
		failed = append(failed, err)
	}
	if len(done) > 0 {
		failed = append(failed, s.changeDirections(ctx, func(d *directions) error {
			n := len(d.Endings)
			d.Endings = slices.DeleteFunc(d.Endings, func(e ending) bool { return slices.Contains(done, e.Move) })
			if len(d.Endings) == n {
				return errNoChange
			}
			return nil
		}, nil))
	}
	return errors.Join(failed...)
}

// tidyEnding makes both stores of a move that is over do what follows from how it
// ended. ended: there is nothing left to do.
func (s *Store) tidyEnding(ctx context.Context, d *directions, e ending) (ended bool, err error) {
	from, err := s.depotOf(d, e.From)
	if err != nil {
		return false, err
	}
	if e.Went {
		return s.letGo(ctx, from, e.Move)
	}
	to, err := s.depotOf(d, e.To)
	if err != nil {
		return false, err
	}
	if d.At == e.From { // else a later move has led on from there, so that this one cannot have
		went, err := s.keepAt(ctx, from, e.Move)
		switch {
		case err != nil:
			return false, err
		case went:
			return false, s.noteWent(ctx, e.Move)
		}
	}
	_, err = s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveAbandon, Move: e.Move})
	if l, ok := d.login(e.To); ok && !l.Registered && errors.Is(err, ErrStoreLogin) {
		return true, nil // the move did not come as far as that store
	}
	if unlessConflict(err) != nil {
		return false, err
	}
	return true, nil // a conflict: it has nothing of this move
}

// keepAt makes a store keep what was to leave it by a move. went: it has let go before.
func (s *Store) keepAt(ctx context.Context, from *depot, move uint64) (went bool, err error) {
	err = s.stay(ctx, from, move)
	if problemCode(err) != keyapi.CodeConflict {
		return false, err
	}
	at, err := s.placeAt(ctx, from)
	// Anything but this move: a later one has begun there, after this one.
	return err == nil && at.Place == keyapi.PlaceGone && at.Move == move, err
}

// letGo makes a store delete what has moved elsewhere.
func (s *Store) letGo(ctx context.Context, from *depot, move uint64) (ended bool, err error) {
	at, err := s.placeAt(ctx, from)
	if err != nil {
		return false, err
	}
	if at.Move != move || at.Place != keyapi.PlaceLeaving && (at.Place != keyapi.PlaceGone || at.Objects == 0) {
		return true, nil
	}
	_, err = s.takeStep(ctx, from, keyapi.StoreMove{Change: keyapi.MoveGo, Move: move, IndexHash: at.IndexHash})
	return err == nil, err
}
