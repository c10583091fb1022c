package keyserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Moving a user's objects to another store: a device makes them leave here
// (they are read still, and written nowhere), lets them arrive there, copies
// them, opens the new store, and lets them be gone here, with the new store's
// URL for the other devices. Each step can be repeated by any device; until the
// last one the old store has everything. docs/spec/keyserver-api.md section 8.

// place is where a user's objects are; no note means here.
type place struct {
	Place string `json:"place"`
	To    string `json:"to,omitempty"`
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
	return keyapi.StorePlace{Place: p.Place, To: p.To, Objects: use.Objects, Bytes: use.Bytes, IndexHash: keyapi.IndexHash(index)}, err
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
	var answer keyapi.StorePlace
	err := s.Store.Update(ctx, func(w Writer) error {
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
	return &output[keyapi.StorePlace]{answer}, err
}

// moves are the steps: from where, to where. The first place is where a step
// begins, the second where it has been taken already.
var moves = map[string][2]string{
	keyapi.MoveLeave:  {keyapi.PlaceHere, keyapi.PlaceLeaving},
	keyapi.MoveStay:   {keyapi.PlaceLeaving, keyapi.PlaceHere},
	keyapi.MoveGo:     {keyapi.PlaceLeaving, keyapi.PlaceGone},
	keyapi.MoveArrive: {keyapi.PlaceHere, keyapi.PlaceArriving},
	keyapi.MoveOpen:   {keyapi.PlaceArriving, keyapi.PlaceHere},
}

func step(have *keyapi.StorePlace, m *keyapi.StoreMove) (place, error) {
	now := place{have.Place, have.To}
	move, ok := moves[m.Change]
	switch {
	case !ok:
		return now, invalid("change must be leave, stay, go, arrive or open")
	case (m.Change == keyapi.MoveGo || m.Change == keyapi.MoveOpen) && !bytes.Equal(m.IndexHash, have.IndexHash):
		return now, conflict(keyapi.CodeConflict, "index_hash is not that of the objects here")
	case have.Place == move[1] && (m.Change != keyapi.MoveLeave || m.To == have.To):
		return now, nil
	case have.Place != move[0]:
		return now, conflict(keyapi.CodeConflict, "the objects are "+have.Place+" here: this step does not follow")
	case m.Change == keyapi.MoveArrive && have.Objects > 0:
		return now, conflict(keyapi.CodeConflict, "there are objects here already")
	case m.Change == keyapi.MoveLeave:
		return place{move[1], m.To}, nil
	case m.Change == keyapi.MoveGo:
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

// importObjects takes objects with the counters that they have elsewhere.
func (s *Server) importObjects(ctx context.Context, in *input[keyapi.StoreImport]) (*output[keyapi.StorePlace], error) {
	u := caller(ctx).user
	if err := checkTx(&keyapi.Tx{Put: in.Body.Objects}); err != nil {
		return nil, err
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var answer keyapi.StorePlace
	err := s.Store.Update(ctx, func(w Writer) error {
		p, err := s.placeOf(w, u)
		if err != nil {
			return err
		}
		if p.Place != keyapi.PlaceArriving {
			return conflict(keyapi.CodeConflict, "no objects are arriving here")
		}
		before, err := w.Usage(u)
		if err != nil {
			return err
		}
		for i := range in.Body.Objects {
			if err := importObject(w, u, &in.Body.Objects[i]); err != nil {
				return err
			}
		}
		if err := s.checkUsage(w, u, before); err != nil {
			return err
		}
		answer, err = s.describe(w, u)
		return err
	})
	return &output[keyapi.StorePlace]{answer}, err
}

func importObject(w Writer, u UserID, o *keyapi.Object) error {
	have, err := w.Object(u, o.ID)
	switch {
	case err != nil:
		return err
	case have == nil:
		return w.PutObject(u, o)
	case have.Counter != o.Counter || !slices.Equal(have.Data, o.Data):
		p := conflict(keyapi.CodeConflict, "an object is here with another counter or other octets")
		p.Have = []keyapi.Expect{{ID: have.ID, Counter: have.Counter}}
		return p
	}
	return nil
}
