package main

import (
	"context"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/control"
)

// slow is a service whose key server answers once something was said.
type slow struct {
	control.Service
	said chan string
}

func (s *slow) Write(p []byte) (int, error) {
	s.said <- string(p)
	return len(p), nil
}

func (s *slow) Devices(ctx context.Context) ([]control.Device, error) {
	select {
	case text := <-s.said:
		return []control.Device{{Name: text}}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestWaitingIsSaid: a command that waits for the key server does not do so in
// silence.
func TestWaitingIsSaid(t *testing.T) {
	t.Parallel()
	s := &slow{said: make(chan string, 1)}
	got, err := patient{s, s, 1}.Devices(t.Context())
	if err != nil || len(got) != 1 || !strings.Contains(got[0].Name, "waiting for the key server") {
		t.Errorf("%v, %v", got, err)
	}
	if patience > 2e9 {
		t.Errorf("people wait for %v without a word", patience)
	}
}
