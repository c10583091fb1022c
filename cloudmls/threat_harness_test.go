package cloudmls

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// hostile is a world whose key server is evil. The tests by number of the threat
// list (security.md section 9, docs/threats.md) live in it.
type hostile struct {
	*world
	evil *evil.Server
	pool int // KeyPackages that devices publish; 0: the default
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	w := &world{t: t, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, wire: &wire{}}
	h := &hostile{world: w, evil: evil.NewServer(t, evil.Options{Server: keyserver.Options{Now: w.clock.now}})}
	w.ks = h.evil.Server
	return h
}

// optionsAs are those of a device that the evil server knows by this name.
func (h *hostile) optionsAs(name string, store LocalStore) Options {
	o := h.options(store)
	o.Server, o.KeyPackages = h.evil.Client(name), h.pool
	return o
}

// user registers a user whose first device has the user's name.
func (h *hostile) user(name string) *device {
	h.t.Helper()
	d := &device{w: h.world, t: h.t, username: name + "-user", self: account(name), store: NewMemoryStore()}
	c, _, err := Register(h.t.Context(), d.username, password, h.optionsAs(name, d.store))
	if err != nil {
		h.t.Fatalf("register %s: %v", name, err)
	}
	d.Client = c
	h.t.Cleanup(func() { d.Close() })
	if err := c.AddAccount(h.t.Context(), d.self); err != nil {
		h.t.Fatalf("add account of %s: %v", name, err)
	}
	return d
}

// signIn makes another device of a user, or says why it cannot be.
func (h *hostile) signIn(d *device, name string) (*device, error) {
	h.t.Helper()
	s := &device{w: h.world, t: h.t, username: d.username, self: d.self, store: NewMemoryStore()}
	c, err := Open(h.t.Context(), d.username, password, h.optionsAs(name, s.store))
	if err != nil {
		return nil, err
	}
	s.Client = c
	h.t.Cleanup(func() { s.Close() })
	return s, nil
}

// second is signIn where nothing is in the way.
func (h *hostile) second(d *device, name string) *device {
	h.t.Helper()
	s, err := h.signIn(d, name)
	if err != nil {
		h.t.Fatalf("sign in on %s: %v", name, err)
	}
	return s
}

// restart ends a device's program as kill -9 would, and starts it again.
func (h *hostile) restart(d *device, name string) {
	h.t.Helper()
	d.Close()
	c, err := Resume(h.t.Context(), h.optionsAs(name, d.store))
	if err != nil {
		h.t.Fatalf("resume %s: %v", name, err)
	}
	d.Client = c
	h.t.Cleanup(func() { c.Close() })
}

// deliver puts a forged message into a device's queue, behind what is there, and
// lets the device sync.
func (h *hostile) deliver(victim *device, forged *keyapi.Delivery) SyncResult {
	h.t.Helper()
	h.evil.Deliver(*forged, victim.self)
	return victim.mustSync()
}

// alarmed checks that a device noticed that the key server contradicts itself,
// and says and sends nothing more: no ciphertext leaves it, not even one that it
// could make without the key server.
func (h *hostile) alarmed(d *device, id ConversationID, err error) {
	h.t.Helper()
	var alarm *RollbackError
	if !errors.As(err, &alarm) {
		h.t.Errorf("%s: got %v, want an alarm", d.self, err)
		return
	}
	if errors.Is(err, ErrNoConversation) || errors.Is(err, state.ErrNotFound) {
		h.t.Errorf("%s: the alarm says that something does not exist: %v", d.self, err)
	}
	writes := h.evil.Count(evil.To("POST", "/v1/tx"))
	b, err := d.Encrypt(h.t.Context(), d.self, id, []byte("after the alarm"), nil)
	if !errors.As(err, &alarm) || b != nil {
		h.t.Errorf("%s: after an alarm it encrypts: %q, %v", d.self, b, err)
	}
	if h.evil.Count(evil.To("POST", "/v1/tx")) != writes {
		h.t.Errorf("%s: after an alarm it writes to the key server", d.self)
	}
}

// firstOfType finds the one object of a type in a state; where there are more,
// the first.
func firstOfType(h *hostile, s evil.State, t state.Type) keyapi.ObjectID {
	h.t.Helper()
	ids := evil.Changed(evil.State{}, s, byte(t))
	if len(ids) == 0 {
		h.t.Fatalf("no object of type %d", t)
	}
	return ids[0]
}

// logger writes everything, whatever its level.
func loggerTo(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))
}

// submitted lists the transactions with a Commit that devices of these names sent.
func (h *hostile) submitted(devices ...string) []keyapi.CommitSubmission {
	h.t.Helper()
	var all []keyapi.CommitSubmission
	for _, e := range h.evil.Log() {
		if e.Method != "POST" || e.Path != "/v1/tx" || len(devices) > 0 && !slices.Contains(devices, e.Device) {
			continue
		}
		if tx := decodeJSON[keyapi.Tx](h.t, e.Sent); tx.Commit != nil {
			all = append(all, *tx.Commit)
		}
	}
	return all
}

var _ Server = (*keyclient.Client)(nil)

func serverOptions(origin string, c *clock) keyserver.Options {
	return keyserver.Options{Origin: origin, Now: c.now}
}
