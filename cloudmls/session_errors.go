package cloudmls

import "github.com/cloudmls/gateway/cloudmls/internal/state"

// Errors of signing in, and of what the key server shows.
var (
	// ErrNewDevice: nobody has signed in on this device; Open or Register does.
	ErrNewDevice = state.ErrNoVault
	// ErrCredentials: wrong user name or password. A device with another
	// Options.Origin than the one that the user registered with is told the same: what
	// the password is turned into depends on it.
	ErrCredentials = state.ErrCredentials
	// ErrSignedOut: the session ended; Open continues with the password.
	// Cached messages remain readable.
	ErrSignedOut = state.ErrSignedOut
	// ErrDropped: this device was taken out of the user's devices. What is cached
	// can still be read; Open with the password makes it one again.
	ErrDropped = state.ErrDropped
	// ErrUnfinished: a registration was interrupted; Register continues it.
	ErrUnfinished = state.ErrUnfinished
	// ErrOtherUser: this device belongs to another user.
	ErrOtherUser = state.ErrOtherUser
	// ErrSignInChanged: the key server changed what this device pinned at its
	// first sign-in. Nothing derived from the password was sent.
	ErrSignInChanged = state.ErrPinned
)

// RollbackError says that the key server shows a state that contradicts what
// this device has seen. Nothing is sent any more. It is found with errors.As, as a
// pointer.
//
//	type RollbackError struct {
//		Reason    string // what contradicts, without names
//		Seen, Got uint64 // counters, where it is one of counters
//	}
type RollbackError = state.RollbackError
