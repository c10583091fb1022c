package state

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// StoreTarget is where the state is to be.
type StoreTarget struct {
	// Origin of a store of the user's own, an https URL; "": the home store.
	Origin string
	// Username that is registered there, with Invitation where that is needed.
	Username, Invitation string
}

// MoveStage is a part of a move.
type MoveStage string

// Stages of a move, in order.
const (
	MoveNamed    MoveStage = "named"    // in the directions, for all devices
	MoveReady    MoveStage = "ready"    // the user is known at the new store
	MoveCopying  MoveStage = "copying"  // writes wait from here on
	MoveVerified MoveStage = "verified" // the new store has all of it
	MoveDone     MoveStage = "done"
)

// MoveProgress is how far a move is.
type MoveProgress struct {
	Stage       MoveStage
	Done, Total int // objects
}

// StoreStatus is where the state is.
type StoreStatus struct {
	Origin   string // of the store that has the state
	Username string // there; "" at the home store
	Home     bool
	Moving   string // origin of the store that it is moving to; "": it is not
	Objects  int
	Bytes    int64
}

var (
	// ErrNoMove: there is no move under way.
	ErrNoMove = errors.New("the state is not moving")
	// ErrMoveBusy: another move is under way.
	ErrMoveBusy = errors.New("the state is moving to another store already: finish that, or give it up")
	// ErrMoveDecided: the old store has let go of the state.
	ErrMoveDecided = errors.New("the move cannot be given up any more: the state is at the new store")
	// ErrMoveGivenUp: another device gave the move up.
	ErrMoveGivenUp = errors.New("the move was given up on another device")
)

// TargetError says why a store cannot have the state.
type TargetError struct{ Reason string }

func (e *TargetError) Error() string { return "this store cannot take the state: " + e.Reason }

// WhereIs asks where the state is.
func (s *Store) WhereIs(ctx context.Context) (StoreStatus, error) {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where it is
		return StoreStatus{}, err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return StoreStatus{}, err
	}
	p := s.depot.Load()
	at, err := s.placeAt(ctx, p)
	if err != nil {
		return StoreStatus{}, err
	}
	st := StoreStatus{Origin: p.origin, Home: p.home(), Objects: at.Objects, Bytes: at.Bytes}
	if l, ok := d.login(p.id); ok {
		st.Username = l.Username
	}
	if d.Moving != "" {
		to, err := s.depotOf(d, d.Moving)
		if err != nil {
			return st, err
		}
		st.Moving = to.origin
	}
	return st, nil
}

// MoveStore moves the state to another store. It is cut off wherever it likes:
// ResumeMove, on this device or another one, goes on.
func (s *Store) MoveStore(ctx context.Context, to StoreTarget, progress func(MoveProgress)) error {
	if err := s.nameTarget(ctx, to); err != nil {
		return fmt.Errorf("move state: %w", err)
	}
	crashpoint.Here("move-named")
	err := s.ResumeMove(ctx, progress)
	var refused *TargetError
	if errors.As(err, &refused) { // nothing will come of it
		if e := s.CancelMove(ctx); e != nil && !errors.Is(e, ErrNoMove) {
			return errors.Join(err, e)
		}
	}
	return err
}

