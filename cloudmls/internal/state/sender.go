package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// sender remembers the newest version of a sender object that is known here,
// so that a Swap needs one request.
type sender struct {
	turn lock // held through a Swap, across the network

	mu    sync.Mutex
	known bool
	last  senderData
}

func (s *Store) sender(id keyapi.ObjectID) *sender {
	s.sendersMu.Lock()
	defer s.sendersMu.Unlock()
	x := s.senders[id]
	if x == nil {
		x = &sender{turn: newLock()}
		s.senders[id] = x
	}
	return x
}

func (x *sender) set(d senderData) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if d.deleted {
		x.known, x.last = false, senderData{}
	} else if !x.known || d.counter > x.last.counter {
		x.known, x.last = true, senderData{floor: d.floor, data: slices.Clone(d.data)}
	}
}

func (x *sender) get() (senderData, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return senderData{floor: x.last.floor, data: slices.Clone(x.last.data)}, x.known
}

func (x *sender) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known = false
}

// fetchSender reads a sender object from the server, compares it with what this
// device has seen of it, and notes what it sees before anything depends on it.
// errStale: the server says that there is none.
func (s *Store) fetchSender(ctx context.Context, n *snapshot, k Key) ([]byte, floor, error) {
	id := objectID(n.ring.Index, k)
	// The floor first: it may rise while the answer is under way.
	low, err := s.locals.loadFloor(s.scope.User, localKey(id))
	if err != nil {
		return nil, floor{}, err
	}
	got, err := s.objects(ctx, []keyapi.ObjectID{id})
	if err != nil {
		return nil, floor{}, err
	}
	o, ok := got[id]
	if !ok {
		return nil, floor{}, errStale
	}
	now := floor{o.Counter, envelope.Hash(o.Data)}
	switch {
	case now.counter < low.counter:
		return nil, floor{}, s.trip(&RollbackError{Reason: "an older sender object was served", Seen: low.counter, Got: now.counter})
	case now.counter == low.counter && now.hash != low.hash:
		return nil, floor{}, s.trip(&RollbackError{Reason: "another sender object was served at a counter that was seen before", Seen: low.counter, Got: now.counter})
	}
	key, data, err := s.open(n, version{id, now.counter, now.hash}, o.Data)
	if err != nil {
		return nil, floor{}, err
	}
	if key != k {
		return nil, floor{}, fmt.Errorf("open object: %w", errObject)
	}
	h, err := envelope.ParseHeader(o.Data)
	if err != nil {
		return nil, floor{}, err
	}
	if now.counter == low.counter+1 && low.counter > 0 && h.Previous != low.hash {
		return nil, floor{}, s.trip(&RollbackError{Reason: "a sender object does not follow the one seen before", Seen: low.counter, Got: now.counter})
	}
	if now != low {
		if err := s.noteSender(id, now); err != nil {
			return nil, floor{}, err
		}
	}
	s.sender(id).set(senderData{floor: now, data: data})
	return data, now, nil
}

func (s *Store) noteSender(id keyapi.ObjectID, f floor) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.wiped.Load() {
		return ErrClosed
	}
	low, err := s.locals.loadFloor(s.scope.User, localKey(id))
	if err != nil {
		return err
	}
	if f.counter <= low.counter {
		return nil // noted meanwhile
	}
	err = s.cfg.Local.Update(func(w Writer) error { return s.locals.putFloor(w, s.scope.User, localKey(id), f) })
	if err != nil {
		return fmt.Errorf("write local store: %w", err)
	}
	return nil
}

// currentSender gives the version that a transaction replaces.
func (s *Store) currentSender(ctx context.Context, t *Tx, k Key, exists bool) (version, error) {
	id := objectID(t.base.ring.Index, k)
	if !exists {
		return version{id: id}, nil
	}
	d, known := s.sender(id).get()
	if read, ok := t.senders[id]; ok && (!known || d.counter != read) {
		return version{}, errStale // changed between Tx.Get and now
	}
	if known {
		return version{id, d.counter, d.hash}, nil
	}
	_, f, err := s.fetchSender(ctx, t.base, k)
	return version{id, f.counter, f.hash}, err
}

// errAbsent never leaves Swap.
var errAbsent = errors.New("no sender object yet")

