package state

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// In 2022 the first call after an access token's end always failed, although
// the session was refreshed. Here it is repeated with the new token.
func TestFlaw34_RefreshAndRetry(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "1")
	f.server.expireTokens()
	put(t, s, conv, "2")
	f.server.expireTokens()
	if _, err := s.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	f.server.expireTokens()
	if err := s.Swap(t.Context(), sending, func([]byte) ([]byte, error) { return []byte("x"), nil }); err != nil {
		t.Error(err)
	}
	f.server.expireTokens()
	calls := 0
	err := s.Authorized(t.Context(), func(ctx context.Context, token string) error {
		calls++
		_, err := f.server.ObjectIndex(ctx, token)
		return err
	})
	if err != nil || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestFlaw34_ManyCallersOneRefresh(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	refresh(t, s)
	f.server.expireTokens()
	before := f.server.count("refresh")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.index(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.server.count("refresh") - before; n != 1 {
		t.Errorf("%d refreshes", n)
	}
}

// The refresh token of a restart is the newest one.
func TestRotatedTokenSurvivesRestart(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	for range 3 {
		f.server.expireTokens()
		refresh(t, s)
	}
	newest := string(s.session.refresh)
	for token := range f.server.users[username].sessions {
		if token != newest && string(f.device(t, 1).session.refresh) != token {
			delete(f.server.users[username].sessions, token)
		}
	}
	f.server.expireTokens()
	refresh(t, f.device(t, 0))
}

func TestLostRefreshAnswerIsAskedForAgain(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	n := 0
	f.server.lose = func(op string) error {
		if n++; op == "refresh" && n == 1 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	refresh(t, s)
}

func TestRefusedSessionIsSignedOut(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "x")
	f.server.expireTokens()
	clear(f.server.users[username].sessions)
	if _, err := s.Refresh(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Fatalf("got %v", err)
	}
	if got := get(t, s, conv); got != "x" {
		t.Errorf("cached object: %q", got)
	}
	if _, err := s.Get(t.Context(), sending); err == nil {
		t.Error("got a sender object")
	}
	// The password brings it back, with the same slot.
	again, err := Open(t.Context(), username, password, f.config(0))
	if err != nil {
		t.Fatal(err)
	}
	if again.Slot() != s.Slot() {
		t.Errorf("slot %d became %d", s.Slot(), again.Slot())
	}
	refresh(t, again)
}

// Parameters out of bounds, or other than those pinned, end the sign-in before
// anything derived from the password is sent (threats 2, 3).
func TestThreat03_PinnedParameters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*keyapi.AuthParams)
		known  bool
	}{
		"weak":              {func(p *keyapi.AuthParams) { p.KDF.Time = 1 }, false},
		"little memory":     {func(p *keyapi.AuthParams) { p.KDF.MemoryKiB = 1024 }, false},
		"exhausting":        {func(p *keyapi.AuthParams) { p.KDF.MemoryKiB = 8 << 20 }, false},
		"algorithm":         {func(p *keyapi.AuthParams) { p.KDF.Algorithm = "scrypt" }, false},
		"version":           {func(p *keyapi.AuthParams) { p.AuthVersion = 0 }, false},
		"no user id":        {func(p *keyapi.AuthParams) { p.UserID = nil }, false},
		"salt after pin":    {func(p *keyapi.AuthParams) { p.KDF.Salt = make([]byte, 16) }, true},
		"passes after pin":  {func(p *keyapi.AuthParams) { p.KDF.Time = 4 }, true},
		"threads after pin": {func(p *keyapi.AuthParams) { p.KDF.Threads = 1 }, true},
		"user after pin":    {func(p *keyapi.AuthParams) { p.UserID = make([]byte, 16) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			cfg := f.config(0)
			if !c.known {
				cfg.Local = NewMemory()
			}
			f.server.inParams = c.change
			before := f.server.count("login")
			_, err := Open(t.Context(), username, password, cfg)
			var b *keys.BoundsError
			if err == nil || f.server.count("login") != before {
				t.Errorf("got %v and %d sign-ins", err, f.server.count("login")-before)
			}
			if c.known && !errors.Is(err, ErrPinned) || !c.known && errors.As(err, &b) && errors.Is(err, ErrPinned) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Pins outlive a sign-out.
func TestThreat03_PinsSurviveSignOut(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	if err := f.device(t, 0).SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.server.inParams = func(p *keyapi.AuthParams) { p.KDF.Salt = make([]byte, 16) }
	if _, err := Open(t.Context(), username, password, f.config(0)); !errors.Is(err, ErrPinned) {
		t.Errorf("got %v", err)
	}
}

func TestSignOutWipesTheDevice(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "x")
	if err := a.Cache("n").Put("k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	slot := a.Slot()
	if err := a.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, m := range f.local[0].buckets {
		if len(m) > 0 && name != bucketPins && name != bucketFloor {
			t.Errorf("%d records left in %s", len(m), name)
		}
	}
	if _, err := Resume(t.Context(), f.config(0)); !errors.Is(err, ErrNoVault) {
		t.Errorf("resume: %v", err)
	}
	if _, err := a.Get(t.Context(), conv); err == nil {
		t.Error("a signed-out store still reads")
	}
	refresh(t, b)
	p := b.now.Load().profile
	if len(p.Devices) != 1 || len(p.Used) != 1 || p.Used[0] != slot {
		t.Errorf("devices %v, used slots %v", p.Devices, p.Used)
	}
	again, err := Open(t.Context(), username, password, f.config(0))
	if err != nil {
		t.Fatal(err)
	}
	if again.Slot() == slot || again.Slot() == b.Slot() {
		t.Error("a slot was given out twice")
	}
	if got := get(t, again, conv); got != "x" {
		t.Errorf("got %q", got)
	}
}

// A device that was dropped when ROOT was rotated sees nothing newer; the
// others and a new one go on, without password or code.
func TestRotationShutsOutDroppedDevices(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "old")
	put(t, a, record, "r")
	refresh(t, b)
	_ = get(t, b, conv)
	if err := a.RotateRoot(t.Context(), nil, b.vault.DeviceID); err != nil {
		t.Fatal(err)
	}
	put(t, a, group, "new")
	if _, err := b.Refresh(t.Context()); err == nil {
		t.Error("a dropped device follows")
	}
	for name, o := range f.server.objects(username) {
		if n := b.now.Load(); typeOf(name) == TypeGroup {
			if _, _, err := b.open(n, version{id: name, counter: o.Counter}, o.Data); err == nil {
				t.Error("a dropped device opens a new object")
			}
		}
	}
	c := f.config(1)
	c.Local, c.VaultKey = NewMemory(), random(32)
	d, err := Open(t.Context(), username, password, c)
	if err != nil {
		t.Fatal(err)
	}
	restarted := f.device(t, 0)
	for _, s := range []*Store{a, restarted, d} {
		refresh(t, s)
		if got := get(t, s, conv) + get(t, s, record) + get(t, s, group); got != "oldrnew" {
			t.Errorf("got %q", got)
		}
	}
	// And the recovery code still opens ROOT.
	w, err := keys.FromRecoveryCode(f.recovery, d.scope)
	if err != nil {
		t.Fatal(err)
	}
	wraps, err := keys.ParseWraps(f.server.objects(username)[bootstrapID(TypeWrap)].Data)
	if err != nil {
		t.Fatal(err)
	}
	root, v, err := w.Find(wraps)
	if err != nil || v != 2 || string(root) != string(d.now.Load().roots[2]) {
		t.Errorf("recovery code: version %d, %v", v, err)
	}
}

func TestRotationIsFollowedByOtherDevices(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "old")
	next := func(old []byte) ([]byte, error) { return append(old, '.'), nil }
	for _, s := range []*Store{a, b} {
		if err := s.Swap(t.Context(), sending, next); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := a.RotateRoot(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Swap(t.Context(), sending, next); err != nil {
		t.Fatal(err)
	}
	if err := b.Swap(t.Context(), sending, next); err != nil { // under a ROOT that b has not seen
		t.Fatal(err)
	}
	if got := get(t, a, sending); got != "...." {
		t.Errorf("sender object: %q", got)
	}
	refresh(t, b)
	put(t, b, conv, get(t, b, conv)+" and new")
	refresh(t, a)
	if got := get(t, a, conv); got != "old and new" {
		t.Errorf("got %q", got)
	}
	f.server.fail = func(string) error { return io.ErrUnexpectedEOF }
	if got := get(t, f.device(t, 1), conv); got != "old and new" {
		t.Errorf("after a restart without network: %q", got)
	}
}
