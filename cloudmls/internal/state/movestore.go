package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// StoreTarget is where the state is to be.
type StoreTarget struct {
	// Origin of a store of the user's own, an https URL; "": the home store.
	Origin string
	// Username that is registered there, with Invitation where that is needed.
	Username, Invitation string
}

// MoveStage is a part of a move.
type MoveStage string

// Stages of a move, in order.
const (
	MoveNamed    MoveStage = "named"    // in the directions, for all devices
	MoveReady    MoveStage = "ready"    // the user is known at the new store
	MoveCopying  MoveStage = "copying"  // writes wait from here on
	MoveVerified MoveStage = "verified" // the new store has all of it
	MoveDone     MoveStage = "done"
)

// MoveProgress is how far a move is.
type MoveProgress struct {
	Stage       MoveStage
	Done, Total int // objects
}

// StoreStatus is where the state is.
type StoreStatus struct {
	Origin   string // of the store that has the state
	Username string // there; "" at the home store
	Home     bool
	Moving   string // origin of the store that it is moving to; "": it is not
	Objects  int
	Bytes    int64
}

var (
	// ErrNoMove: there is no move under way.
	ErrNoMove = errors.New("the state is not moving")
	// ErrMoveBusy: another move is under way.
	ErrMoveBusy = errors.New("the state is moving to another store already: finish that, or give it up")
	// ErrMovesLeft: of so many moves that are over something is left to do that no
	// other one can be noted.
	ErrMovesLeft = errors.New("too much is left to do of earlier moves, at stores that did not answer: make sure that they can be reached, finish those moves, then move again")
	// ErrMoveDecided: the old store has let go of the state.
	ErrMoveDecided = errors.New("the move cannot be given up any more: the state is at the new store")
	// ErrMoveGivenUp: another device gave the move up.
	ErrMoveGivenUp = errors.New("the move was given up on another device")
)

// TargetError says why a store cannot have the state.
type TargetError struct{ Reason string }

func (e *TargetError) Error() string { return "this store cannot take the state: " + e.Reason }

// WhereIs asks where the state is.
func (s *Store) WhereIs(ctx context.Context) (StoreStatus, error) {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where it is
		return StoreStatus{}, err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return StoreStatus{}, err
	}
	p := s.depot.Load()
	at, err := s.placeAt(ctx, p)
	if err != nil {
		return StoreStatus{}, err
	}
	st := StoreStatus{Origin: p.origin, Home: p.home(), Objects: at.Objects, Bytes: at.Bytes}
	if l, ok := d.login(p.id); ok {
		st.Username = l.Username
	}
	if d.Moving != "" {
		to, err := s.depotOf(d, d.Moving)
		if err != nil {
			return st, err
		}
		st.Moving = to.origin
	}
	return st, nil
}

// MoveStore moves the state to another store. It is cut off wherever it likes:
// ResumeMove, on this device or another one, goes on.
func (s *Store) MoveStore(ctx context.Context, to StoreTarget, progress func(MoveProgress)) error {
	id, err := s.nameTarget(ctx, to)
	if err != nil {
		return fmt.Errorf("move state: %w", err)
	}
	crashpoint.Here("move-named")
	if progress != nil {
		progress(MoveProgress{Stage: MoveNamed})
	}
	if err := s.ResumeMove(ctx, progress); err != nil {
		return err
	}
	if d := s.directions(); d.At != id {
		return fmt.Errorf("move state: %w", ErrMoveGivenUp)
	}
	return nil
}

// ResumeMove goes on with a move that this device or another one began, and tidies
// up after earlier ones; nothing where there is none. Every step may be taken twice.
// *TargetError: the new store cannot have the state, and the move was given up.
func (s *Store) ResumeMove(ctx context.Context, progress func(MoveProgress)) error {
	told := MoveProgress{}
	tell := func(p MoveProgress) { // each step may be taken more than once
		if progress != nil && p != told {
			told = p
			progress(p)
		}
	}
	for range maxAttempts {
		done, move, err := s.moveOn(ctx, tell)
		var refused *TargetError
		if errors.As(err, &refused) { // nothing will come of it, and writes wait
			switch e := s.cancelMove(ctx, move); {
			case errors.Is(e, ErrNoMove), errors.Is(e, ErrMoveDecided):
				continue // another device gave it up, or saw it through: what was seen there comes of that
			case e != nil:
				err = errors.Join(err, e)
			}
		}
		if done || err != nil {
			if err != nil {
				return fmt.Errorf("move state: %w", err)
			}
			return nil
		}
	}
	return ErrBusy
}

// takeOver is how long the writes of this device wait for another one to see its
// move through.
const takeOver = 2 * time.Minute

type resuming struct{}

