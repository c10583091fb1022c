package cloudmls

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// hastyServer answers at once that there is nothing, whatever it was asked to
// wait for.
type hastyServer struct {
	Server
	asked, until int // until: how many answers are empty
}

func (s *hastyServer) Deliveries(context.Context, string, DeliveryQuery) (keyapi.Deliveries, error) {
	if s.asked++; s.asked > s.until {
		return keyapi.Deliveries{Messages: []keyapi.Delivery{{}}}, nil
	}
	return keyapi.Deliveries{}, nil
}

// TestWaitRests: where empty answers come at once, Wait asks ever more rarely, and
// ends with its context in between.
func TestWaitRests(t *testing.T) {
	t.Parallel()
	alice := newWorld(t).user("alice")
	hasty := &hastyServer{Server: alice.o.Server, until: 1 << 30}
	alice.o.Server = hasty
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := alice.Wait(ctx, alice.self); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an hour without anything: %v", err)
		}
		if hasty.asked < 50 || hasty.asked > 80 {
			t.Errorf("%d questions in an hour", hasty.asked)
		}
		hasty.until = hasty.asked + 3
		began := time.Now()
		if err := alice.Wait(t.Context(), alice.self); err != nil || time.Since(began) != 7*waitPauseFirst {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}
