package session

import (
	"maps"
	"slices"
	"sync"
)

// Index keeps, per mailbox, which messages are sealed and what was shown of
// them. It is a cache but for the stub entries, which keep a UID's content
// from changing. Safe for concurrent use: several connections may have the
// same mailbox open. Implementations store it sealed.
type Index interface {
	// Load returns what is known; a zero State when nothing is. A State of
	// another uidValidity must not be returned, and may be deleted.
	Load(mailbox string, uidValidity uint32) (State, error)
	// Update merges a change, durably before it returns when it contains a
	// stub entry. ClassifiedTo only grows.
	Update(mailbox string, uidValidity uint32, c Change) error
}

// State is what an Index knows of a mailbox.
type State struct {
	// ClassifiedTo: every message with a UID up to this one that is not in
	// Sealed is a plain message.
	ClassifiedTo uint32
	Sealed       map[uint32]Entry
}

// Change is merged into a State: entries put replace those of the same UID, but
// for Broken ones, which only a Broken one replaces.
type Change struct {
	ClassifiedTo uint32
	Put          map[uint32]Entry
	Delete       []uint32
}

// Entry is one sealed message.
type Entry struct {
	// Layout is overlay.Layout in text form.
	Layout string
	// Opened tells that Keywords and Ref are known.
	Opened   bool
	Keywords []string
	Ref      string
	// StubKey is not empty when the message was shown as a stub.
	StubKey   string
	Temporary bool
	// Broken tells that the message was shown opened before, until what the
	// provider stores was found damaged: StubKey is what is shown for good.
	Broken bool
}

// MemoryIndex is an Index in memory. Its zero value is empty and ready.
type MemoryIndex struct {
	mu    sync.Mutex
	boxes map[string]memoryBox
}

type memoryBox struct {
	uidValidity uint32
	state       State
}

var _ Index = (*MemoryIndex)(nil)

// Load implements Index.
func (x *MemoryIndex) Load(mailbox string, uidValidity uint32) (State, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b, ok := x.boxes[mailbox]
	if !ok || b.uidValidity != uidValidity {
		return State{}, nil
	}
	return State{ClassifiedTo: b.state.ClassifiedTo, Sealed: maps.Clone(b.state.Sealed)}, nil
}

// Update implements Index.
func (x *MemoryIndex) Update(mailbox string, uidValidity uint32, c Change) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b, ok := x.boxes[mailbox]
	if !ok || b.uidValidity != uidValidity {
		b = memoryBox{uidValidity: uidValidity}
	}
	b.state.Merge(c)
	if x.boxes == nil {
		x.boxes = make(map[string]memoryBox)
	}
	x.boxes[mailbox] = b
	return nil
}

// Merge applies a change to s: what an implementation of Index does.
func (s *State) Merge(c Change) {
	s.ClassifiedTo = max(s.ClassifiedTo, c.ClassifiedTo)
	if s.Sealed == nil {
		s.Sealed = make(map[uint32]Entry)
	}
	for uid, e := range c.Put {
		if s.Sealed[uid].Broken && !e.Broken {
			continue // another connection has just opened its control part
		}
		e.Keywords = slices.Clone(e.Keywords)
		s.Sealed[uid] = e
	}
	for _, uid := range c.Delete {
		delete(s.Sealed, uid)
	}
}
