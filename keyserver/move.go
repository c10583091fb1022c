package keyserver

import (
	"context"
	"fmt"
	"net/url"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Moving a user's objects to another store: a device makes them leave here
// (they are read still, and written nowhere), lets them arrive there, copies
// them, opens the new store, and lets them be gone here, with the new store's
// URL for the other devices. Each step names its move and can be repeated by any
// device; until the last one the old store has everything. Objects that are gone
// are deleted, and may arrive again. docs/spec/keyserver-api.md section 8.

func (p place) moved() error {
	m := conflict(keyapi.CodeMoved, "the objects are moving to another store")
	switch {
	case p.Place == keyapi.PlaceHere:
		m.Detail = fmt.Sprintf("move %d has opened the objects here: they are read only until it is decided", p.Move)
	case p.Place == keyapi.PlaceGone && p.To == "":
		m.Detail = "what a move brought here was abandoned and is being deleted"
	case p.Place == keyapi.PlaceGone:
		m.Detail, m.MovedTo = "another store has the objects", p.To
	}
	return m
}

// mayRead refuses objects that are elsewhere, or not all here yet.
func (s *Server) mayRead(r Reader, u UserID) error {
	p, err := s.placeOf(r, u)
	if err == nil && (p.Place == keyapi.PlaceGone || p.Place == keyapi.PlaceArriving) {
		err = p.moved()
	}
	return err
}

// mayWrite refuses what would change objects that are not in use here. Where a
// move has opened them, a device that was away must not take them for those in use.
func (s *Server) mayWrite(r Reader, u UserID) error {
	p, err := s.placeOf(r, u)
	if err == nil && (p.Place != keyapi.PlaceHere || p.Move != 0) {
		err = p.moved()
	}
	return err
}

func (s *Server) storePlace(ctx context.Context, _ *struct{}) (*output[keyapi.StorePlace], error) {
	answer, err := s.whereIs(ctx, caller(ctx).user)
	return &output[keyapi.StorePlace]{answer}, err
}

func (s *Server) whereIs(ctx context.Context, u UserID) (answer keyapi.StorePlace, err error) {
	err = s.Store.View(ctx, func(r Reader) error {
		p, err := s.placeOf(r, u)
		if err == nil {
			answer, err = s.describe(r, u, p)
		}
		return err
	})
	return answer, err
}

func (s *Server) describe(r Reader, u UserID, p place) (keyapi.StorePlace, error) {
	use, err := r.Usage(u)
	if err != nil {
		return keyapi.StorePlace{}, err
	}
	index, err := r.ObjectVersions(u)
	if err != nil {
		return keyapi.StorePlace{}, err
	}
	d, err := s.directionsOf(r, u)
	answer := keyapi.StorePlace{Objects: use.Objects, Bytes: use.Bytes, IndexHash: keyapi.IndexHash(index), Directions: d}
	p.tell(&answer)
	return answer, err
}

func (p place) tell(answer *keyapi.StorePlace) {
	answer.Place, answer.Move, answer.To = p.Place, p.Move, p.To
	if p.Place == keyapi.PlaceHere {
		answer.To = ""
	}
}

// moveStore takes one step of a move.
func (s *Server) moveStore(ctx context.Context, in *input[keyapi.StoreMove]) (*output[keyapi.StorePlace], error) {
	u, m := caller(ctx).user, &in.Body
	if err := checkMove(m); err != nil {
		return nil, err
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	for range maxClearings {
		answer, err := s.takeStep(ctx, u, m)
		if err != nil || answer.Place != keyapi.PlaceGone {
			return &output[keyapi.StorePlace]{answer}, err
		}
		// Decided: from here on it is nobody's to stop.
		err = s.freeObjects(context.WithoutCancel(ctx), u)
		switch {
		case m.Change == keyapi.MoveArrive && err != nil:
			return nil, err
		case m.Change == keyapi.MoveArrive: // what was here is deleted: now it can
			continue
		case err != nil:
			s.log.Warn("objects that are gone were not deleted; the step deletes them when it is repeated", "error", err)
		}
		answer, err = s.whereIs(context.WithoutCancel(ctx), u)
		return &output[keyapi.StorePlace]{answer}, err
	}
	return nil, conflict(keyapi.CodeConflict, "other moves arrive here at the same time; look again")
}

// maxClearings bounds how often a step deletes what it finds before it follows:
// once for what an earlier move left, and again where others are as fast.
const maxClearings = 4

// takeStep decides one step in one transaction. A step that arrives at gone needs
// what is left to be deleted, and is asked again afterwards.
func (s *Server) takeStep(ctx context.Context, u UserID, m *keyapi.StoreMove) (answer keyapi.StorePlace, err error) {
	err = s.update(ctx, func(w Writer) error {
		now, err := s.placeOf(w, u)
		if err != nil {
			return err
		}
		if answer, err = s.describe(w, u, now); err != nil {
			return err
		}
		next, err := now.step(m, answer.Objects, answer.IndexHash)
		if err != nil || next == now {
			return err
		}
		if m.Change == keyapi.MoveArrive {
			if err := s.checkAnnounced(w, u, m); err != nil {
				return err
			}
		}
		next.tell(&answer)
		return putPlace(w, u, next)
	})
	return answer, err
}

// checkAnnounced refuses what the user's quota has no room for.
func (s *Server) checkAnnounced(r Reader, u UserID, m *keyapi.StoreMove) error {
	q, err := s.quotaOf(r, u)
	if err == nil && (m.Objects > q.Objects || m.Bytes > q.Bytes) {
		err = quota(fmt.Sprintf("%d objects of %d octets in all are too many here: the user may have %d of %d", m.Objects, m.Bytes, q.Objects, q.Bytes))
	}
	return err
}

// freeAtOnce is how many objects one transaction deletes.
const freeAtOnce = 256

// freeObjects deletes objects that are gone, in as many transactions as it takes.
// Where there never was another store they are here again then, and none.
func (s *Server) freeObjects(ctx context.Context, u UserID) error {
	for more := true; more; {
		err := s.Store.Update(ctx, func(w Writer) error {
			more = false
			if err := w.Foresee(&Plan{User: u}); err != nil { // locks in the order of the steps
				return err
			}
			p, err := s.placeOf(w, u)
			if err != nil || p.Place != keyapi.PlaceGone {
				return err
			}
			list, err := w.ObjectVersions(u)
			if err != nil {
				return err
			}
			more = len(list) > freeAtOnce
			for _, v := range list[:min(len(list), freeAtOnce)] {
				if err := w.DeleteObject(u, v.ID); err != nil {
					return err
				}
			}
			if more || p.To != "" {
				return nil
			}
			return putPlace(w, u, p.here(0))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkMove checks the form of a step.
func checkMove(m *keyapi.StoreMove) error {
	if err := checkMoveNumber(m.Move); err != nil {
		return err
	}
	if m.Objects < 0 || m.Bytes < 0 {
		return invalid("objects and bytes tell how much is coming: they are not negative")
	}
	switch m.Change {
	case keyapi.MoveLeave:
		return checkStoreURL(m.To)
	case keyapi.MoveStay, keyapi.MoveGo, keyapi.MoveArrive, keyapi.MoveOpen, keyapi.MoveUse, keyapi.MoveAbandon:
		return nil
	}
	return invalid("change must be leave, stay, go, arrive, open, use or abandon")
}

func checkMoveNumber(n uint64) error {
	if n == 0 || n > keyapi.MaxMove {
		return invalid("move must be the number of the move, from 1 to 2^63-1, higher than that of every move before")
	}
	return nil
}

// maxStoreURL bounds what every device is told.
const maxStoreURL = 512

func checkStoreURL(to string) error {
	u, err := url.Parse(to)
	if err != nil || len(to) > maxStoreURL || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return invalid("to must be an https URL of scheme, host and path")
	}
	return nil
}
