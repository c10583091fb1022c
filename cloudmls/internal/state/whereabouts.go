package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrMoving means that the state is moving to another store: it can be read, and
// is not written until it has arrived. Nothing was changed.
var ErrMoving = errors.New("the state is moving to another store; it is written again when it has arrived")

// errStray: a store sends this device where no device of the user said to go.
var errStray = errors.New("a store says that the state is elsewhere, and no device of the user says where: it is not followed")

// maxFollows bounds how often one call is sent on.
const maxFollows = 3

// directions are those that this device knows. They are not changed.
func (s *Store) directions() *directions {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	if s.vault.Directions == nil {
		return noDirections(0)
	}
	return s.vault.Directions
}

// noteDirections keeps newer ones; on a device that is about to sign in, with the
// vault.
func (s *Store) noteDirections(d *directions) error {
	s.vaultMu.Lock()
	have, fresh := s.vault.Directions, s.vault.Slot == 0
	if have != nil && have.Counter >= d.Counter {
		s.vaultMu.Unlock()
		return nil
	}
	if fresh {
		next := *s.vault
		next.Directions = d
		s.vault = &next
	}
	s.vaultMu.Unlock()
	if fresh {
		return nil
	}
	return s.changeVault(func(v *vault) {
		if v.Directions == nil || v.Directions.Counter < d.Counter {
			v.Directions = d
		}
	})
}

// fetchDirections asks the home store where the objects are: its own word, and
// the devices'. Older directions than this device has seen are refused.
func (s *Store) fetchDirections(ctx context.Context) (keyapi.StorePlace, *directions, error) {
	var at keyapi.StorePlace
	err := s.atMovable(ctx, s.homeDepot(), func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.StorePlace(ctx, token)
		return err
	})
	if err != nil {
		return at, nil, fmt.Errorf("ask where the state is: %w", err)
	}
	d, err := s.readDirections(at.Directions)
	return at, d, err
}

// readDirections opens and keeps what the home store shows.
func (s *Store) readDirections(x *keyapi.Directions) (*directions, error) {
	if x == nil {
		x = &keyapi.Directions{}
	}
	have := s.directions()
	switch {
	case x.Counter < have.Counter:
		return nil, &RollbackError{Reason: "older directions to the state were served", Seen: have.Counter, Got: x.Counter}
	case x.Counter == have.Counter:
		return have, nil
	} // what is empty is sealed too: a counter alone is not believed
	ws, err := s.openers()
	if err != nil {
		return nil, err
	}
	d, err := openDirections(*x, s.scope, ws...)
	if err != nil {
		return nil, err
	}
	return d, s.noteDirections(d)
}

// openers are what directions can be opened with here: what the user signs in
// with at this moment, and the device's own key.
func (s *Store) openers() ([]*keys.Wrapper, error) {
	own, err := s.deviceWrapper()
	if err != nil {
		return nil, err
	}
	if w := s.opener.Load(); w != nil {
		return []*keys.Wrapper{w, own}, nil
	}
	return []*keys.Wrapper{own}, nil
}

func (s *Store) homeDepot() *depot {
	p, _ := s.depotOf(nil, atHome) // never fails
	return p
}

// findDepot makes a device that signs in look where the state is. One that has
// signed in before knows; what it does not know yet, the stores and home tell.
func (s *Store) findDepot(ctx context.Context, w *keys.Wrapper, known bool) error {
	s.opener.Store(w)
	if known {
		return nil
	}
	at, d, err := s.fetchDirections(ctx)
	switch {
	case errors.Is(err, errNotMovable), problemCode(err) == keyapi.CodeNoRoute:
		return nil // nothing was ever moved from there
	case errors.Is(err, errNotForUs) && at.Place == keyapi.PlaceHere:
		// A secret was replaced, and the device that did it came no further. Others
		// seal them anew; what the head says is verified as ever. A home store
		// that shows octets of its own here could as well show none.
		s.warn(ctx, "directions to the state do not open with this secret yet and are passed over", err)
		return nil
	case err != nil:
		return err
	case d.Counter == 0 && at.Place == keyapi.PlaceGone:
		return errStray
	}
	p, err := s.depotOf(d, d.At)
	if err != nil {
		return err
	}
	s.depot.Store(p)
	return nil
}

