package state

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A registration that is cut off at any request, before or after its effect,
// is finished by registering again on the same device.
func TestInterruptedRegistrationContinues(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"register", "tx"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", op, after), func(t *testing.T) {
				t.Parallel()
				e := newEvil()
				c := Config{Server: e, Local: NewMemory(), VaultKey: random(32), Origin: origin, Pause: noPause}
				if after {
					e.lose = times(1000, op, errLost)
				} else {
					e.fail = times(1000, op, errLost)
				}
				if op == "tx" && after { // else the store finds out by itself
					e.fail = times(1000, "objects", errLost)
				}
				if _, _, err := Register(t.Context(), "carol", "pw", c); !errors.Is(err, errLost) {
					t.Fatalf("got %v", err)
				}
				if _, err := Resume(t.Context(), c); !errors.Is(err, ErrUnfinished) {
					t.Errorf("resume: %v", err)
				}
				e.fail, e.lose = nil, nil
				s, code, err := Register(t.Context(), "carol", "pw", c)
				if err != nil {
					t.Fatal(err)
				}
				put(t, s, conv, "x")
				w, err := keys.FromRecoveryCode(code, s.scope)
				if err != nil {
					t.Fatal(err)
				}
				wraps, err := keys.ParseWraps(e.objects("carol")[bootstrapID(TypeWrap)].Data)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := w.Find(wraps); err != nil {
					t.Errorf("the code shown in the end: %v", err)
				}
				again, err := Resume(t.Context(), c)
				if err != nil || get(t, again, conv) != "x" {
					t.Errorf("resume: %v", err)
				}
			})
		}
	}
}

func TestRegisterRefusals(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	c := f.config(0)
	c.Local = NewMemory()
	_, _, err := Register(t.Context(), "Alice", password, c)
	if problemCode(err) != keyapi.CodeTaken {
		t.Errorf("a taken name: %v", err)
	}
	if _, err := Resume(t.Context(), c); !errors.Is(err, ErrNoVault) {
		t.Errorf("after a taken name: %v", err)
	}
	if _, _, err := Register(t.Context(), username, password, f.config(0)); err == nil {
		t.Error("registered on a signed-in device")
	}
	if _, err := Open(t.Context(), "bob", password, f.config(0)); !errors.Is(err, ErrOtherUser) {
		t.Errorf("another user: %v", err)
	}
	before := f.server.count("register")
	for _, bad := range []string{"", "\x00", "\xff"} {
		if _, _, err := Register(t.Context(), "dave", bad, c); !errors.Is(err, keys.ErrPassword) {
			t.Errorf("password %q: %v", bad, err)
		}
	}
	weak := c
	weak.KDF = keyapi.KDF{Algorithm: "argon2id", Salt: make([]byte, 16), Time: 1, MemoryKiB: 64, Threads: 1}
	var b *keys.BoundsError
	if _, _, err := Register(t.Context(), "dave", "pw", weak); !errors.As(err, &b) {
		t.Errorf("weak derivation: %v", err)
	}
	if f.server.count("register") != before {
		t.Error("a refused registration was sent")
	}
	for name, change := range map[string]func(*Config){
		"server": func(c *Config) { c.Server = nil }, "local": func(c *Config) { c.Local = nil },
		"vault key": func(c *Config) { c.VaultKey = make([]byte, 16) }, "origin": func(c *Config) { c.Origin = "" },
	} {
		bad := c
		change(&bad)
		if _, _, err := Register(t.Context(), "dave", "pw", bad); err == nil {
			t.Errorf("registered without %s", name)
		}
	}
}

// The password alone brings a new device everything (promise 4).
func TestNewDeviceReadsEverything(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	for i := range 20 {
		put(t, a, Key{TypeEpoch, fmt.Sprint("i/", i), mail}, fmt.Sprint("record ", i))
	}
	draft, err := a.SealPersonal(t.Context(), []byte("draft"), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := f.config(0)
	c.Local, c.VaultKey = NewMemory(), random(32)
	s, err := Open(t.Context(), "ALICE", password, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if got := get(t, s, Key{TypeEpoch, fmt.Sprint("i/", i), mail}); got != fmt.Sprint("record ", i) {
			t.Errorf("got %q", got)
		}
	}
	if pt, err := s.OpenPersonal(t.Context(), draft, nil); err != nil || string(pt) != "draft" {
		t.Errorf("%q, %v", pt, err)
	}
	if s.Slot() == a.Slot() || s.Slot() == 0 || s.Username() != username || s.Origin() != origin || string(s.UserID()) != string(a.UserID()) {
		t.Error("the new device is not what it should be")
	}
}
