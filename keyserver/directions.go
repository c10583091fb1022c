package keyserver

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Directions are sealed octets that the user's devices leave for each other and
// for new ones: at which store the objects are, and how to sign in there. They
// lie at the store that takes this operator's tokens, wherever the objects are.

func (s *Server) directionsOf(r Reader, u UserID) (*keyapi.Directions, error) {
	n, err := r.Note(NoteDirections, u[:], nil, s.Now())
	if err != nil || n == nil {
		return nil, err
	}
	var d keyapi.Directions
	if err := json.Unmarshal(n.Value, &d); err != nil {
		return nil, fmt.Errorf("store is damaged: directions: %w", err)
	}
	return &d, nil
}

// setDirections replaces them by compare-and-swap over the counter. The same
// again changes nothing.
func (s *Server) setDirections(ctx context.Context, in *input[keyapi.Directions]) (*output[keyapi.StorePlace], error) {
	u, d := caller(ctx).user, &in.Body
	if d.Counter == 0 || d.Counter == math.MaxUint64 || len(d.Data) == 0 || len(d.Data) > keyapi.MaxDirections {
		return nil, invalid("directions have a counter from 1 to 2^64-2, and 1 octet to 96 KiB")
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var answer keyapi.StorePlace
	err := s.update(ctx, func(w Writer) error {
		have, err := s.directionsOf(w, u)
		if err != nil {
			return err
		}
		var counter uint64
		if have != nil {
			counter = have.Counter
		}
		switch {
		case have != nil && counter == d.Counter && string(have.Data) == string(d.Data):
		case counter+1 != d.Counter:
			return conflict(keyapi.CodeConflict, "the directions have changed")
		default:
			b, err := json.Marshal(d)
			if err != nil {
				return err
			}
			if err := w.PutNote(&Note{Kind: NoteDirections, Owner: u[:], Value: b}); err != nil {
				return err
			}
		}
		p, err := s.placeOf(w, u)
		if err != nil {
			return err
		}
		answer, err = s.describe(w, u, p)
		return err
	})
	return &output[keyapi.StorePlace]{answer}, err
}
