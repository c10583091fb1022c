package keyserver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

func keyed(t *testing.T, key string) context.Context {
	return keyclient.WithIdempotencyKey(t.Context(), key)
}

// A claim that is asked again by its key uses up one KeyPackage, on every node.
func TestFlaw26_ClaimIsCarriedOutOnce(t *testing.T) {
	nodes, clock, _ := newNodes(t, 2, keyserver.Options{})
	w := nodes[0].at(t, clock)
	alice, bob := w.person("alice"), w.person("bob")
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil), bob.keyPackage(nil)}}); err != nil {
		t.Fatal(err)
	}
	ctx := keyed(t, "0123456789abcdef")
	first, err := w.c.ClaimKeyPackage(ctx, alice.token(), bob.account)
	if err != nil {
		t.Fatal(err)
	}
	again, err := nodes[1].c.ClaimKeyPackage(ctx, alice.token(), bob.account)
	if err != nil || !bytes.Equal(first.KeyPackage, again.KeyPackage) {
		t.Fatalf("again, at another node: %v, the same: %v", err, bytes.Equal(first.KeyPackage, again.KeyPackage))
	}
	if n, err := w.c.KeyPackageCount(t.Context(), bob.token(), bob.account); err != nil || n.Available != 1 {
		t.Errorf("%d left, %v", n.Available, err)
	}
	// The key names one request of one user.
	_, err = w.c.ClaimKeyPackage(ctx, alice.token(), alice.account)
	wantCode(t, err, keyapi.CodeKeyReused)
	other, err := w.c.ClaimKeyPackage(ctx, bob.token(), bob.account)
	if err != nil || bytes.Equal(other.KeyPackage, first.KeyPackage) {
		t.Errorf("another user with the same key: %v", err)
	}
	// What was refused is not remembered.
	ctx = keyed(t, "fedcba9876543210")
	_, err = w.c.ClaimKeyPackage(ctx, alice.token(), bob.account)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.c.ClaimKeyPackage(ctx, alice.token(), bob.account); err != nil {
		t.Errorf("after a refusal: %v", err)
	}
	// And nothing for longer than a day.
	clock.advance(24*time.Hour + 2*time.Second)
	fresh, err := alice.refresh(alice.session.RefreshToken, alice.device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.c.ClaimKeyPackage(keyed(t, "0123456789abcdef"), fresh.AccessToken, bob.account)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
}

// Registering again after a lost answer gives the same user and session; the
// store holds the answer's tokens in no form that opens without the key.
func TestFlaw26_RegistrationIsCarriedOutOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	r := keyapi.RegisterRequest{
		Username: "alice", AuthVersion: 1, UserID: random(16), Auth: random(32), Device: keyapi.Device{Key: public(newKey())},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	}
	ctx := keyed(t, "a key of alice's alone")
	first, err := w.c.Register(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.c.Register(ctx, r)
	if err != nil || again.AccessToken != first.AccessToken || !bytes.Equal(again.RefreshToken, first.RefreshToken) {
		t.Fatalf("again: %v", err)
	}
	_, err = w.c.Register(t.Context(), r)
	wantCode(t, err, keyapi.CodeTaken)
	r.Auth = random(32)
	_, err = w.c.Register(ctx, r)
	wantCode(t, err, keyapi.CodeKeyReused)

	// Sign-in is proven each time, key or not.
	p := w.register("bob")
	login := p.loginRequest(newKey())
	s1, err := w.c.Login(keyed(t, "bob's key of sixteen"), login)
	if err != nil {
		t.Fatal(err)
	}
	s2, err := w.c.Login(keyed(t, "bob's key of sixteen"), login)
	if err != nil || s2.AccessToken != s1.AccessToken {
		t.Errorf("login again: %v", err)
	}
	login.Auth = random(32)
	_, err = w.c.Login(keyed(t, "bob's key of sixteen"), login)
	wantCode(t, err, keyapi.CodeUnauthorized)
	w.Close()
	file, err := os.ReadFile(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{first.AccessToken, base64.StdEncoding.EncodeToString(first.RefreshToken), string(first.RefreshToken), "a key of alice's alone"} {
		if bytes.Contains(file, []byte(secret)) {
			t.Error("the store holds a secret of a kept answer")
		}
	}
}

// Kept answers survive a restart, and take up bounded room.
func TestFlaw26_KeptAnswersSurviveAndAreFew(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	last := bob.keyPackage(lastResort)
	if _, err := bob.upload(keyapi.KeyPackageUpload{LastResort: last}); err != nil {
		t.Fatal(err)
	}
	for i := range 80 {
		if _, err := w.c.ClaimKeyPackage(keyed(t, fmt.Sprintf("key number %06d", i)), alice.token(), bob.account); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(time.Second)
	}
	w.Close()
	if n := count(t, w.Path, "notes")["notes"]; n != 64 {
		t.Errorf("%d answers are kept of 80", n)
	}
	again := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path, Server: keyserver.Options{Now: w.clock.now}})
	_, err := again.Client().ClaimKeyPackage(keyed(t, "key number 000079"), alice.token(), alice.account)
	wantCode(t, err, keyapi.CodeKeyReused)
}

func TestIdempotencyKeysOfBadForm(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.person("alice")
	for _, key := range []string{"short", strings.Repeat("x", 129), "umlaut \u00e4 in a key", "tab\tin a key of ours"} {
		_, err := w.c.ClaimKeyPackage(keyed(t, key), alice.token(), alice.account)
		wantCode(t, err, keyapi.CodeInvalid)
	}
}
