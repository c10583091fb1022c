package state

import (
	"errors"
	"fmt"
)

// ErrNotFound means that the verified head proves that there is no such
// object. No answer or failure of the key server leads to it.
var ErrNotFound = errors.New("no such object in the verified state")

// ErrSignedOut means that this device has no usable session any more: the
// refresh token was refused, or nobody has signed in. Cached objects remain
// readable; a sign-in with the password (Open) is needed for all else.
var ErrSignedOut = errors.New("signed out of the key server")

// ErrDropped means that this device is none of the user's devices any more: the
// state is sealed under a key that was not wrapped for it. Cached objects remain
// readable; Open with the password makes it a device again.
var ErrDropped = errors.New("this device was removed from the user's devices: sign in with the password")

// ErrCredentials means that the key server refused user name or password.
var ErrCredentials = errors.New("wrong user name or password")

// ErrRecovery means that the key server refused user name or recovery code: a
// wrong one, or one that was used before.
var ErrRecovery = errors.New("wrong user name or recovery code, or the code was used before")

// ErrBusy means that other devices changed the state faster than this one
// could, in each of a bounded number of attempts. Nothing was changed.
var ErrBusy = errors.New("state changed by other devices in every attempt")

// ErrNoVault means that this LocalStore holds no signed-in device.
var ErrNoVault = errors.New("this device has not signed in")

// ErrPinned means that the key server changed what this device pinned at its
// first sign-in: user id, salt, key derivation or its version.
var ErrPinned = errors.New("the key server changed pinned sign-in parameters")

// RollbackError means that the key server shows a state that contradicts what
// this device has seen or what the head says. It sticks to the Store: nothing
// is sent or changed through it any more.
type RollbackError struct {
	// Reason says what contradicts, without names of objects.
	Reason string
	// Seen and Got are counters, where the contradiction is one of counters.
	Seen, Got uint64
}

func (e *RollbackError) Error() string {
	if e.Seen == 0 && e.Got == 0 {
		return "key server state cannot be trusted: " + e.Reason
	}
	return fmt.Sprintf("key server state cannot be trusted: %s (seen %d, got %d)", e.Reason, e.Seen, e.Got)
}

// ErrNoState means that the key server holds no state of this user at all,
// though it knows the user. Nothing is created in its place: either a
// registration was interrupted, which Register on that device continues, or the
// server withholds the state.
var ErrNoState = errors.New("the key server holds no state of this user")

// ErrOtherUser means that this LocalStore belongs to another user's device.
var ErrOtherUser = errors.New("this device is signed in as another user; sign out first")

// ErrUnfinished means that a registration on this device was interrupted;
// Register with the same name continues it.
var ErrUnfinished = errors.New("the registration on this device was interrupted; register again to finish it")
