package keyserver

import "github.com/cloudmls/gateway/keyserver/keyapi"

// MovePlace is where a user's objects are, for tests of the steps alone.
type MovePlace = place

// Step is place.step.
func (p place) Step(m *keyapi.StoreMove, objects int, hash []byte) (MovePlace, error) {
	return p.step(m, objects, hash)
}

// Here is place.here.
func (p place) Here() MovePlace { return p.here(0) }
