package keyserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// change is a request that sets a new password and writes one object.
func (p *person) change(old, fresh []byte, o keyapi.Object) keyapi.PasswordRequest {
	return keyapi.PasswordRequest{
		OldAuth: old, AuthVersion: 1, Auth: fresh, KDFTag: random(32),
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
		Tx:  keyapi.Tx{Put: []keyapi.Object{o}},
	}
}

func (p *person) recover(auth []byte) (keyapi.Session, error) {
	return p.w.c.Recover(p.w.t.Context(), keyapi.RecoverRequest{
		Username: p.name, AuthVersion: 1, RecoveryAuth: auth, Device: keyapi.Device{Name: "new", Key: public(newKey())},
	})
}

// Threat 6: one step changes what the user signs in with and the object that is
// sealed to it; other sessions are dead at once.
func TestThreat06_PasswordChange(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	other, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	fresh := random(32)
	r := p.change(p.auth, fresh, put("wraps", 1, "sealed to the new one"))
	if _, err := w.c.ChangePassword(t.Context(), p.token(), r); err != nil {
		t.Fatal(err)
	}
	_, err = w.c.ObjectIndex(t.Context(), other.AccessToken)
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.refresh(other.RefreshToken, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if n, data := p.object(objectID("wraps")); n != 1 || string(data) != "sealed to the new one" {
		t.Errorf("object %d %q", n, data)
	}
	if s, err := p.refresh(p.session.RefreshToken, p.device); err != nil {
		t.Errorf("the session that changed it: %v", err)
	} else {
		p.session = s
	}
	_, err = p.login(newKey(), p.auth)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if _, err = p.login(newKey(), fresh); err != nil {
		t.Errorf("the new password: %v", err)
	}
	params, err := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "alice"})
	if err != nil || !bytes.Equal(params.KDF.Salt, r.KDF.Salt) || !bytes.Equal(params.KDFTag, r.KDFTag) {
		t.Errorf("parameters %+v, %v", params, err)
	}
	if s, err := p.recover(p.recovery); err != nil || s.AccessToken == "" {
		t.Errorf("the recovery code stays: %v", err)
	}
}

// Nothing changes where any part of it is refused.
func TestThreat06_PasswordChangeIsAllOrNothing(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("state", 1, "in use")}}); err != nil {
		t.Fatal(err)
	}
	other, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	fresh := random(32)
	for name, row := range map[string]struct {
		change func(*keyapi.PasswordRequest)
		code   string
	}{
		"wrong password":        {func(r *keyapi.PasswordRequest) { r.OldAuth = random(32) }, keyapi.CodeForbidden},
		"no password":           {func(r *keyapi.PasswordRequest) { r.OldAuth = nil }, keyapi.CodeInvalid},
		"recovery code instead": {func(r *keyapi.PasswordRequest) { r.OldAuth, r.RecoveryAuth = nil, random(32) }, keyapi.CodeInvalid},
		"stale objects":         {func(r *keyapi.PasswordRequest) { r.Tx.Put[0].Counter = 2 }, keyapi.CodeConflict},
		"no objects":            {func(r *keyapi.PasswordRequest) { r.Tx.Put = nil }, keyapi.CodeInvalid},
		"a Commit":              {func(r *keyapi.PasswordRequest) { r.Tx.Commit = newGroup().create(p.account, "commit") }, keyapi.CodeInvalid},
		"an acknowledgement": {func(r *keyapi.PasswordRequest) {
			r.Tx.Ack = []keyapi.AckRequestFor{{Account: p.account}}
		}, keyapi.CodeInvalid},
		"short auth":      {func(r *keyapi.PasswordRequest) { r.Auth = random(31) }, keyapi.CodeInvalid},
		"short recovery":  {func(r *keyapi.PasswordRequest) { r.RecoveryAuth = random(31) }, keyapi.CodeInvalid},
		"short tag":       {func(r *keyapi.PasswordRequest) { r.KDFTag = random(31) }, keyapi.CodeInvalid},
		"weak derivation": {func(r *keyapi.PasswordRequest) { r.KDF.MemoryKiB = 1 }, keyapi.CodeInvalid},
		"unknown version": {func(r *keyapi.PasswordRequest) { r.AuthVersion = 2 }, keyapi.CodeInvalid},
	} {
		r := p.change(p.auth, fresh, put("wraps", 1, "x"))
		row.change(&r)
		_, err := w.c.ChangePassword(t.Context(), p.token(), r)
		if q := wantCode(t, err, row.code); t.Failed() {
			t.Fatalf("%s: %v", name, q)
		}
		if n, _ := p.object(objectID("wraps")); n != 0 {
			t.Fatalf("%s: the object was written", name)
		}
		if _, err := w.c.ObjectIndex(t.Context(), other.AccessToken); err != nil {
			t.Fatalf("%s: another session has ended: %v", name, err)
		}
	}
	_, err = p.login(newKey(), fresh)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if _, err := p.login(newKey(), p.auth); err != nil {
		t.Errorf("the old password: %v", err)
	}
}