// nameTarget puts the target into the directions.
func (s *Store) nameTarget(ctx context.Context, to StoreTarget) error {
	if _, err := s.Refresh(ctx); err != nil {
		return err
	}
	var fresh *storeLogin
	if to.Origin != "" && to.Origin != s.cfg.Origin {
		l, err := newStoreLogin(to)
		if err != nil {
			return err
		}
		if err := s.checkTarget(ctx, l); err != nil {
			return err
		}
		fresh = l
	}
	return s.changeDirections(ctx, func(d *directions) error {
		if l, ok := d.login(d.Moving); ok && fresh != nil && l.Origin == fresh.Origin && l.Username == fresh.Username {
			if fresh.Invitation != "" && !l.Registered {
				l.Invitation = fresh.Invitation // the one before was no good
			}
			return nil
		}
		switch {
		case d.Moving != "" && (d.Moving != atHome || fresh != nil):
			return ErrMoveBusy
		case fresh == nil && d.At == atHome:
			return &TargetError{"it has the state already"}
		case fresh == nil:
			d.Moving = atHome
			return nil
		}
		if l, ok := d.login(d.At); ok && l.Origin == fresh.Origin && l.Username == fresh.Username {
			return &TargetError{"it has the state already"}
		}
		d.add(*fresh)
		d.Moving = fresh.ID
		return nil
	}, nil)
}

func newStoreLogin(to StoreTarget) (*storeLogin, error) {
	id := make([]byte, 8)
	user := make([]byte, keys.UserIDSize)
	for _, b := range [][]byte{id, user} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("make user id: %w", err)
		}
	}
	secret, err := keys.NewSecret()
	if err != nil {
		return nil, err
	}
	return &storeLogin{
		ID: hex.EncodeToString(id), Origin: to.Origin, Username: foldName(to.Username), UserID: user, Secret: secret,
		Invitation: to.Invitation,
	}, nil
}

// checkTarget asks a store what it is before anything is sent there.
func (s *Store) checkTarget(ctx context.Context, l *storeLogin) error {
	if l.Username == "" {
		return &TargetError{"a user name is needed there"}
	}
	p := &depot{id: l.ID, origin: l.Origin, turn: newLock()}
	if err := s.dial(ctx, p); err != nil {
		return err
	}
	info, err := p.server.Server(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("ask the store: %w", err)
	case info.Origin != l.Origin:
		return &TargetError{"its configured origin is not " + l.Origin}
	case !slices.Contains(info.Roles, "auth") || !slices.Contains(info.Roles, "store"):
		return &TargetError{"it must have the roles auth and store"}
	case info.AuthVersion != keys.AuthVersion:
		return &TargetError{fmt.Sprintf("it wants authentication version %d, this program knows %d", info.AuthVersion, keys.AuthVersion)}
	}
	return nil
}

// ResumeMove goes on with a move that this device or another one began; nothing
// where there is none. Every step may be taken twice.
func (s *Store) ResumeMove(ctx context.Context, progress func(MoveProgress)) error {
	if progress == nil {
		progress = func(MoveProgress) {}
	}
	for range maxAttempts {
		done, err := s.moveOn(ctx, progress)
		if done || err != nil {
			if err != nil {
				return fmt.Errorf("move state: %w", err)
			}
			return nil
		}
	}
	return ErrBusy
}

// takeOver is how long the writes of this device wait for another one to see its
// move through.
const takeOver = 2 * time.Minute

type resuming struct{}

// ResumeKnownMove is ResumeMove if this device has met a move, or the state is at a
// store of the user's own: what the home store says of it counts more than that
// one's silence.
func (s *Store) ResumeKnownMove(ctx context.Context) error {
	if s.directions().Moving == "" && s.depot.Load().home() {
		return nil
	}
	return s.ResumeMove(ctx, nil)
}

// unblock goes on with a move that has kept this device from writing for a while.
func (s *Store) unblock(ctx context.Context) {
	since := s.blocked.Load()
	if since == nil || s.cfg.Now().Sub(*since) < takeOver || ctx.Value(resuming{}) != nil {
		return
	}
	if err := s.ResumeMove(context.WithValue(ctx, resuming{}, true), nil); err != nil {
		s.cfg.Logger.WarnContext(ctx, "a move of the state could not be finished on this device", "err", err)
	}
}

// waits notes since when a move has kept this device from writing.
func (s *Store) waits() error {
	now := s.cfg.Now()
	s.blocked.CompareAndSwap(nil, &now)
	return ErrMoving
}

