package keyserver

import (
	"context"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// importObjects takes objects of the move that arrives here, with the counters that they have elsewhere.
func (s *Server) importObjects(ctx context.Context, in *input[keyapi.StoreImport]) (*output[keyapi.StorePlace], error) {
	u := caller(ctx).user
	if err := checkMoveNumber(in.Body.Move); err != nil {
		return nil, err
	}
	if err := checkTx(&keyapi.Tx{Put: in.Body.Objects}); err != nil {
		return nil, err
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var answer keyapi.StorePlace
	err := s.update(ctx, func(w Writer) error {
		p, err := s.placeOf(w, u)
		if err != nil {
			return err
		}
		before, err := w.Usage(u)
		if err != nil {
			return err
		}
		if p.Place != keyapi.PlaceArriving || p.Move != in.Body.Move {
			return p.refuses(&keyapi.StoreMove{Change: "import", Move: in.Body.Move}, before.Objects)
		}
		for i := range in.Body.Objects {
			if err := importObject(w, u, &in.Body.Objects[i]); err != nil {
				return err
			}
		}
		if err := s.checkUsage(w, u, before); err != nil {
			return err
		}
		answer, err = s.describe(w, u, p)
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
