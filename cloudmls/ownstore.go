package cloudmls

import (
	"context"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// StoreServer is a key server as it is asked for the user's state alone;
// *keyclient.Client is one.
type StoreServer = state.StoreServer

// StoreTarget is where the state is to be: a store of the user's own, by its
// origin and the user name that is registered there (with an invitation, where
// it wants one), or, with the zero value, the key server's own.
//
//	type StoreTarget struct {
//		Origin               string // an https URL
//		Username, Invitation string
//	}
type StoreTarget = state.StoreTarget

// StoreStatus is where the state is.
//
//	type StoreStatus struct {
//		Origin   string // of the store that has the state
//		Username string // there; "" at the key server's own
//		Home     bool   // it is the key server's own
//		Moving   string // origin of the store that it is moving to; "": it is not
//		Objects  int
//		Bytes    int64
//	}
type StoreStatus = state.StoreStatus

// MoveProgress is how far a move is. None is told twice in a row.
//
//	type MoveProgress struct {
//		Stage       MoveStage
//		Done, Total int // objects, where they are copied
//	}
type MoveProgress = state.MoveProgress

// MoveStage is a part of a move.
type MoveStage = state.MoveStage

// Stages of a move, in order.
const (
	MoveNamed    = state.MoveNamed    // all devices can know where it goes
	MoveReady    = state.MoveReady    // the user is known at the new store
	MoveCopying  = state.MoveCopying  // writes wait from here on; reading goes on
	MoveVerified = state.MoveVerified // the new store has all of it
	MoveDone     = state.MoveDone
)

// TargetError says why a store cannot have the state. The move is given up then. It is
// found with errors.As, as a pointer.
//
//	type TargetError struct{ Reason string }
type TargetError = state.TargetError

var (
	// ErrMoving: the state is moving to another store. It can be read; it is
	// written again when it has arrived. Nothing was changed.
	ErrMoving = state.ErrMoving
	// ErrNoMove: there is no move to give up.
	ErrNoMove = state.ErrNoMove
	// ErrMoveBusy: the state is moving somewhere else already.
	ErrMoveBusy = state.ErrMoveBusy
	// ErrMovesLeft: of too many earlier moves something is left to do, at stores that
	// did not answer; the error names them. When they do again, MoveStore goes on by
	// itself, and so do ResumeMove and Maintain.
	ErrMovesLeft = state.ErrMovesLeft
	// ErrMoveDecided: a move cannot be given up any more, the state is at the new
	// store.
	ErrMoveDecided = state.ErrMoveDecided
	// ErrMoveGivenUp: another device gave the move up.
	ErrMoveGivenUp = state.ErrMoveGivenUp
	// ErrStoreLogin: the store that has the state does not accept what the user's
	// devices sign in with there. Its operator may have removed the user.
	ErrStoreLogin = state.ErrStoreLogin
)

// Store tells where the user's state is.
func (c *Client) Store(ctx context.Context) (StoreStatus, error) {
	if err := c.usable(); err != nil {
		return StoreStatus{}, err
	}
	return c.store.WhereIs(ctx)
}

// MoveStore moves the user's state, all of it and as it is, to another store: one
// of the user's own, or back to the key server's. Devices that are online lose
// nothing: they read on meanwhile, their writes wait, and they follow by
// themselves, for which they need no password; nor does MoveStore. progress, if
// not nil, is called as it goes and must not call the Client.
//
// The user is registered at a store of their own under a random secret that the
// devices share. That store never sees the password or anything made from it. New
// devices find it with user name and password as before.
//
// The old store has everything until the new one was seen to have it. A move that
// is cut off is finished by ResumeMove or Maintain of any of the user's devices; one
// that the new store cannot take (its quota, say) is given up by CancelMove.
func (c *Client) MoveStore(ctx context.Context, to StoreTarget, progress func(MoveProgress)) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.store.MoveStore(ctx, to, progress)
}

// ResumeMove finishes a move that this device or another one began; it does
// nothing where there is none.
func (c *Client) ResumeMove(ctx context.Context, progress func(MoveProgress)) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.store.ResumeMove(ctx, progress)
}

// CancelMove gives up a move: the state stays where it is, and what the new store
// has got is deleted. ErrMoveDecided: the old store has let go already; ErrNoMove:
// there is none.
func (c *Client) CancelMove(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.store.CancelMove(ctx)
}
