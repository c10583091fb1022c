package state

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// errStale means that the server has moved on since the view was verified. It
// never leaves the package.
var errStale = errors.New("view is older than the server's state")

func localKey(id keyapi.ObjectID) string { return hex.EncodeToString(id[:]) }

// objects asks the server for objects. Each id is answered or the call fails;
// an object that the server says it does not have is absent from the result.
func (s *Store) objects(ctx context.Context, ids []keyapi.ObjectID) (map[keyapi.ObjectID]keyapi.Object, error) {
	var got keyapi.ObjectList
	err := s.atStore(ctx, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.Objects(ctx, token, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch objects: %w", err)
	}
	return answered(ids, got)
}

// objectsAt is objects for a store that may not be the one in use.
func (s *Store) objectsAt(ctx context.Context, p *depot, ids []keyapi.ObjectID) (map[keyapi.ObjectID]keyapi.Object, error) {
	var got keyapi.ObjectList
	err := s.at(ctx, p, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.Objects(ctx, token, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch objects: %w", err)
	}
	return answered(ids, got)
}

func answered(ids []keyapi.ObjectID, got keyapi.ObjectList) (map[keyapi.ObjectID]keyapi.Object, error) {
	open := make(map[keyapi.ObjectID]bool, len(ids))
	for _, id := range ids {
		open[id] = true
	}
	out := make(map[keyapi.ObjectID]keyapi.Object, len(ids))
	for _, o := range got.Objects {
		if !open[o.ID] {
			return nil, errors.New("fetch objects: answer does not fit the question")
		}
		delete(open, o.ID)
		out[o.ID] = o
	}
	for _, id := range got.Missing {
		if !open[id] {
			return nil, errors.New("fetch objects: answer does not fit the question")
		}
		delete(open, id)
	}
	if len(open) > 0 {
		return nil, errors.New("fetch objects: answer is incomplete")
	}
	return out, nil
}

// fresh compares what the server gave for an object with the view.
func fresh(want version, o keyapi.Object, ok bool) error {
	switch {
	case !ok || o.Counter > want.counter:
		return errStale
	case o.Counter < want.counter:
		return &RollbackError{Reason: "an older version of an object was served", Seen: want.counter, Got: o.Counter}
	case envelope.Hash(o.Data) != want.hash:
		return &RollbackError{Reason: "another object was served than the head names", Seen: want.counter, Got: o.Counter}
	}
	return nil
}

// sealed gives the envelopes of objects of the view, from the local cache
// where that has them. errStale: some are newer or gone at the server.
func (s *Store) sealed(ctx context.Context, want []version) (map[keyapi.ObjectID][]byte, error) {
	out := make(map[keyapi.ObjectID][]byte, len(want))
	var missing []version
	for _, v := range want {
		b, err := s.cfg.Local.Get(bucketObjects, localKey(v.id))
		if err != nil {
			return nil, fmt.Errorf("read local store: %w", err)
		}
		if b != nil && envelope.Hash(b) == v.hash {
			out[v.id] = b
		} else {
			missing = append(missing, v)
		}
	}
	for len(missing) > 0 {
		part := missing[:min(len(missing), keyapi.MaxObjectsPerRequest)]
		missing = missing[len(part):]
		ids := make([]keyapi.ObjectID, len(part))
		for i, v := range part {
			ids[i] = v.id
		}
		got, err := s.objects(ctx, ids)
		if err != nil {
			return nil, err
		}
		for _, v := range part {
			o, ok := got[v.id]
			if err := fresh(v, o, ok); err != nil {
				return nil, s.trip(err)
			}
			out[v.id] = o.Data
		}
		if err := s.keep(part, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// keep puts fetched envelopes into the local cache.
func (s *Store) keep(vs []version, data map[keyapi.ObjectID][]byte) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.wiped.Load() {
		return ErrClosed
	}
	err := s.cfg.Local.Update(func(w Writer) error {
		for _, v := range vs {
			if err := w.Put(bucketObjects, localKey(v.id), data[v.id]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write local store: %w", err)
	}
	return nil
}

func (s *Store) context(t Type, id keyapi.ObjectID) envelope.Context {
	c := envelope.Context{Origin: s.cfg.Origin, Type: uint8(t), Object: id}
	copy(c.User[:], s.scope.User)
	return c
}

// sealingKey is the key of an envelope of this type with this key version.
func (n *snapshot) sealingKey(t Type, keyVersion uint32) ([]byte, error) {
	if t == TypeEpoch || t == typePersonal {
		k, ok := n.ring.archiveKey(keyVersion)
		if !ok {
			return nil, fmt.Errorf("no archive key %d: destroyed, or newer than the keyring", keyVersion)
		}
		return keys.Derive(k, keys.PurposeArchive)
	}
	root, ok := n.roots[keyVersion]
	if !ok {
		return nil, envelope.ErrOpen
	}
	switch t {
	case TypeHead:
		return keys.Derive(root, keys.PurposeHead)
	case TypeKeyring:
		return keys.Derive(root, keys.PurposeKeyring)
	}
	return keys.Derive(root, keys.PurposeState)
}

// open opens an object's envelope and gives its key and data.
func (s *Store) open(n *snapshot, v version, b []byte) (Key, []byte, error) {
	t := typeOf(v.id)
	h, err := envelope.ParseHeader(b)
	if err != nil {
		return Key{}, nil, fmt.Errorf("open object: %w", err)
	}
	if t == TypeSender && h.KeyVersion > n.newest {
		// The head does not cover it, so its ROOT may be newer than the view. If
		// it is not, Refresh brings nothing new, and that is an alarm.
		return Key{}, nil, errStale
	}
	k, err := n.sealingKey(t, h.KeyVersion)
	if err != nil {
		return Key{}, nil, fmt.Errorf("open object: %w", err)
	}
	defer clear(k)
	_, pt, err := envelope.Open(k, s.context(t, v.id), envelope.Expect{Counter: &v.counter}, b)
	if err != nil {
		return Key{}, nil, fmt.Errorf("open object: %w", err)
	}
	key, data, err := parseObject(pt)
	if err != nil || key.Type != t {
		return Key{}, nil, fmt.Errorf("open object: %w", errObject)
	}
	if !isBootstrap(t) && objectID(n.ring.Index, key) != v.id {
		return Key{}, nil, fmt.Errorf("open object: %w", errObject)
	}
	return key, data, nil
}

// read gives the data of objects of a snapshot.
func (s *Store) read(ctx context.Context, n *snapshot, want []version) ([]object, error) {
	sealed, err := s.sealed(ctx, want)
	if err != nil {
		return nil, err
	}
	out := make([]object, len(want))
	for i, v := range want {
		if out[i].key, out[i].data, err = s.open(n, v, sealed[v.id]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

type object struct {
	key  Key
	data []byte
}
