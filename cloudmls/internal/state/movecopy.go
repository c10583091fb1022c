package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// What one request of a copy holds at most, in octets.
const copySize = 8 << 20

// copyOver brings the objects that are leaving to the new store, verifies that it
// has them, and lets them be gone. Before the old store lets go, home notes that the
// new one has everything: from there on the state outlives the old store.
func (s *Store) copyOver(ctx context.Context, d *directions, from, to *depot, progress func(MoveProgress)) error {
	index, hash, err := s.leaving(ctx, from)
	if err != nil {
		return err
	}
	at, err := s.placeAt(ctx, to)
	if err != nil {
		return err
	}
	switch {
	case at.Move != d.Move: // another device was here
		return nil
	case at.Place == keyapi.PlaceHere && slices.Equal(at.IndexHash, hash): // opened already
	case at.Place == keyapi.PlaceHere:
		return &TargetError{"it has other objects than were brought there"}
	case at.Place == keyapi.PlaceArriving:
		if err := s.bringTo(ctx, d, from, to, index, hash, progress); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := s.verifyCopy(ctx, from, to, hash); err != nil {
		return err
	}
	progress(MoveProgress{Stage: MoveVerified, Done: len(index), Total: len(index)})
	if err := s.noteCopied(ctx, d.Move, to); err != nil {
		return err
	}
	crashpoint.Here("store-verified")
	if _, err := s.takeStep(ctx, from, keyapi.StoreMove{Change: keyapi.MoveGo, Move: d.Move, IndexHash: hash}); err != nil {
		return err
	}
	crashpoint.Here("store-gone")
	return nil
}

// errLeaked makes a move take another turn: the login at the new store is another one by then.
var errLeaked = &keyapi.Problem{Code: keyapi.CodeConflict, Detail: "a device that was removed knows the login at the new store"}

// noteCopied notes that the new store has everything, if the move was not given up.
func (s *Store) noteCopied(ctx context.Context, move uint64, to *depot) error {
	return s.changeDirections(ctx, func(d *directions) error {
		if d.Moving != to.id || d.Move != move {
			if d.At == to.id {
				return errNoChange // another device saw it through
			}
			return ErrMoveGivenUp
		}
		if l, ok := d.login(to.id); ok && s.leaked(l) {
			return errLeaked
		}
		if d.Copied {
			return errNoChange
		}
		d.Copied = true
		return nil
	}, nil)
}

// leaving reads the index of what does not change any more, and verifies it as
// the state is verified: it is copied as this device would use it.
func (s *Store) leaving(ctx context.Context, from *depot) ([]keyapi.ObjectVersion, []byte, error) {
	if _, err := s.Refresh(ctx); err != nil {
		return nil, nil, err
	}
	var got keyapi.ObjectIndex
	err := s.at(ctx, from, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.ObjectIndex(ctx, token)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("fetch index: %w", err)
	}
	n := s.now.Load()
	versions := make([]version, len(got.Objects))
	for i, o := range got.Objects {
		if len(o.Hash) != 32 { // an old one, or none, the head and the floor of senders tell
			return nil, nil, errors.New("fetch index: an entry is malformed")
		}
		versions[i] = version{o.ID, o.Counter, [32]byte(o.Hash)}
		if typeOf(o.ID) != TypeSender {
			continue
		}
		low, err := s.locals.loadFloor(s.scope.User, localKey(o.ID))
		if err != nil {
			return nil, nil, err
		}
		if o.Counter < low.counter || o.Counter == low.counter && versions[i].hash != low.hash {
			return nil, nil, s.trip(&RollbackError{Reason: "an older sender object was served", Seen: low.counter, Got: o.Counter})
		}
	}
	objects, err := bucketize(versions)
	if err != nil {
		return nil, nil, err
	}
	if !slices.Contains(versions, version{bootstrapID(TypeHead), n.view.counter, n.view.hash}) {
		return nil, nil, ErrBusy // it has moved on: nothing leaves any more
	}
	if err := n.view.head.verify(&objects); err != nil {
		return nil, nil, s.trip(err)
	}
	return got.Objects, keyapi.IndexHash(got.Objects), nil
}

// bringTo copies all objects and opens the new store. Counters stay as they are.
func (s *Store) bringTo(ctx context.Context, d *directions, from, to *depot, index []keyapi.ObjectVersion, hash []byte, progress func(MoveProgress)) error {
	for done := 0; done < len(index); {
		progress(MoveProgress{Stage: MoveCopying, Done: done, Total: len(index)})
		n, size := 0, 0
		for done+n < len(index) && n < keyapi.MaxObjectsPerRequest && (n == 0 || size+index[done+n].Size <= copySize) {
			size += index[done+n].Size
			n++
		}
		if err := s.bring(ctx, d.Move, from, to, index[done:done+n]); err != nil {
			return err
		}
		done += n
		crashpoint.Here("store-copied")
	}
	progress(MoveProgress{Stage: MoveCopying, Done: len(index), Total: len(index)})
	if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveOpen, Move: d.Move, IndexHash: hash}); err != nil {
		return err
	}
	crashpoint.Here("store-opened")
	return nil
}

