package cloudmls

import "github.com/cloudmls/gateway/cloudmls/internal/state"

// Event is something that happened to the user's keys on one of the devices (the last
// 64 are kept), and
// that people should hear of on every device, lest it was somebody else.
//
//	type Event struct {
//		At     time.Time // by the clock of the device that noted it
//		Kind   EventKind
//		Device string // name (Options.DeviceName) of the device that did it, or that it is about; may be ""
//	}
type Event = state.Event

// EventKind says what happened.
type EventKind = state.EventKind

// Kinds of events.
const (
	EventDeviceAdded   = state.EventDeviceAdded   // Device is the new one
	EventDeviceRemoved = state.EventDeviceRemoved // Device is the removed one
	EventPassword      = state.EventPassword
	EventRecoveryCode  = state.EventRecoveryCode
	EventRecovered     = state.EventRecovered // somebody signed in with the recovery code
	EventKeysRotated   = state.EventKeysRotated
	EventStoreMoved    = state.EventStoreMoved // the state is at another store (Client.Store)
	// EventTokenReused: a token that renews the session of Device was presented twice,
	// so somebody may have copied it; the session has ended. The key server says so.
	EventTokenReused = state.EventTokenReused
)

// Events lists the last events, oldest first, as of the last Sync. A device that
// was signed out by one sees it after it signed in again.
func (c *Client) Events() []Event { return c.store.Events() }