// ResumeKnownMove is ResumeMove if the user has ever moved, as this device has met or
// home says.
func (s *Store) ResumeKnownMove(ctx context.Context) error {
	if s.directions().Counter == 0 && s.depot.Load().home() {
		_, d, err := s.fetchDirections(ctx)
		switch {
		case errors.Is(err, errNotMovable), errors.Is(err, errNotForUs), problemCode(err) == keyapi.CodeNoRoute:
			return nil
		case err != nil:
			return err
		case d.Counter == 0:
			return nil
		}
	}
	return s.ResumeMove(ctx, nil)
}

// unblock goes on with a move that has kept this device from writing for a while.
func (s *Store) unblock(ctx context.Context) {
	since := s.blocked.Load()
	if since == nil || s.cfg.Now().Sub(*since) < takeOver || ctx.Value(resuming{}) != nil {
		return
	}
	if err := s.ResumeMove(context.WithValue(ctx, resuming{}, true), nil); err != nil {
		s.warn(ctx, "a move of the state could not be finished on this device", err)
	}
}

// waits notes since when a move has kept this device from writing.
func (s *Store) waits() error {
	now := s.cfg.Now()
	s.blocked.CompareAndSwap(nil, &now)
	return ErrMoving
}

// moveOn looks at both stores and takes the next step. More than one device may
// do so at the same time: what each step needs, the store checks. move is the
// number of the move that was looked at.
func (s *Store) moveOn(ctx context.Context, progress func(MoveProgress)) (done bool, move uint64, err error) {
	_, failed := s.Refresh(ctx) // goes over to where the state is
	from := s.depot.Load()
	_, d, err := s.fetchDirections(ctx)
	switch {
	case err != nil:
		return false, 0, err
	case failed != nil:
		err = s.withoutOld(ctx, d, from, failed)
	case from.id != d.At:
		done, err = s.settleAt(ctx, d, from, progress)
	case d.Moving == "":
		s.tidyUp(ctx)
		done = true
	default:
		err = s.nextStep(ctx, d, from, progress)
	}
	return done, d.Move, err
}

// nextStep is for when the state is where a move begins.
func (s *Store) nextStep(ctx context.Context, d *directions, from *depot, progress func(MoveProgress)) error {
	to, err := s.depotOf(d, d.Moving)
	if err != nil {
		return err
	}
	at, err := s.placeAt(ctx, from)
	if err != nil {
		return err
	}
	leaving := at.Place == keyapi.PlaceLeaving
	switch {
	case at.Place == keyapi.PlaceGone: // Refresh goes over
		return nil
	case leaving && at.Move < d.Move:
		// An earlier one, that was given up. It ends before the new store is looked
		// at: what that has of it may be all there is as long as the old one can go.
		return unlessConflict(s.stay(ctx, from, at.Move))
	case leaving && at.Move != d.Move, !leaving && at.Place != keyapi.PlaceHere:
		if _, now, err := s.fetchDirections(ctx); err != nil || now.Counter != d.Counter {
			return err // another device was faster
		}
		return errStray
	}
	if err := s.readyTarget(ctx, d, to); err != nil {
		return unlessConflict(err)
	}
	progress(MoveProgress{Stage: MoveReady})
	if err := s.awaitedBy(ctx, d, to, at); err != nil {
		return unlessConflict(err)
	}
	if leaving {
		return unlessConflict(s.copyOver(ctx, d, from, to, progress))
	}
	if _, err = s.takeStep(ctx, from, keyapi.StoreMove{Change: keyapi.MoveLeave, Move: d.Move, To: to.origin}); err == nil {
		crashpoint.Here("store-leaving")
	}
	return unlessConflict(err)
}

// unlessConflict passes over that another device was faster.
func unlessConflict(err error) error {
	if problemCode(err) == keyapi.CodeConflict {
		return nil
	}
	return err
}

// withoutOld is for when the store that has the state, or had it, does not answer.
// If the new one has all of it, and home agrees that the move is not given up, it is
// seen through without the old one: that has taken no write since it was copied, and
// takes none any more.
func (s *Store) withoutOld(ctx context.Context, d *directions, old *depot, failed error) error {
	if d.Moving == "" || !d.Copied || d.At != old.id || old.home() || !silent(failed) {
		return failed
	}
	move, to := d.Move, d.Moving
	p, at, err := s.shows(ctx, d, to)
	if err != nil || at.Place != keyapi.PlaceHere || at.Move != move {
		return errors.Join(failed, err)
	}
	cur := s.depot.Load()
	s.depot.Store(p) // read there whom directions are sealed to; it takes no write before they name it
	err = s.changeDirections(ctx, func(d *directions) error {
		if d.At != old.id || !d.Copied || !d.arrived(move, to) {
			return errNoChange
		}
		return nil
	}, nil)
	if err != nil || s.directions().At != to {
		s.depot.Store(cur)
		return errors.Join(failed, err)
	}
	return nil
}