// moveOn looks at both stores and takes the next step. More than one device may
// do so at the same time: what each step needs, the store checks.
func (s *Store) moveOn(ctx context.Context, progress func(MoveProgress)) (done bool, err error) {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where the state is
		return false, err
	}
	from := s.depot.Load()
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return false, err
	}
	if d.Moving == "" {
		return s.settleAt(ctx, d, from)
	}
	to, err := s.depotOf(d, d.Moving)
	if err != nil {
		return false, err
	}
	if from == to {
		return true, s.finishMove(ctx, d, to, progress)
	}
	if from.id != d.At {
		return false, nil // went over to another one at this moment
	}
	if err := s.readyTarget(ctx, d, to); err != nil {
		return false, err
	}
	progress(MoveProgress{Stage: MoveReady})
	at, err := s.placeAt(ctx, from)
	if err != nil {
		return false, err
	}
	switch {
	case at.Place == keyapi.PlaceHere:
		if _, err = s.takeStep(ctx, from, keyapi.StoreMove{Change: keyapi.MoveLeave, To: to.origin}); err == nil {
			crashpoint.Here("store-leaving")
		}
	case at.Place == keyapi.PlaceLeaving && at.To == to.origin:
		err = s.copyOver(ctx, from, to, progress)
	case at.Place == keyapi.PlaceLeaving:
		err = s.stay(ctx, from) // an earlier one, that was given up
	case at.Place == keyapi.PlaceGone: // Refresh goes over
	default:
		return false, errStray
	}
	if problemCode(err) == keyapi.CodeConflict { // another device was faster
		err = nil
	}
	return false, err
}

// settleAt is for when no move is under way: the directions and this device are of
// one mind about where the state is. done: they are.
func (s *Store) settleAt(ctx context.Context, d *directions, cur *depot) (done bool, err error) {
	if d.At == cur.id {
		return true, nil
	}
	named, err := s.depotOf(d, d.At)
	if err != nil {
		return false, err
	}
	at, err := s.placeAt(ctx, named)
	if err != nil {
		return false, err
	}
	if at.Place == keyapi.PlaceGone && at.To == cur.origin {
		// The move was seen through while another device gave it up.
		return false, s.changeDirections(ctx, func(now *directions) error {
			if now.At == d.At && now.Moving == "" {
				now.At = cur.id
			}
			return nil
		}, nil)
	}
	// The store in use shows a state that the user has left.
	return false, s.switchTo(ctx, d, d.At)
}

// readyTarget registers at a store of the user's own, unless that was done.
func (s *Store) readyTarget(ctx context.Context, d *directions, to *depot) error {
	l, ok := d.login(to.id)
	if !ok || l.Registered {
		return nil
	}
	err := s.registerAt(ctx, to, l)
	switch problemCode(err) {
	case keyapi.CodeTaken:
		return &TargetError{"the user name is taken there"}
	case keyapi.CodeForbidden:
		return &TargetError{"it does not register the user; an invitation of its operator may be needed"}
	case keyapi.CodeInvalid:
		return &TargetError{"it refuses the user name"}
	}
	if err != nil {
		return err
	}
	crashpoint.Here("store-registered")
	return s.changeDirections(ctx, func(d *directions) error {
		if l, ok := d.login(to.id); ok {
			l.Registered, l.Invitation = true, ""
		}
		return nil
	}, nil)
}

// What one request of a copy holds at most, in octets.
const copySize = 8 << 20