// Swap changes one sender object without touching the head: fn gets the
// current data (nil where the verified state has none) and returns the new. fn
// runs again when another device was faster; ErrBusy after a bounded number of
// times. When Swap returns nil, the new counter is durable on this device, so a
// server that winds the object back is found out. When it fails, fn's result
// must not be used: whether it was stored may not be known. Swaps of one
// object run one after another, those of different objects at the same time.
func (s *Store) Swap(ctx context.Context, k Key, fn func(old []byte) ([]byte, error)) error {
	if err := k.check(); err != nil {
		return err
	}
	if k.Type != TypeSender {
		return fmt.Errorf("object type %d cannot be swapped, only sender objects", k.Type)
	}
	s.unblock(ctx)
	err := s.steady(ctx, func(n *snapshot) error {
		if _, ok := n.view.find(objectID(n.ring.Index, k)); !ok {
			return errAbsent
		}
		return s.swap(ctx, n, k, fn)
	})
	if err != errAbsent {
		return err
	}
	// The head has to say that there is one now; that takes an Update. Another
	// device may create it meanwhile, then this is an ordinary change.
	return s.Update(ctx, func(t *Tx) error {
		old, err := t.Get(k)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		data, err := fn(old)
		if err != nil {
			return err
		}
		return t.Put(k, data)
	})
}

func (s *Store) swap(ctx context.Context, n *snapshot, k Key, fn func(old []byte) ([]byte, error)) error {
	id := objectID(n.ring.Index, k)
	x := s.sender(id)
	if err := x.turn.acquire(ctx); err != nil {
		return err
	}
	defer x.turn.release()
	for attempt := range maxAttempts * 4 {
		if attempt > 0 {
			if err := s.backOff(ctx, attempt); err != nil {
				return err
			}
		}
		if err := s.usable(); err != nil {
			return err
		}
		old, known := x.get()
		if !known {
			data, f, err := s.fetchSender(ctx, n, k)
			if err != nil {
				return err
			}
			old = senderData{floor: f, data: data}
		}
		data, err := fn(old.data)
		if err != nil {
			return err
		}
		err = s.store(ctx, n, k, old.floor, data)
		moved := problemCode(err) == keyapi.CodeMoved
		if moved && attempt < maxAttempts {
			x.forget()
			if e := s.whereabouts(ctx); e != nil && !errors.Is(e, ErrMoving) {
				return fmt.Errorf("%w (%w)", e, err)
			}
			continue
		}
		if moved {
			return s.waits()
		}
		if problemCode(err) != keyapi.CodeConflict {
			if err != nil {
				x.forget()
			}
			return err
		}
		x.forget()
		if differs(err, bootstrapID(TypeWrap)) {
			return errStale // the devices or ROOT changed: look at the state first
		}
	}
	return ErrBusy
}

// differs tells whether a conflict names an object.
func differs(err error, id keyapi.ObjectID) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && slices.ContainsFunc(p.Have, func(e keyapi.Expect) bool { return e.ID == id })
}

// store seals data as the successor of old and sends it.
func (s *Store) store(ctx context.Context, n *snapshot, k Key, old floor, data []byte) error {
	if len(data) > MaxData {
		return fmt.Errorf("object of %d octets exceeds the limit of %d", len(data), MaxData)
	}
	id := objectID(n.ring.Index, k)
	v, b, err := s.sealWrite(n, nil, write{key: k, data: data}, version{id, old.counter, old.hash})
	if err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	p := &step{wire: keyapi.Tx{Put: []keyapi.Object{{ID: id, Counter: v.counter, Data: b}}}}
	// The head does not cover sender objects, so nothing else keeps a device that
	// has not heard of a new ROOT from writing under the one before, which the
	// others are about to destroy: with ROOT, the wraps change.
	wraps, ok := n.view.find(bootstrapID(TypeWrap))
	if ok {
		p.wire.Expect = []keyapi.Expect{{ID: wraps.id, Counter: wraps.counter}}
	}
	if err := s.send(ctx, p); err != nil {
		return err
	}
	crashpoint.Here("reservation-accepted")
	now := floor{v.counter, v.hash}
	if err := s.noteSender(id, now); err != nil {
		return fmt.Errorf("swap: accepted by the server, but not noted here: %w", err)
	}
	crashpoint.Here("reservation-noted")
	s.sender(id).set(senderData{floor: now, data: data})
	return nil
}
