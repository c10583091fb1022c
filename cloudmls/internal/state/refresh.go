package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxLoads bounds how often an index is read anew because the state changed
// between two requests.
const maxLoads = 8

// Refresh asks the server for a newer head and verifies it. changed tells
// whether anything but sender objects differs from before. A *RollbackError
// sticks.
func (s *Store) Refresh(ctx context.Context) (changed bool, err error) {
	if err := s.usable(); err != nil {
		return false, err
	}
	if err := s.refreshes.acquire(ctx); err != nil {
		return false, err
	}
	defer s.refreshes.release()
	before := s.now.Load()
	n, objects, err := s.loadChanges(ctx, before)
	switch {
	case errors.Is(err, errUnchanged):
		return false, nil
	case errors.Is(err, errStale):
		n, objects, err = s.load(ctx, before)
	}
	if err != nil {
		return false, s.trip(fmt.Errorf("refresh state: %w", err))
	}
	if err := s.publish(n, objects, nil); err != nil {
		return false, err
	}
	return before == nil || before.view.hash != n.view.hash, nil
}

// load reads the server's state and verifies it against the head, the floor
// and, through the floor, all that this device has ever seen.
func (s *Store) load(ctx context.Context, before *snapshot) (*snapshot, map[keyapi.ObjectID][]byte, error) {
	for range maxLoads {
		n, objects, err := s.loadOnce(ctx, before)
		if !errors.Is(err, errStale) {
			return n, objects, err
		}
	}
	return nil, nil, ErrBusy
}

func (s *Store) loadOnce(ctx context.Context, before *snapshot) (*snapshot, map[keyapi.ObjectID][]byte, error) {
	// The floor first: an Update of this store may raise it at any time, and
	// what the server answered before that is not older than it should be.
	low, err := s.locals.loadFloor(s.scope.User, keyHead)
	if err != nil {
		return nil, nil, err
	}
	index, err := s.index(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	hv, err := findHead(index, low)
	if err != nil {
		return nil, nil, err
	}
	got, err := s.objects(ctx, []keyapi.ObjectID{hv.id})
	if err != nil {
		return nil, nil, err
	}
	o, ok := got[hv.id]
	if err := fresh(hv, o, ok); err != nil {
		return nil, nil, err
	}
	n, err := s.unseal(ctx, before, index, hv, o.Data)
	if err != nil {
		return nil, nil, err
	}
	return s.loaded(ctx, before, n, low, o.Data)
}

// loaded holds a verified head against the floor and reads what belongs to it.
func (s *Store) loaded(ctx context.Context, before, n *snapshot, low floor, head []byte) (*snapshot, map[keyapi.ObjectID][]byte, error) {
	if err := n.view.follows(low); err != nil {
		return nil, nil, err
	}
	objects := map[keyapi.ObjectID][]byte{bootstrapID(TypeHead): head}
	return n, objects, s.loadCore(ctx, before, n)
}

// index reads the versions of all objects, or of those in some buckets, if the server
// can be asked for these alone.
func (s *Store) index(ctx context.Context, buckets *keyapi.Buckets) ([]version, error) {
	var got keyapi.ObjectIndex
	err := s.atStore(ctx, func(ctx context.Context, srv objectServer, token string) (err error) {
		if c, ok := srv.(changesServer); ok && buckets != nil {
			got, err = c.ObjectIndexOf(ctx, token, *buckets)
			if !unknownToServer(err) {
				return err
			}
		}
		got, err = srv.ObjectIndex(ctx, token)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch index: %w", err)
	}
	index := make([]version, len(got.Objects))
	for i, o := range got.Objects {
		if len(o.Hash) != 32 || o.Counter == 0 {
			return nil, errors.New("fetch index: an entry is malformed")
		}
		index[i] = version{o.ID, o.Counter, [32]byte(o.Hash)}
	}
	return index, nil
}

// findHead checks the head's counter against the floor.
func findHead(index []version, low floor) (version, error) {
	i := slices.IndexFunc(index, func(v version) bool { return v.id == bootstrapID(TypeHead) })
	if i < 0 && low.counter == 0 {
		return version{}, ErrNoState
	}
	if i < 0 {
		return version{}, &RollbackError{Reason: "the head was withheld", Seen: low.counter}
	}
	h := index[i]
	if h.counter < low.counter {
		return version{}, &RollbackError{Reason: "an older head was served", Seen: low.counter, Got: h.counter}
	}
	if h.counter == low.counter && h.hash != low.hash {
		return version{}, &RollbackError{Reason: "another head was served at a counter that was seen before", Seen: low.counter, Got: h.counter}
	}
	return h, nil
}

// follows compares the heads that v names as its predecessors with the floor.
func (v *view) follows(low floor) error {
	if low.counter == 0 || v.counter <= low.counter {
		return nil // equality was checked by findHead
	}
	if back := v.counter - low.counter; back <= uint64(len(v.head.history)) && v.head.history[back-1] != low.hash {
		return &RollbackError{Reason: "the head does not follow the one seen before: the state was forked", Seen: low.counter, Got: v.counter}
	}
	return nil
}

// unseal opens the head and verifies the index with it. A head under a newer
// ROOT makes this device look for its wrap of that.
func (s *Store) unseal(ctx context.Context, before *snapshot, index []version, hv version, b []byte) (*snapshot, error) {
	n := &snapshot{roots: map[uint32][]byte{}}
	if before != nil {
		n.roots, n.newest = maps.Clone(before.roots), before.newest
	} else {
		s.vaultMu.Lock()
		n.roots[s.vault.RootVersion], n.newest = s.vault.Root, s.vault.RootVersion
		s.vaultMu.Unlock()
	}
	h, err := envelope.ParseHeader(b)
	if err != nil {
		return nil, fmt.Errorf("open head: %w", err)
	}
	if h.KeyVersion > n.newest {
		if err := s.learnRoot(ctx, n, index); err != nil {
			return nil, err
		}
	}
	if err := s.openHead(n, hv, b); err != nil {
		return nil, err
	}
	if n.view.objects, err = bucketize(index); err != nil {
		return nil, err
	}
	return n, n.view.head.verify(&n.view.objects)
}

// openHead opens the head with the roots that n has, the newest of which it must be
// under, and sets n's view but for its objects.
func (s *Store) openHead(n *snapshot, hv version, b []byte) error {
	h, err := envelope.ParseHeader(b)
	if err != nil {
		return fmt.Errorf("open head: %w", err)
	}
	if h.KeyVersion != n.newest {
		return fmt.Errorf("open head: %w", envelope.ErrOpen)
	}
	key, err := n.sealingKey(TypeHead, n.newest)
	if err != nil {
		return fmt.Errorf("open head: %w", err)
	}
	h, pt, err := envelope.Open(key, s.context(TypeHead, hv.id), envelope.Expect{Counter: &hv.counter}, b)
	if err != nil {
		return fmt.Errorf("open head: %w", err)
	}
	n.view = &view{counter: hv.counter, hash: hv.hash}
	if n.view.head, err = parseHead(pt); err != nil {
		return err
	}
	if n.view.head.previous() != h.Previous {
		return errHead
	}
	last := n.view.head.roots[len(n.view.head.roots)-1]
	if id, err := rootID(n.roots[n.newest]); err != nil || last.version != n.newest || last.id != id {
		return errHead
	}
	return n.view.head.follow(n.roots)
}

// learnRoot takes a newer ROOT from this device's wrap, which only a holder of
// the keyring can have made.
func (s *Store) learnRoot(ctx context.Context, n *snapshot, index []version) error {
	id := bootstrapID(TypeWrap)
	i := slices.IndexFunc(index, func(v version) bool { return v.id == id })
	if i < 0 {
		return &RollbackError{Reason: "the wrapped root key was withheld"}
	}
	got, err := s.objects(ctx, []keyapi.ObjectID{id})
	if err != nil {
		return err
	}
	o, ok := got[id]
	if err := fresh(index[i], o, ok); err != nil {
		return err
	}
	wraps, err := keys.ParseWraps(o.Data)
	if err != nil {
		return err
	}
	w, err := s.deviceWrapper()
	if err != nil {
		return err
	}
	root, v, err := w.Find(wraps)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDropped, err)
	}
	if v <= n.newest {
		return &RollbackError{Reason: "an older root key was served", Seen: uint64(n.newest), Got: uint64(v)}
	}
	n.roots[v], n.newest = root, v
	return nil
}