// copyOver brings the objects that are leaving to the new store, verifies that it
// has them, and lets them be gone.
func (s *Store) copyOver(ctx context.Context, from, to *depot, progress func(MoveProgress)) error {
	index, hash, err := s.leaving(ctx, from)
	if err != nil {
		return err
	}
	at, err := s.placeAt(ctx, to)
	if err != nil {
		return err
	}
	switch {
	case at.Place == keyapi.PlaceHere && at.Objects > 0 && slices.Equal(at.IndexHash, hash): // opened already
	case at.Place == keyapi.PlaceHere && at.Objects > 0:
		return &TargetError{"it has another state of the user, of a move that was given up; take another user name there"}
	case at.Place == keyapi.PlaceLeaving:
		return &TargetError{"what it has is leaving it"}
	default:
		if err := s.bringTo(ctx, from, to, index, hash, progress); err != nil {
			return err
		}
	}
	if err := s.verifyCopy(ctx, from, to, hash); err != nil {
		return err
	}
	progress(MoveProgress{Stage: MoveVerified, Done: len(index), Total: len(index)})
	if err := s.stillMoving(ctx, to); err != nil {
		return err
	}
	if _, err := s.takeStep(ctx, from, keyapi.StoreMove{Change: keyapi.MoveGo, IndexHash: hash}); err != nil {
		return err
	}
	crashpoint.Here("store-gone")
	return nil
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
		if len(o.Hash) != 32 || o.Counter == 0 {
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
func (s *Store) bringTo(ctx context.Context, from, to *depot, index []keyapi.ObjectVersion, hash []byte, progress func(MoveProgress)) error {
	if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveArrive}); err != nil {
		return err
	}
	crashpoint.Here("store-arriving")
	for done := 0; done < len(index); {
		progress(MoveProgress{Stage: MoveCopying, Done: done, Total: len(index)})
		n, size := 0, 0
		for done+n < len(index) && n < keyapi.MaxObjectsPerRequest && (n == 0 || size+index[done+n].Size <= copySize) {
			size += index[done+n].Size
			n++
		}
		if err := s.bring(ctx, from, to, index[done:done+n]); err != nil {
			return err
		}
		done += n
		crashpoint.Here("store-copied")
	}
	progress(MoveProgress{Stage: MoveCopying, Done: len(index), Total: len(index)})
	if err := s.stillMoving(ctx, to); err != nil {
		return err
	}
	if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveOpen, IndexHash: hash}); err != nil {
		return err
	}
	crashpoint.Here("store-opened")
	return nil
}

func (s *Store) bring(ctx context.Context, from, to *depot, part []keyapi.ObjectVersion) error {
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
		_, err := srv.ImportObjects(ctx, token, keyapi.StoreImport{Objects: list})
		return err
	})
	var p *keyapi.Problem
	if errors.As(err, &p) && p.Code == keyapi.CodeConflict && len(p.Have) > 0 {
		// Something else arrived there, of a move that was given up.
		if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveAbandon}); err != nil {
			return err
		}
		return err
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

// stillMoving asks whether the move was given up.
func (s *Store) stillMoving(ctx context.Context, to *depot) error {
	_, d, err := s.fetchDirections(ctx)
	if err == nil && d.Moving != to.id && d.At != to.id {
		err = ErrMoveGivenUp
	}
	return err
}

// finishMove is for when the old store has let go: this device uses the new one.
func (s *Store) finishMove(ctx context.Context, d *directions, to *depot, progress func(MoveProgress)) error {
	if err := s.Update(ctx, noting(EventStoreMoved)); err != nil {
		return err
	}
	former, err := s.depotOf(d, d.At)
	if err != nil {
		return err
	}
	err = s.changeDirections(ctx, func(d *directions) error {
		if d.Moving == to.id {
			d.At, d.Moving = to.id, ""
		}
		return nil
	}, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("move-done")
	// What the old store did not get to delete.
	if at, err := s.placeAt(ctx, former); err == nil && at.Place == keyapi.PlaceGone && at.Objects > 0 {
		if _, err := s.takeStep(ctx, former, keyapi.StoreMove{Change: keyapi.MoveGo}); err != nil {
			s.cfg.Logger.WarnContext(ctx, "the store that was left still has what it should delete", "err", err)
		}
	}
	progress(MoveProgress{Stage: MoveDone})
	return nil
}