// A stolen session does not serve to guess the password, nor does its owner
// lose tries to a race between devices.
func TestPasswordChangeIsThrottled(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	for range 10 { // lost races
		r := p.change(p.auth, random(32), put("wraps", 7, "x"))
		_, err := w.c.ChangePassword(t.Context(), p.token(), r)
		wantCode(t, err, keyapi.CodeConflict)
	}
	guesses := 0
	for range 20 {
		_, err := w.c.ChangePassword(t.Context(), p.token(), p.change(random(32), random(32), put("wraps", 1, "x")))
		var q *keyapi.Problem
		if errors.As(err, &q) && q.Code == keyapi.CodeForbidden {
			guesses++
		} else {
			wantCode(t, err, keyapi.CodeRateLimited)
		}
	}
	if guesses != 5 {
		t.Errorf("%d guesses, want 5", guesses)
	}
}

// Threat 7: the recovery code opens a session that can do nothing but set a new
// password, and serves once.
func TestThreat07_RecoveryCodeServesOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("wraps", 1, "old")}}); err != nil {
		t.Fatal(err)
	}
	s, err := p.recover(p.recovery)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.ObjectIndex(t.Context(), s.AccessToken); err != nil {
		t.Errorf("it reads the objects: %v", err)
	}
	if l, err := w.c.Objects(t.Context(), s.AccessToken, []keyapi.ObjectID{objectID("wraps")}); err != nil || len(l.Objects) != 1 {
		t.Errorf("it reads an object: %v", err)
	}
	for name, call := range map[string]func() error{
		"tx":       func() error { _, err := w.c.Tx(t.Context(), s.AccessToken, keyapi.Tx{}); return err },
		"accounts": func() error { _, err := w.c.Accounts(t.Context(), s.AccessToken); return err },
		"claim": func() error {
			_, err := w.c.AddAccount(t.Context(), s.AccessToken, keyapi.AccountRequest{})
			return err
		},
		"inbox": func() error {
			_, err := w.c.Deliveries(t.Context(), s.AccessToken, keyapi.DeliveryQuery{Account: p.account})
			return err
		},
		"sessions":    func() error { _, err := w.c.Sessions(t.Context(), s.AccessToken); return err },
		"end session": func() error { return w.c.EndSession(t.Context(), s.AccessToken, p.session.SessionID) },
		"reachable":   func() error { _, err := w.c.Reachable(t.Context(), s.AccessToken, p.account); return err },
	} {
		err := call()
		var q *keyapi.Problem
		if !errors.As(err, &q) || q.Code != keyapi.CodeForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	fresh, code := random(32), random(32)
	r := p.change(nil, fresh, put("wraps", 2, "new"))
	_, err = w.c.ChangePassword(t.Context(), s.AccessToken, r)
	wantCode(t, err, keyapi.CodeInvalid) // without another code
	r.OldAuth, r.RecoveryAuth = p.auth, code
	_, err = w.c.ChangePassword(t.Context(), s.AccessToken, r)
	wantCode(t, err, keyapi.CodeInvalid)
	if again, err := p.recover(p.recovery); err != nil || again.AccessToken == "" {
		t.Errorf("what was not used up is gone: %v", err)
	}
	r.OldAuth = nil
	if _, err := w.c.ChangePassword(t.Context(), s.AccessToken, r); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.Accounts(t.Context(), s.AccessToken); err != nil {
		t.Errorf("afterwards it is a session like others: %v", err)
	}
	_, err = w.c.Accounts(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.recover(p.recovery)
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.login(newKey(), p.auth)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if _, err := p.login(newKey(), fresh); err != nil {
		t.Error(err)
	}
	if _, err := p.recover(code); err != nil {
		t.Error(err)
	}
}

// A session of a recovery code cannot be kept for later.
func TestRecoverySessionsAreNotRefreshed(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	device := newKey()
	s, err := w.c.Recover(t.Context(), keyapi.RecoverRequest{
		Username: p.name, AuthVersion: 1, RecoveryAuth: p.recovery, Device: keyapi.Device{Key: public(device)},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.refresh(s.RefreshToken, device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	w.clock.advance(keyserver.TokenLifetime + time.Second)
	_, err = w.c.ObjectIndex(t.Context(), s.AccessToken)
	wantCode(t, err, keyapi.CodeUnauthorized)
}

// Threat 8: unknown names, users without a code and wrong codes look alike; the
// password's verifier is no recovery code.
func TestThreat08_RecoveryFailuresLookTheSame(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	_, err := w.c.Register(t.Context(), keyapi.RegisterRequest{
		Username: "bob", AuthVersion: 1, UserID: random(16), Auth: p.auth, Device: keyapi.Device{Key: random(32)},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	var answers []*keyapi.Problem
	for _, row := range []struct {
		name string
		auth []byte
	}{{"alice", random(32)}, {"alice", p.auth}, {"bob", random(32)}, {"bob", make([]byte, 32)}, {"mallory", random(32)}} {
		_, err := (&person{w: w, name: row.name}).recover(row.auth)
		answers = append(answers, wantCode(t, err, keyapi.CodeUnauthorized))
	}
	for _, a := range answers {
		if a.Detail != answers[0].Detail || a.Status != answers[0].Status {
			t.Errorf("%v and %v", a, answers[0])
		}
	}
	a, errA := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "bob"})
	b, errB := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "mallory"})
	if errA != nil || errB != nil || len(a.KDFTag) != 32 || len(b.KDFTag) != 32 {
		t.Errorf("tags %x, %x; %v, %v", a.KDFTag, b.KDFTag, errA, errB)
	}
}

// Guessing names by the recovery code counts like signing in.
func TestThreat09_RecoveryIsThrottledPerNetwork(t *testing.T) {
	l := keyservertest.Unlimited()
	l.SignIn = keyserver.Rate{Burst: 3, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l})
	p := &person{w: w, name: "mallory"}
	for range 3 {
		_, err := p.recover(random(32))
		wantCode(t, err, keyapi.CodeUnauthorized)
	}
	_, err := p.recover(random(32))
	wantCode(t, err, keyapi.CodeRateLimited)
}

// Threat 13: a session that is ended is dead at once; others' are out of reach.
func TestThreat13_EndedSessionIsDeadAtOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p, mallory := w.person("alice"), w.person("mallory")
	w.clock.advance(time.Second)
	other, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.c.Sessions(t.Context(), p.token())
	if err != nil || len(list.Sessions) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	latest := list.Sessions[0]
	if !bytes.Equal(latest.SessionID, other.SessionID) || latest.Current || !list.Sessions[1].Current || latest.Device.Name != "device" || latest.Created.IsZero() {
		t.Errorf("%+v", list.Sessions)
	}
	if err := w.c.EndSession(t.Context(), mallory.token(), other.SessionID); err != nil {
		t.Errorf("another user's: %v", err)
	}
	if _, err := w.c.Accounts(t.Context(), other.AccessToken); err != nil {
		t.Fatalf("somebody else ended it: %v", err)
	}
	polled := make(chan error, 1)
	go func() {
		_, err := w.c.Deliveries(t.Context(), other.AccessToken, keyapi.DeliveryQuery{Account: p.account, Wait: time.Minute})
		polled <- err
	}()
	w.awaitPolls(1)
	if err := w.c.EndSession(t.Context(), p.token(), other.SessionID); err != nil {
		t.Fatal(err)
	}
	if err := <-polled; err == nil {
		t.Error("its long-poll was answered")
	}
	_, err = w.c.Accounts(t.Context(), other.AccessToken)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if err := w.c.EndSession(t.Context(), p.token(), other.SessionID); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if rec := w.ask("DELETE", "/v1/sessions/"+hex.EncodeToString(other.SessionID)[1:], p.token(), ""); rec.Code != 400 {
		t.Errorf("half an id: %d", rec.Code)
	}
	if list, err = w.c.Sessions(t.Context(), p.token()); err != nil || slices.ContainsFunc(list.Sessions, func(s keyapi.SessionInfo) bool { return !s.Current }) {
		t.Errorf("%+v, %v", list, err)
	}
}

