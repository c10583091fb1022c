package keyserver_test

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// drawn is a store as its steps alone make it.
type drawn struct {
	p    keyserver.MovePlace
	have map[keyapi.ObjectID]keyapi.Object
	hash []byte // of have; nil: not known
}

func (s *drawn) place() keyapi.StorePlace {
	if s.hash == nil {
		s.hash = indexHash(slices.Collect(maps.Values(s.have)))
	}
	return keyapi.StorePlace{Place: s.p.Place, Move: s.p.Move, To: s.p.To, Objects: len(s.have), IndexHash: s.hash}
}

func (s *drawn) step(m keyapi.StoreMove) error {
	for {
		at := s.place()
		next, err := s.p.Step(&m, at.Objects, at.IndexHash)
		if err != nil {
			return err
		}
		if s.p = next; next.Place != keyapi.PlaceGone {
			return nil
		}
		clear(s.have)
		s.hash = nil
		if next.To == "" {
			s.p = next.Here()
		}
		if m.Change != keyapi.MoveArrive {
			return nil
		}
	}
}

func (s *drawn) bring(in keyapi.StoreImport) error {
	if s.p.Place != keyapi.PlaceArriving || s.p.Move != in.Move {
		return errors.New("not arriving by this move")
	}
	for _, o := range in.Objects {
		if have, ok := s.have[o.ID]; ok && (have.Counter != o.Counter || !slices.Equal(have.Data, o.Data)) {
			return errors.New("another object is here")
		}
		s.have[o.ID], s.hash = o, nil
	}
	return nil
}

func (s *drawn) write(o keyapi.Object) error {
	if s.p.Place != keyapi.PlaceHere || s.p.Move != 0 || s.have[o.ID].Counter+1 != o.Counter {
		return errors.New("moved, or changed")
	}
	s.have[o.ID], s.hash = o, nil
	return nil
}

func (s *drawn) read() ([]keyapi.Object, error) {
	if s.p.Place != keyapi.PlaceHere && s.p.Place != keyapi.PlaceLeaving {
		return nil, errors.New("moved")
	}
	return slices.Collect(maps.Values(s.have)), nil
}

// served is a store of the model on a server.
type served struct {
	*person
	c *keyclient.Client
}

func (s *served) place() keyapi.StorePlace {
	p, err := s.c.StorePlace(s.w.t.Context(), s.token())
	if err != nil {
		s.w.t.Fatal(err)
	}
	return p
}

// refused tells a refusal, which the model knows, from what must not happen.
func (s *served) refused(err error) error {
	var p *keyapi.Problem
	if err != nil && (!errors.As(err, &p) || p.Code != keyapi.CodeConflict && p.Code != keyapi.CodeMoved) {
		s.w.t.Fatal(err)
	}
	return err
}

func (s *served) step(m keyapi.StoreMove) error {
	_, err := s.c.MoveStore(s.w.t.Context(), s.token(), m)
	return s.refused(err)
}

func (s *served) bring(in keyapi.StoreImport) error {
	_, err := s.c.ImportObjects(s.w.t.Context(), s.token(), in)
	return s.refused(err)
}

func (s *served) write(o keyapi.Object) error {
	_, err := s.c.Tx(s.w.t.Context(), s.token(), keyapi.Tx{Put: []keyapi.Object{o}})
	return s.refused(err)
}

func (s *served) read() ([]keyapi.Object, error) {
	index, err := s.c.ObjectIndex(s.w.t.Context(), s.token())
	if err != nil || len(index.Objects) == 0 {
		return nil, s.refused(err)
	}
	var ids []keyapi.ObjectID
	for _, v := range index.Objects {
		ids = append(ids, v.ID)
	}
	list, err := s.c.Objects(s.w.t.Context(), s.token(), ids)
	return list.Objects, s.refused(err)
}

func indexHash(objects []keyapi.Object) []byte {
	var list []keyapi.ObjectVersion
	for _, o := range objects {
		h := sha256.Sum256(o.Data)
		list = append(list, keyapi.ObjectVersion{ID: o.ID, Counter: o.Counter, Hash: h[:]})
	}
	return keyapi.IndexHash(list)
}
