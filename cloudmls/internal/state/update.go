package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxAttempts bounds how often an Update or a Swap is tried against other
// devices that are faster.
const maxAttempts = 16

// Update runs fn on a consistent view and applies what it changed in one
// atomic step, together with the head. Where another device was faster
// (conflict), the view is refreshed and fn runs again, a bounded number of
// times, then ErrBusy. An error of fn changes nothing and is returned as it
// is. epoch_conflict and instance_conflict are returned as *keyapi.Problem
// without running fn again. When the answer is lost, the identical octets are
// sent again; when it stays lost, the outcome is not known (the next Update
// finds out) and the error says so.
//
// Updates of one Store run one after another, across the network round trip
// too; fn must not call Update or Swap. When Update returns nil, the change is
// durable at the server and the floor that protects it is durable here.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) error {
	s.unblock(ctx)
	if err := s.updates.acquire(ctx); err != nil {
		return err
	}
	defer s.updates.release()
	var withheld *snapshot // the one whose objects the server did not give
	moved := false
	for attempt := range maxAttempts {
		if attempt > 0 {
			if err := s.backOff(ctx, attempt); err != nil {
				return err
			}
			if _, err := s.Refresh(ctx); err != nil {
				return err
			}
			if withheld != nil && s.now.Load() == withheld {
				return s.trip(&RollbackError{Reason: "an object that the head names was withheld"})
			}
			withheld = nil
		}
		if err := s.usable(); err != nil {
			return err
		}
		n := s.now.Load()
		if n == nil {
			return errors.New("update state: the key server must be reached first")
		}
		t := s.begin(ctx, n)
		err := fn(t)
		if t.failed != nil {
			if errors.Is(t.failed, errStale) {
				withheld = n
				continue
			}
			return t.failed
		}
		if err != nil {
			return err
		}
		err = s.commit(ctx, t)
		if problemCode(err) == keyapi.CodeMoved {
			if e := s.whereabouts(ctx); e != nil && !errors.Is(e, ErrMoving) {
				return fmt.Errorf("%w (%w)", e, err)
			}
			moved = true
			continue
		}
		moved = false
		s.blocked.Store(nil)
		if !errors.Is(err, errStale) && problemCode(err) != keyapi.CodeConflict {
			return err
		}
		t.forgetSenders()
		s.cfg.Logger.Debug("state update raced another device", "attempt", attempt+1)
	}
	if moved {
		return s.waits()
	}
	return ErrBusy
}

// forgetSenders makes the next attempt read its sender objects anew.
func (t *Tx) forgetSenders() {
	for id := range t.senders {
		t.store.sender(id).forget()
	}
	for id, w := range t.writes {
		if w.key.Type == TypeSender {
			t.store.sender(id).forget()
		}
	}
}

// step is one transaction ready to be sent, and what holds once it is accepted.
type step struct {
	wire    keyapi.Tx
	via     submitFunc // nil: Server.Tx
	next    *snapshot  // nil: the head does not change
	objects map[keyapi.ObjectID][]byte
	senders map[keyapi.ObjectID]senderData
}

type senderData struct {
	floor
	data    []byte
	deleted bool
}

func (s *Store) commit(ctx context.Context, t *Tx) error {
	p, err := s.prepare(ctx, t)
	if err != nil || p == nil {
		return err
	}
	crashpoint.Here("update-sealed")
	if err := s.send(ctx, p); err != nil {
		return err
	}
	crashpoint.Here("update-accepted")
	n := p.next
	if n == nil {
		n = t.base
	}
	floors := map[keyapi.ObjectID]floor{}
	for id, d := range p.senders {
		if !d.deleted {
			floors[id] = d.floor
		}
	}
	if err := s.publish(n, p.objects, floors); err != nil {
		return fmt.Errorf("update state: accepted by the server, but not noted here: %w", err)
	}
	crashpoint.Here("update-noted")
	for id, d := range p.senders {
		s.sender(id).set(d)
	}
	return nil
}

