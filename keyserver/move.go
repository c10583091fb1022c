package keyserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Moving a user's objects to another store: a device makes them leave here
// (they are read still, and written nowhere), lets them arrive there, copies
// them, opens the new store, and lets them be gone here, with the new store's
// URL for the other devices. Each step can be repeated by any device; until the
// last one the old store has everything. Objects that are gone are deleted, and
// may arrive again. docs/spec/keyserver-api.md section 8.

// place is where a user's objects are; no note means here.
type place struct {
	Place string `json:"place"`
	To    string `json:"to,omitempty"` // arriving: where they were gone to before, for abandon
}

func (s *Server) placeOf(r Reader, u UserID) (place, error) {
	p := place{Place: keyapi.PlaceHere}
	n, err := r.Note(NoteMove, u[:], nil, s.Now())
	if err != nil || n == nil {
		return p, err
	}
	if err := json.Unmarshal(n.Value, &p); err != nil {
		return p, fmt.Errorf("store is damaged: place of objects: %w", err)
	}
	return p, nil
}

func putPlace(w Writer, u UserID, p place) error {
	if p.Place == keyapi.PlaceHere {
		return w.DeleteNote(NoteMove, u[:], nil)
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return w.PutNote(&Note{Kind: NoteMove, Owner: u[:], Value: b})
}

func (p place) moved() error {
	m := conflict(keyapi.CodeMoved, "the objects are moving to another store")
	if p.Place == keyapi.PlaceGone {
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

func (s *Server) mayWrite(r Reader, u UserID) error {
	p, err := s.placeOf(r, u)
	if err == nil && p.Place != keyapi.PlaceHere {
		err = p.moved()
	}
	return err
}

func (s *Server) storePlace(ctx context.Context, _ *struct{}) (*output[keyapi.StorePlace], error) {
	u := caller(ctx).user
	var answer keyapi.StorePlace
	err := s.Store.View(ctx, func(r Reader) (err error) {
		answer, err = s.describe(r, u)
		return err
	})
	return &output[keyapi.StorePlace]{answer}, err
}

func (s *Server) describe(r Reader, u UserID) (keyapi.StorePlace, error) {
	p, err := s.placeOf(r, u)
	if err != nil {
		return keyapi.StorePlace{}, err
	}
	use, err := r.Usage(u)
	if err != nil {
		return keyapi.StorePlace{}, err
	}
	index, err := r.ObjectVersions(u)
	if err != nil {
		return keyapi.StorePlace{}, err
	}
	d, err := s.directionsOf(r, u)
	return keyapi.StorePlace{
		Place: p.Place, To: p.To, Objects: use.Objects, Bytes: use.Bytes, IndexHash: keyapi.IndexHash(index), Directions: d,
	}, err
}

// moveStore takes one step of a move.
func (s *Server) moveStore(ctx context.Context, in *input[keyapi.StoreMove]) (*output[keyapi.StorePlace], error) {
	u, m := caller(ctx).user, &in.Body
	if m.Change == keyapi.MoveLeave {
		if err := checkStoreURL(m.To); err != nil {
			return nil, err
		}
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	if m.Change == keyapi.MoveArrive { // what an earlier move left here
		if err := s.freeObjects(ctx, u); err != nil {
			return nil, err
		}
	}
	var answer keyapi.StorePlace
	err := s.update(ctx, func(w Writer) error {
		have, err := s.describe(w, u)
		if err != nil {
			return err
		}
		next, err := step(&have, m)
		if err != nil {
			return err
		}
		if next != (place{have.Place, have.To}) {
			if err := putPlace(w, u, next); err != nil {
				return err
			}
		}
		answer = have
		answer.Place, answer.To = next.Place, next.To
		return nil
	})
	if err != nil || answer.Place != keyapi.PlaceGone {
		return &output[keyapi.StorePlace]{answer}, err
	}
	// Decided: from here on it is nobody's to stop.
	if err := s.freeObjects(context.WithoutCancel(ctx), u); err != nil {
		s.log.Warn("objects that are gone were not deleted; the step deletes them when it is repeated", "error", err)
	}
	return &output[keyapi.StorePlace]{answer}, nil
}

// freeAtOnce is how many objects one transaction deletes.
const freeAtOnce = 256

// freeObjects deletes objects that are gone, in as many transactions as it takes.
func (s *Server) freeObjects(ctx context.Context, u UserID) error {
	for more := true; more; {
		err := s.Store.Update(ctx, func(w Writer) error {
			more = false
			if p, err := s.placeOf(w, u); err != nil || p.Place != keyapi.PlaceGone {
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
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// moves are the steps: from where, to where. The first place is where a step
// begins, the second where it has been taken already. Objects arrive where none
// are, or were.
var moves = map[string][2]string{
	keyapi.MoveLeave:   {keyapi.PlaceHere, keyapi.PlaceLeaving},
	keyapi.MoveStay:    {keyapi.PlaceLeaving, keyapi.PlaceHere},
	keyapi.MoveGo:      {keyapi.PlaceLeaving, keyapi.PlaceGone},
	keyapi.MoveArrive:  {keyapi.PlaceHere, keyapi.PlaceArriving},
	keyapi.MoveOpen:    {keyapi.PlaceArriving, keyapi.PlaceHere},
	keyapi.MoveAbandon: {keyapi.PlaceArriving, keyapi.PlaceGone},
}

func step(have *keyapi.StorePlace, m *keyapi.StoreMove) (place, error) {
	now := place{have.Place, have.To}
	move, ok := moves[m.Change]
	switch {
	case !ok:
		return now, invalid("change must be leave, stay, go, arrive, open or abandon")
	case m.Change == keyapi.MoveGo && have.Place == keyapi.PlaceGone: // of what was deleted there is no hash
		return now, nil
	case (m.Change == keyapi.MoveGo || m.Change == keyapi.MoveOpen) && !bytes.Equal(m.IndexHash, have.IndexHash):
		return now, conflict(keyapi.CodeConflict, "index_hash is not that of the objects here")
	case have.Place == move[1] && (m.Change != keyapi.MoveLeave || m.To == have.To):
		return now, nil
	case m.Change == keyapi.MoveArrive && have.Place == keyapi.PlaceGone && have.Objects == 0:
		return place{move[1], have.To}, nil
	case have.Place != move[0]:
		return now, conflict(keyapi.CodeConflict, "the objects are "+have.Place+" here: this step does not follow")
	case m.Change == keyapi.MoveArrive && have.Objects > 0:
		return now, conflict(keyapi.CodeConflict, "there are objects here already")
	case m.Change == keyapi.MoveLeave:
		return place{move[1], m.To}, nil
	case m.Change == keyapi.MoveGo, m.Change == keyapi.MoveAbandon:
		return place{move[1], have.To}, nil
	}
	return place{Place: move[1]}, nil
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