// F12: whoever has the store but not the pepper can test neither a password nor
// a recovery code with it.
func TestFlaw12_RecoveryVerifierIsPeppered(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	w.Close()
	s := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path})
	p.w = &world{Server: s, t: t, clock: w.clock, c: s.Client()}
	if _, err := p.recover(p.recovery); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	s.Close()
	if b := readAll(t, w.Path); bytes.Contains(b, p.recovery) || bytes.Contains(b, p.auth) {
		t.Error("the store holds what the user signs in with")
	}
}

// readAll gives a file with everything in base64 decoded besides, as the store
// writes octets.
func readAll(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Clone(raw)
	for _, s := range bytes.FieldsFunc(raw, func(r rune) bool { return r == '"' }) {
		if b, err := base64.StdEncoding.DecodeString(string(s)); err == nil {
			all = append(all, b...)
		}
	}
	return all
}

// hookedStore runs a function before the next Update.
type hookedStore struct {
	keyserver.Store
	before func()
}

// Update runs before, once.
func (s *hookedStore) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	if b := s.before; b != nil {
		s.before = nil
		b()
	}
	return s.Store.Update(ctx, fn)
}

// A sign-in that was under way while the password was replaced opens no session
// that outlives it.
func TestThreat06_SignInRacesPasswordChange(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	hooked := &hookedStore{Store: store}
	w := newWorld(t, keyserver.Options{Store: hooked})
	p := w.register("alice")
	n := uint64(0)
	replace := func(auth, recovery []byte) {
		n++
		r := p.change(p.auth, auth, put("wraps", n, "x"))
		r.RecoveryAuth = recovery
		if _, err := w.c.ChangePassword(t.Context(), p.token(), r); err != nil {
			t.Error(err)
		}
		p.auth, p.recovery = auth, recovery
	}
	hooked.before = func() { replace(random(32), p.recovery) }
	_, err = p.login(newKey(), p.auth)
	wantCode(t, err, keyapi.CodeUnauthorized)
	hooked.before = func() { replace(p.auth, random(32)) }
	_, err = p.recover(p.recovery)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if l, err := w.c.Sessions(t.Context(), p.token()); err != nil || len(l.Sessions) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := p.login(newKey(), p.auth); err != nil {
		t.Error(err)
	}
}

// Threat 7: of two password changes that one recovery session asks for at once the
// second comes without the old password to what is a session like any other by
// then.
func TestThreat07_RecoveryChangesOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	s, err := p.recover(p.recovery)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Handler.MayChange(t.Context(), s.UserID, s.SessionID, true, nil); err != nil {
		t.Errorf("the first: %v", err)
	}
	r := p.change(nil, random(32), put("wraps", 1, "x"))
	r.RecoveryAuth = random(32)
	if _, err := w.c.ChangePassword(t.Context(), s.AccessToken, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Handler.MayChange(t.Context(), s.UserID, s.SessionID, true, nil); err == nil {
		t.Error("the second may change the password as well")
	}
	if err := w.Handler.MayChange(t.Context(), s.UserID, s.SessionID, false, random(32)); err == nil {
		t.Error("another password counts")
	}
}
