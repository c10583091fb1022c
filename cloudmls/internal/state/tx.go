package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Tx is the view and the changes of one Update. It is valid during fn only and
// not safe for concurrent use.
type Tx struct {
	ctx    context.Context
	store  *Store
	base   *snapshot
	writes map[keyapi.ObjectID]write
	ring   *keyring // not nil: changed
	users  *profile // not nil: changed
	commit *keyapi.CommitSubmission
	acks   map[keyapi.Account]uint64
	// failed is the first read that failed. Even if fn goes on, the
	// transaction does not: what could not be read is not absent.
	failed error
	// senders are the sender objects read, by the counters they had.
	senders map[keyapi.ObjectID]uint64
	// root replaces ROOT.
	root *newRoot
	// via submits the transaction as a part of another request.
	via submitFunc
}

type submitFunc = func(ctx context.Context, wire keyapi.Tx) error

type write struct {
	key     Key
	data    []byte
	deleted bool
	raw     bool  // sealed already: the wraps
	shelf   Shelf // of an epoch object
}

func (s *Store) begin(ctx context.Context, n *snapshot) *Tx {
	return &Tx{
		ctx: ctx, store: s, base: n,
		writes:  map[keyapi.ObjectID]write{},
		acks:    map[keyapi.Account]uint64{},
		senders: map[keyapi.ObjectID]uint64{},
	}
}

func (t *Tx) fail(err error) error {
	if err != nil && !errors.Is(err, ErrNotFound) && t.failed == nil {
		t.failed = err
	}
	return err
}

// Get returns the object's data as of this transaction, its own writes
// included. ErrNotFound as for Store.Get. Another failure dooms the
// transaction, whatever fn does about it. The caller owns the result.
func (t *Tx) Get(k Key) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, t.fail(err)
	}
	id := objectID(t.base.ring.Index, k)
	if w, ok := t.writes[id]; ok {
		if w.deleted {
			return nil, ErrNotFound
		}
		return slices.Clone(w.data), nil
	}
	if k.Type == TypeSender {
		if _, ok := t.base.view.find(id); !ok {
			return nil, ErrNotFound
		}
		data, f, err := t.store.fetchSender(t.ctx, t.base, k)
		if err != nil {
			return nil, t.fail(err)
		}
		t.senders[id] = f.counter
		return data, nil
	}
	data, err := t.store.getFrom(t.ctx, t.base, k)
	return data, t.fail(err)
}

// List is Store.List as of this transaction.
func (t *Tx) List(ty Type) ([]Key, error) {
	all, err := t.store.listFrom(t.ctx, t.base, ty)
	if err != nil {
		return nil, t.fail(err)
	}
	set := map[Key]bool{}
	for _, k := range all {
		set[k] = true
	}
	for _, w := range t.writes {
		if w.key.Type == ty {
			if w.deleted {
				delete(set, w.key)
			} else {
				set[w.key] = true
			}
		}
	}
	return sortKeys(slices.Collect(maps.Keys(set))), nil
}

// Put sets the object's data. Sender objects may be put too; one that is not
// there yet must be put here or by Swap. data is not kept after the call.
func (t *Tx) Put(k Key, data []byte) error {
	if err := k.check(); err != nil {
		return t.fail(err)
	}
	if len(data) > MaxData {
		return t.fail(fmt.Errorf("object of %d octets exceeds the limit of %d", len(data), MaxData))
	}
	t.writes[objectID(t.base.ring.Index, k)] = write{key: k, data: slices.Clone(data)}
	return nil
}

// Delete removes the object; an absent one is no error.
func (t *Tx) Delete(k Key) error {
	if err := k.check(); err != nil {
		return t.fail(err)
	}
	t.writes[objectID(t.base.ring.Index, k)] = write{key: k, deleted: true}
	return nil
}

// SetCommit submits a Commit (or creates an instance) in the same step. At
// most one per transaction.
func (t *Tx) SetCommit(c keyapi.CommitSubmission) error {
	if t.commit != nil {
		return t.fail(errors.New("a transaction submits at most one Commit"))
	}
	t.commit = &c
	return nil
}

// Ack acknowledges the account's deliveries up to seq in the same step.
func (t *Tx) Ack(a keyapi.Account, seq uint64) { t.acks[a] = max(t.acks[a], seq) }

// MaxData leaves room for the envelope and its padding.
const MaxData = 15 << 20

// core reads and writes the objects of this package.
func (t *Tx) putCore(ty Type, data []byte, raw bool) {
	t.writes[bootstrapID(ty)] = write{key: Key{Type: ty}, data: data, raw: raw}
}

func (t *Tx) changeProfile() *profile {
	if t.users == nil {
		t.users = t.base.profile.clone()
	}
	return t.users
}

func (t *Tx) changeRing() *keyring {
	if t.ring == nil {
		t.ring = t.base.ring.clone()
	}
	return t.ring
}