func (s *Store) bring(ctx context.Context, move uint64, from, to *depot, part []keyapi.ObjectVersion) error {
	ids := make([]keyapi.ObjectID, len(part))
	for i, o := range part {
		ids[i] = o.ID
	}
	got, err := s.objectsAt(ctx, from, ids)
	if err != nil {
		return err
	}
	list := make([]keyapi.Object, len(part))
	for i, o := range part {
		x, ok := got[o.ID]
		if err := fresh(version{o.ID, o.Counter, [32]byte(o.Hash)}, x, ok); err != nil {
			return s.trip(err)
		}
		list[i] = x
	}
	err = s.atMovable(ctx, to, func(ctx context.Context, srv StoreServer, token string) error {
		_, err := srv.ImportObjects(ctx, token, keyapi.StoreImport{Move: move, Objects: list})
		return err
	})
	var p *keyapi.Problem
	switch {
	case !errors.As(err, &p):
	case p.Code == keyapi.CodeConflict && len(p.Have) > 0:
		return &TargetError{"it has objects that were not copied there"}
	case p.Code == keyapi.CodeQuota:
		return &TargetError{"it does not give the user enough room"}
	}
	if err != nil {
		return fmt.Errorf("copy objects: %w", err)
	}
	return nil
}

// verifyCopy reads at the new store what it has: the index, which must be that of
// the old one, and the objects that all else hangs on.
func (s *Store) verifyCopy(ctx context.Context, from, to *depot, hash []byte) error {
	var got keyapi.ObjectIndex
	err := s.at(ctx, to, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.ObjectIndex(ctx, token)
		return err
	})
	if err != nil {
		return fmt.Errorf("verify the copy: %w", err)
	}
	if !slices.Equal(keyapi.IndexHash(got.Objects), hash) {
		return &TargetError{"what it shows is not what was copied there"}
	}
	ids := []keyapi.ObjectID{bootstrapID(TypeWrap), bootstrapID(TypeHead), bootstrapID(TypeKeyring), bootstrapID(TypeProfile)}
	core, err := s.objectsAt(ctx, to, ids)
	if err != nil {
		return fmt.Errorf("verify the copy: %w", err)
	}
	for _, id := range ids {
		i := slices.IndexFunc(got.Objects, func(o keyapi.ObjectVersion) bool { return o.ID == id })
		x, ok := core[id]
		if i < 0 || !ok || x.Counter != got.Objects[i].Counter || envelope.Hash(x.Data) != [32]byte(got.Objects[i].Hash) {
			return &TargetError{"it does not give back what was copied there"}
		}
	}
	return nil
}