// prepare seals what t changed. nil: nothing changed.
func (s *Store) prepare(ctx context.Context, t *Tx) (*step, error) {
	p := &step{via: t.via, objects: map[keyapi.ObjectID][]byte{}, senders: map[keyapi.ObjectID]senderData{}}
	if len(t.writes) == 0 && t.ring == nil && t.users == nil && t.root == nil && t.commit == nil && len(t.acks) == 0 {
		return nil, nil
	}
	n := *t.base
	if err := t.finishCore(&n); err != nil {
		return nil, err
	}
	var put []version
	var del []keyapi.ObjectID
	ids := slices.SortedFunc(maps.Keys(t.writes), func(a, b keyapi.ObjectID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		w := t.writes[id]
		old, exists := t.base.view.find(id)
		if w.key.Type == TypeSender {
			var err error
			if old, err = s.currentSender(ctx, t, w.key, exists); err != nil {
				return nil, err
			}
		}
		if w.deleted {
			if exists {
				p.wire.Delete = append(p.wire.Delete, keyapi.Expect{ID: id, Counter: old.counter})
				p.senders[id] = senderData{deleted: true}
				del = append(del, id)
			}
			continue
		}
		v, b, err := s.sealWrite(&n, t, w, old)
		if err != nil {
			return nil, fmt.Errorf("update state: %w", err)
		}
		p.wire.Put = append(p.wire.Put, keyapi.Object{ID: id, Counter: v.counter, Data: b})
		if w.key.Type == TypeSender {
			p.senders[id] = senderData{floor: floor{v.counter, v.hash}, data: w.data}
			if exists {
				continue // the head only says that it exists
			}
		} else {
			p.objects[id] = b
		}
		put = append(put, v)
	}
	for id, c := range t.senders {
		if _, ok := t.writes[id]; !ok {
			p.wire.Expect = append(p.wire.Expect, keyapi.Expect{ID: id, Counter: c})
		}
	}
	return p, s.finishStep(p, t, &n, put, del)
}

// finishStep adds the head, Commit and acknowledgements.
func (s *Store) finishStep(p *step, t *Tx, n *snapshot, put []version, del []keyapi.ObjectID) error {
	for a, seq := range t.acks {
		p.wire.Ack = append(p.wire.Ack, keyapi.AckRequestFor{Account: a, Seq: seq})
	}
	slices.SortFunc(p.wire.Ack, func(a, b keyapi.AckRequestFor) int {
		return bytes.Compare([]byte(a.Account.String()), []byte(b.Account.String()))
	})
	slices.SortFunc(p.wire.Expect, func(a, b keyapi.Expect) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	p.wire.Commit = t.commit
	id := bootstrapID(TypeHead)
	if len(put)+len(del) == 0 {
		if len(p.wire.Put) == 0 { // nothing random in it
			p.wire.Nonce = make([]byte, 16)
			if _, err := rand.Read(p.wire.Nonce); err != nil {
				return fmt.Errorf("update state: %w", err)
			}
		}
		p.wire.Expect = append(p.wire.Expect, keyapi.Expect{ID: id, Counter: t.base.view.counter})
		return nil
	}
	n.view = t.base.view.next(put, del)
	if t.root != nil {
		if err := n.view.head.addRoot(rootMark{t.root.version, n.view.counter, t.root.id}, n.roots); err != nil {
			return fmt.Errorf("update state: %w", err)
		}
	}
	b, err := s.sealHead(n)
	if err != nil {
		return fmt.Errorf("update state: %w", err)
	}
	n.view.hash = envelope.Hash(b)
	p.wire.Put = append(p.wire.Put, keyapi.Object{ID: id, Counter: n.view.counter, Data: b})
	p.objects[id] = b
	p.next = n
	return nil
}

func (s *Store) sealHead(n *snapshot) ([]byte, error) {
	k, err := n.sealingKey(TypeHead, n.newest)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	h := envelope.Header{KeyVersion: n.newest, Counter: n.view.counter, Previous: n.view.head.previous(), Slot: s.slot}
	return envelope.Seal(k, s.context(TypeHead, bootstrapID(TypeHead)), h, n.view.head.marshal())
}

// sealWrite seals one object as the successor of old.
func (s *Store) sealWrite(n *snapshot, t *Tx, w write, old version) (version, []byte, error) {
	v := version{id: bootstrapID(w.key.Type), counter: old.counter + 1}
	if !isBootstrap(w.key.Type) {
		v.id = objectID(n.ring.Index, w.key)
	}
	if w.raw {
		v.hash = envelope.Hash(w.data)
		return v, w.data, nil
	}
	number := n.newest
	if w.key.Type == TypeEpoch {
		a, err := t.archive(w)
		if err != nil {
			return v, nil, err
		}
		number = a.Number
	}
	k, err := n.sealingKey(w.key.Type, number)
	if err != nil {
		return v, nil, err
	}
	defer clear(k)
	h := envelope.Header{KeyVersion: number, Counter: v.counter, Previous: old.hash, Slot: s.slot}
	b, err := envelope.Seal(k, s.context(w.key.Type, v.id), h, marshalObject(w.key, w.data))
	v.hash = envelope.Hash(b)
	return v, b, err
}

// finishCore turns a changed ROOT or keyring into writes and puts them into n.
func (t *Tx) finishCore(n *snapshot) error {
	for _, w := range t.writes {
		if w.key.Type == TypeEpoch && !w.deleted {
			if _, err := t.archive(w); err != nil {
				return err
			}
		}
	}
	if t.root != nil {
		n.roots = maps.Clone(n.roots)
		n.roots[t.root.version], n.newest = t.root.key, t.root.version
	}
	if t.ring != nil {
		b, err := t.ring.marshal()
		if err != nil {
			return fmt.Errorf("encode keyring: %w", err)
		}
		t.putCore(TypeKeyring, b, false)
		n.ring = t.ring
		n.keepRoots()
	}
	if t.users != nil {
		b, err := t.users.marshal()
		if err != nil {
			return fmt.Errorf("encode profile: %w", err)
		}
		t.putCore(TypeProfile, b, false)
	}
	if w, ok := t.writes[bootstrapID(TypeProfile)]; ok {
		p, err := parseProfile(w.data)
		if err != nil {
			return err
		}
		n.profile = p
	}
	return nil
}
