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

// TestWaitEndsWithTheClient: whoever waits when the Client is closed, or the device
// signed out, is not kept until the key server's answer comes.
func TestWaitEndsWithTheClient(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*device) error{
		"closed":     func(d *device) error { return d.Close() },
		"signed out": func(d *device) error { return d.SignOut(d.t.Context()) },
		"ended":      func(d *device) error { return d.EndSession(d.t.Context()) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			alice := newWorld(t).user("alice")
			patient := &patientServer{Server: alice.o.Server, asked: make(chan struct{})}
			alice.o.Server = patient
			waited := make(chan error)
			go func() { waited <- alice.Wait(context.Background(), alice.self) }()
			<-patient.asked
			if err := end(alice); err != nil {
				t.Fatal(err)
			}
			if err := <-waited; !errors.Is(err, ErrClosed) {
				t.Errorf("%v", err)
			}
			if err := alice.Wait(t.Context(), alice.self); !errors.Is(err, ErrClosed) {
				t.Errorf("waiting with a closed Client: %v", err)
			}
		})
	}
}

// patientServer never answers a question for deliveries.
type patientServer struct {
	Server
	asked chan struct{}
}

func (s *patientServer) Deliveries(ctx context.Context, _ string, _ DeliveryQuery) (keyapi.Deliveries, error) {
	close(s.asked)
	<-ctx.Done()
	return keyapi.Deliveries{}, ctx.Err()
}