type stayPut struct{}

// atStore is at for the store that has the objects. Where that says that they
// moved, or says nothing, and the user's devices say where to, call runs there.
func (s *Store) atStore(ctx context.Context, call func(ctx context.Context, srv objectServer, token string) error) error {
	for range maxFollows {
		p := s.depot.Load()
		err := s.at(ctx, p, call)
		if err == nil || ctx.Value(stayPut{}) != nil {
			return err
		}
		switch {
		case problemCode(err) == keyapi.CodeMoved:
			if e := s.whereabouts(ctx); e != nil {
				return fmt.Errorf("%w (%w)", e, err)
			}
		case p.home() || !silent(err) || ctx.Err() != nil || !s.elsewhere(ctx, p):
			return err
		}
	}
	return ErrMoving
}

// silent tells whether a store of the user's own gave no answer that says anything
// of the objects: it is down, or was set up anew and does not know the user.
func silent(err error) bool {
	var alarm *RollbackError
	if errors.As(err, &alarm) || errors.Is(err, context.Canceled) {
		return false
	}
	if errors.Is(err, ErrStoreLogin) || errors.Is(err, errDirections) || errors.Is(err, errSession) {
		return true
	}
	switch problemCode(err) {
	case "", keyapi.CodeInternal, keyapi.CodeUnavailable, keyapi.CodeUnauthorized, keyapi.CodeNoRoute:
		return !errors.Is(err, ErrSignedOut) && !errors.Is(err, errStoreClosed)
	}
	return false
}

// elsewhere goes over to where the directions at home say that the objects are, if
// that is another store than the silent one.
func (s *Store) elsewhere(ctx context.Context, silent *depot) bool {
	if err := s.follows.acquire(ctx); err != nil {
		return false
	}
	defer s.follows.release()
	if s.depot.Load() != silent {
		return true
	}
	ctx = context.WithValue(ctx, stayPut{}, true)
	_, d, err := s.fetchDirections(ctx)
	if err != nil || d.At == silent.id {
		return false
	}
	if err := s.switchTo(ctx, d, d.At); err != nil {
		s.warn(ctx, "the store that had the state does not answer, nor does the one that has it now", err)
		return false
	}
	return true
}

// whereabouts is for when the store says that the objects moved. nil: ask again,
// there or elsewhere; ErrMoving: later.
func (s *Store) whereabouts(ctx context.Context) error {
	if err := s.follows.acquire(ctx); err != nil {
		return err
	}
	defer s.follows.release()
	ctx = context.WithValue(ctx, stayPut{}, true)
	cur := s.depot.Load()
	var at keyapi.StorePlace
	var err error
	if !cur.home() { // before the directions: a move is named in them before it begins
		if at, err = s.placeAt(ctx, cur); err != nil {
			return err
		}
	}
	home, d, err := s.fetchDirections(ctx)
	if err != nil {
		return err
	}
	if cur.home() {
		at = home
	}
	opened := at.Place == keyapi.PlaceHere && at.Move != 0
	gone := false
	if opened && d.Moving == cur.id && d.Move == at.Move { // this device has been away since the state was here before
		if gone, err = s.hasGone(ctx, d); err != nil {
			return err
		}
	}
	switch {
	case opened && (gone || d.At == cur.id):
		return s.use(ctx, cur, at.Move)
	case d.At != cur.id: // another device saw it through
		return s.switchTo(ctx, d, d.At)
	}
	switch at.Place {
	case keyapi.PlaceHere:
		return nil
	case keyapi.PlaceLeaving:
		switch {
		case at.Move > d.Counter:
			return errStray
		case d.Moving != "" && d.Move == at.Move:
			return ErrMoving
		}
		return unlessConflict(s.stay(ctx, cur, at.Move)) // a move that was given up, by a device that got no further
	case keyapi.PlaceGone:
		id, ok := d.wentTo(at.Move)
		if !ok || id == cur.id {
			return errStray
		}
		return s.switchTo(ctx, d, id)
	}
	return errStray
}

