package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// nameTarget puts the target into the directions, and gives its id. A user at a
// store that was used before is used again.
func (s *Store) nameTarget(ctx context.Context, to StoreTarget) (id string, err error) {
	if _, err := s.Refresh(ctx); err != nil {
		return "", err
	}
	if len(s.directions().Endings) >= maxEndings {
		s.tidyUp(ctx) // the stores may answer by now
	}
	var fresh *storeLogin
	if to.Origin != "" && to.Origin != s.cfg.Origin {
		l, err := newStoreLogin(to)
		if err != nil {
			return "", err
		}
		if err := s.checkTarget(ctx, l); err != nil {
			return "", err
		}
		fresh = l
	}
	err = s.changeDirections(ctx, func(d *directions) error {
		id = atHome
		if fresh != nil {
			id = fresh.ID
			if l, ok := d.user(fresh.Origin, fresh.Username); ok {
				id = l.ID
			}
		}
		switch {
		case id == d.At:
			return &TargetError{"it has the state already"}
		case d.Moving != "" && d.Moving != id:
			return ErrMoveBusy
		case d.Moving == "" && len(d.Endings) >= maxEndings:
			return fmt.Errorf("%w; they are %s", ErrMovesLeft, strings.Join(d.untidy(), ", "))
		}
		l, known := d.login(id)
		switch {
		case fresh == nil:
		case !known:
			d.add(*fresh)
		case !l.Registered && fresh.Invitation != "":
			l.Invitation = fresh.Invitation // the one before was no good
		case d.Moving != "":
			return errNoChange
		}
		if d.Moving == "" {
			d.Moving, d.Move, d.Copied = id, d.Counter+1, false
		}
		return nil
	}, nil)
	return id, err
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
	if err := l.check(); err != nil {
		return &TargetError{err.Error()}
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

// readyTarget registers at a store of the user's own, unless that was done, and
// replaces a login that somebody else knows.
func (s *Store) readyTarget(ctx context.Context, d *directions, to *depot) error {
	l, ok := d.login(to.id)
	switch {
	case !ok:
		return nil // home
	case l.Registered:
		if s.leaked(l) {
			return s.renewUnused(ctx, to)
		}
		return nil
	case s.leaked(l): // it may be registered all the same, by whoever knows it: that is replaced as ever
		if err := s.renewUnused(ctx, to); !errors.Is(err, ErrStoreLogin) && problemCode(err) != keyapi.CodeRateLimited {
			return err
		}
		return s.meantAnew(ctx, l)
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
	err = s.changeDirections(ctx, func(now *directions) error {
		n, ok := now.login(to.id)
		if !ok || n.Registered || string(n.Secret) != string(l.Secret) {
			return errNoChange
		}
		n.Registered, n.Invitation = true, ""
		return nil
	}, nil)
	if err != nil {
		return err
	}
	// Whoever gave the move up while the user was not known there could not tell that
	// store, and has forgotten the move: nothing of it may come there any more.
	if now := s.directions(); now.Moving != to.id || now.Move != d.Move {
		return errOver
	}
	return nil
}

// errOver makes a move take another turn, which finds that it is over.
var errOver = &keyapi.Problem{Code: keyapi.CodeConflict, Detail: "the move is over"}

// meantAnew makes another login for a store at which nobody is known to be
// registered, in place of one that somebody else knows.
func (s *Store) meantAnew(ctx context.Context, l *storeLogin) error {
	fresh, err := newStoreLogin(StoreTarget{Origin: l.Origin, Username: l.Username})
	if err != nil {
		return err
	}
	err = s.changeDirections(ctx, func(d *directions) error {
		n, ok := d.login(l.ID)
		if !ok || n.Registered || !bytes.Equal(n.Secret, l.Secret) {
			return errNoChange
		}
		n.UserID, n.Secret, n.Former, n.Known = fresh.UserID, fresh.Secret, nil, nil
		return nil
	}, nil)
	if err != nil {
		return err
	}
	return errLeaked
}

// awaitedBy makes the new store take in what is at the old one, before the old one
// stops taking writes. What is there of an earlier move goes first: that was given
// up, or nothing would be here now.
func (s *Store) awaitedBy(ctx context.Context, d *directions, to *depot, from keyapi.StorePlace) error {
	at, err := s.placeAt(ctx, to)
	if err != nil {
		return err
	}
	empty := at.Objects == 0
	switch {
	case at.Place == keyapi.PlaceArriving && at.Move == d.Move,
		at.Place == keyapi.PlaceHere && !empty && at.Move == d.Move:
		return nil
	case at.Place == keyapi.PlaceHere && !empty && at.Move != 0 && at.Move < d.Move:
		if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveAbandon, Move: at.Move}); err != nil {
			return err
		}
	case at.Place == keyapi.PlaceHere && !empty:
		return &TargetError{"it has another state of the user; take another user name there"}
	case at.Place == keyapi.PlaceLeaving && at.Move < d.Move:
		// Nobody has told it that the state is elsewhere.
		if _, err := s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveGo, Move: at.Move, IndexHash: at.IndexHash}); err != nil {
			return err
		}
	case at.Place == keyapi.PlaceLeaving:
		return &TargetError{"what it has is leaving it"}
	}
	_, err = s.takeStep(ctx, to, keyapi.StoreMove{Change: keyapi.MoveArrive, Move: d.Move, Objects: from.Objects, Bytes: from.Bytes})
	if problemCode(err) == keyapi.CodeQuota {
		return &TargetError{fmt.Sprintf("it does not give the user enough room: the state has %d objects of %d octets", from.Objects, from.Bytes)}
	}
	if err == nil {
		crashpoint.Here("store-arriving")
	}
	return err
}
