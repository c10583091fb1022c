package keyserver

import (
	"errors"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// MovePlace is where a user's objects are, for tests of the steps alone.
type MovePlace = place

// Step is place.step, with errors as clients see them.
func (p place) Step(m *keyapi.StoreMove, objects int, hash []byte) (MovePlace, error) {
	next, err := p.step(m, objects, hash)
	var why *problem
	if errors.As(err, &why) {
		err = why.Problem
	}
	return next, err
}

// Here is place.here.
func (p place) Here() MovePlace { return p.here(0) }