// hasGone asks the store that a move begins at whether it has let go by that move.
func (s *Store) hasGone(ctx context.Context, d *directions) (bool, error) {
	old, err := s.depotOf(d, d.At)
	if err != nil {
		return false, err
	}
	at, err := s.placeAt(ctx, old)
	return err == nil && at.Place == keyapi.PlaceGone && at.Move == d.Move, err
}

func (s *Store) placeAt(ctx context.Context, p *depot) (at keyapi.StorePlace, err error) {
	err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.StorePlace(ctx, token)
		return err
	})
	if err != nil {
		return at, fmt.Errorf("ask a store for the state: %w", err)
	}
	return at, nil
}

func (s *Store) takeStep(ctx context.Context, p *depot, m keyapi.StoreMove) (at keyapi.StorePlace, err error) {
	err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) (err error) {
		at, err = srv.MoveStore(ctx, token, m)
		return err
	})
	return at, err
}

// stay makes a store keep the objects that were to leave it by a move.
func (s *Store) stay(ctx context.Context, p *depot, move uint64) error {
	if _, err := s.takeStep(ctx, p, keyapi.StoreMove{Change: keyapi.MoveStay, Move: move}); err != nil {
		return fmt.Errorf("give up a move: %w", err)
	}
	return nil
}

// use makes a store take writes to what a move has opened there. The caller knows
// that the old one has let go, or that the directions name the new one alone: till
// then nobody writes there, not even who has last heard of the state when it was there.
func (s *Store) use(ctx context.Context, p *depot, move uint64) error {
	if _, err := s.takeStep(ctx, p, keyapi.StoreMove{Change: keyapi.MoveUse, Move: move}); err != nil {
		return fmt.Errorf("write at another store: %w", err)
	}
	return nil
}

// switchTo goes over to another store, if it has the objects and shows no older
// head than was seen. What it shows is verified as ever by whoever reads it.
func (s *Store) switchTo(ctx context.Context, d *directions, id string) error {
	p, at, err := s.shows(ctx, d, id)
	if err != nil {
		return err
	}
	if at.Place == keyapi.PlaceHere && at.Move != 0 {
		if err := s.use(ctx, p, at.Move); err != nil {
			return err
		}
	}
	s.depot.Store(p)
	s.cfg.Logger.InfoContext(ctx, "the state is at another store now")
	return nil
}

// shows looks whether a store has the objects, and no older head than was seen.
func (s *Store) shows(ctx context.Context, d *directions, id string) (*depot, keyapi.StorePlace, error) {
	p, err := s.depotOf(d, id)
	if err != nil {
		return nil, keyapi.StorePlace{}, err
	}
	at, err := s.placeAt(ctx, p)
	if err != nil {
		return nil, at, err
	}
	switch {
	case at.Place != keyapi.PlaceHere && at.Place != keyapi.PlaceLeaving,
		at.Move > d.Counter: // by a move that these directions know nothing of: they are old by now
		return nil, at, ErrMoving
	}
	low, err := s.locals.loadFloor(s.scope.User, keyHead)
	if err != nil {
		return nil, at, err
	}
	head := bootstrapID(TypeHead)
	var got keyapi.ObjectList
	err = s.at(ctx, p, func(ctx context.Context, srv objectServer, token string) (err error) {
		got, err = srv.Objects(ctx, token, []keyapi.ObjectID{head})
		return err
	})
	if err != nil {
		return nil, at, fmt.Errorf("read the state at another store: %w", err)
	}
	var v version
	if len(got.Objects) == 1 && got.Objects[0].ID == head {
		v = version{head, got.Objects[0].Counter, envelope.Hash(got.Objects[0].Data)}
	}
	var index []version
	if v.counter > 0 {
		index = []version{v}
	}
	if _, err := findHead(index, low); err != nil {
		return nil, at, s.trip(fmt.Errorf("go over to another store: %w", err))
	}
	return p, at, nil
}