func (s *Store) deviceWrapper() (*keys.Wrapper, error) {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	return keys.FromDevice(s.vault.DeviceSeed, [16]byte(s.vault.DeviceID), s.scope)
}

// loadCore reads keyring and profile where they changed.
func (s *Store) loadCore(ctx context.Context, before, n *snapshot) error {
	same := func(t Type) bool {
		if before == nil {
			return false
		}
		a, _ := before.view.find(bootstrapID(t))
		b, ok := n.view.find(bootstrapID(t))
		return ok && a == b
	}
	core := func(t Type) ([]byte, error) {
		v, ok := n.view.find(bootstrapID(t))
		if !ok {
			return nil, fmt.Errorf("state has no object of type %d", t)
		}
		o, err := s.read(ctx, n, []version{v})
		if err != nil {
			return nil, err
		}
		return o[0].data, nil
	}
	if same(TypeKeyring) {
		n.ring = before.ring
	} else {
		b, err := core(TypeKeyring)
		if err != nil {
			return fmt.Errorf("load keyring: %w", err)
		}
		if n.ring, err = parseKeyring(b); err != nil {
			return err
		}
	}
	n.keepRoots()
	if same(TypeProfile) {
		n.profile = before.profile
		return nil
	}
	b, err := core(TypeProfile)
	if err != nil {
		return fmt.Errorf("load profile: %w", err)
	}
	n.profile, err = parseProfile(b)
	return err
}

func (h *head) previous() [32]byte {
	if len(h.history) == 0 {
		return [32]byte{}
	}
	return h.history[0]
}

// rootID names a ROOT in the head without revealing it.
func rootID(root []byte) ([32]byte, error) {
	b, err := keys.Derive(root, keys.PurposeRootID)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(b), nil
}
