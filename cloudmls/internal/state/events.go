package state

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// EventKind says what happened to the user's keys.
type EventKind string

// Kinds of events.
const (
	EventDeviceAdded   EventKind = "device added"
	EventDeviceRemoved EventKind = "device removed"
	EventPassword      EventKind = "password changed"
	EventRecoveryCode  EventKind = "recovery code replaced"
	EventRecovered     EventKind = "signed in with the recovery code"
	EventKeysRotated   EventKind = "keys rotated"
	EventStoreMoved    EventKind = "state moved to another store"
	EventTokenReused   EventKind = "session token presented twice"
)

// maxEvents is how many events are remembered.
const maxEvents = 64

// event is an entry of the keyring.
type event struct {
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Device string    `json:"device,omitempty"` // name of the device that it was done on, or that it is about
}

// Event is something that the user should hear of on every device, lest it was
// somebody else.
type Event struct {
	At     time.Time
	Kind   EventKind
	Device string
}

// note adds an event; the oldest makes room.
func (r *keyring) note(e event) {
	r.Events = append(r.Events, e)
	r.Events = r.Events[max(0, len(r.Events)-maxEvents):]
}

// note adds an event of this device.
func (t *Tx) note(k EventKind) {
	t.changeRing().note(event{At: t.store.cfg.Now().UTC(), Kind: k, Device: t.store.cfg.DeviceName})
}

func noting(k EventKind) func(*Tx) error {
	return func(t *Tx) error {
		t.note(k)
		return nil
	}
}

// Events lists what happened as of the last Refresh, oldest first: what the devices
// have noted, and what the key server tells of sessions, which is its word alone.
func (s *Store) Events() []Event {
	var list []Event
	if n := s.now.Load(); n != nil {
		for _, e := range n.ring.Events {
			list = append(list, Event(e))
		}
	}
	if told := s.session.notices.Load(); told != nil {
		for _, n := range *told {
			list = append(list, eventOf(n))
		}
	}
	slices.SortStableFunc(list, func(a, b Event) int { return a.At.Compare(b.At) })
	return list
}

// eventOf is a notice of the key server. Kinds that are not known stay what they are
// called, for people to be told that something happened.
func eventOf(n keyapi.SessionNotice) Event {
	e := Event{At: n.At, Kind: EventTokenReused, Device: n.Device.Name}
	if n.Kind != keyapi.NoticeTokenReused {
		e.Kind = EventKind("session: " + n.Kind[:min(len(n.Kind), 64)])
	}
	if len(e.Device) > 128 || strings.ContainsFunc(e.Device, func(r rune) bool { return !unicode.IsPrint(r) }) {
		e.Device = "a device whose name cannot be shown"
	}
	return e
}
