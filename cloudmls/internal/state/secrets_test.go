package state

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// contains looks for a secret in a request body or a log: as it is, in
// hexadecimal, in any base64, and inside of strings that are base64 themselves.
func contains(haystack, secret []byte) bool {
	forms := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret)))}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
		forms = append(forms, []byte(e.EncodeToString(secret)))
	}
	quoted, err := json.Marshal(string(secret))
	if err == nil {
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	for _, f := range forms {
		if bytes.Contains(haystack, f) {
			return true
		}
	}
	for _, s := range strings.FieldsFunc(string(haystack), func(r rune) bool { return r == '"' }) {
		if b, err := base64.StdEncoding.DecodeString(s); err == nil && bytes.Contains(b, secret) {
			return true
		}
	}
	return false
}

func TestSearchFindsSecrets(t *testing.T) {
	t.Parallel()
	secret := []byte("\x01\xffsecret/")
	inner, err := json.Marshal(map[string][]byte{"a": append([]byte("xy"), secret...)})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{inner, []byte("x" + hex.EncodeToString(secret)), append([]byte("x"), secret...)} {
		if !contains(b, secret) {
			t.Errorf("not found in %q", b)
		}
	}
}

// The server of 2022 was sent the password at every login. Here all requests
// of a registration, a sign-in on a second device and some work are searched for
// the password, what it is stretched to, and all keys; so are the log and all
// local records.
func TestSeedFlaw01_PasswordNeverLeaves(t *testing.T) {
	t.Parallel()
	const word = "correct horse é battery"
	e := newEvil()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var stores []*Store
	var locals []*memory
	code := ""
	for i := range 2 {
		local := NewMemory().(*memory)
		c := Config{Server: e, Local: local, VaultKey: random(32), Origin: origin, Logger: logger, Pause: noPause}
		var s *Store
		var err error
		if i == 0 {
			s, code, err = Register(t.Context(), "bob", word, c)
		} else {
			s, err = Open(t.Context(), "bob", word, c)
		}
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, conv, fmt.Sprint(i))
		stores, locals = append(stores, s), append(locals, local)
	}
	if _, err := Open(t.Context(), "bob", word+"x", Config{Server: e, Local: NewMemory(), VaultKey: random(32), Origin: origin, Logger: logger}); !errors.Is(err, ErrCredentials) {
		t.Fatalf("wrong password: %v", err)
	}
	if err := stores[0].RotateRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	secrets := secretsOf(t, e, stores, word, code)
	searched := map[string][][]byte{"request": e.bodies, "log": {log.Bytes()}}
	for _, m := range locals {
		for _, b := range m.buckets {
			for _, v := range b {
				searched["local record"] = append(searched["local record"], v)
			}
		}
	}
	for place, all := range searched {
		if len(all) == 0 {
			t.Errorf("no %s was searched", place)
		}
		for _, b := range all {
			for name, secret := range secrets {
				if len(secret) < 16 {
					t.Fatalf("%s is too short to be searched for", name)
				}
				if contains(b, secret) {
					t.Errorf("%s holds %s", place, name)
				}
			}
		}
	}
}

func secretsOf(t *testing.T, e *evilServer, stores []*Store, word, code string) map[string][]byte {
	t.Helper()
	k := e.users["bob"].register.KDF
	normal, err := keys.Normalize(word)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := keys.ParseRecoveryCode(code)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{
		"the password": []byte(word), "the normalised password": []byte(normal),
		"the stretched password": argon2.IDKey([]byte(normal), k.Salt, k.Time, k.MemoryKiB, k.Threads, 32),
		"the recovery code":      []byte(code), "the recovery secret": recovery,
	}
	for i, s := range stores {
		n := s.now.Load()
		for v, root := range n.roots {
			out[fmt.Sprintf("ROOT %d of device %d", v, i)] = root
		}
		for _, a := range n.ring.Archive {
			out[fmt.Sprintf("archive key %d", a.Number)] = a.Key
		}
		for j, r := range n.ring.Recipients {
			out[fmt.Sprintf("public key of recipient %d", j)] = r.Public
			out[fmt.Sprintf("authenticator of recipient %d", j)] = r.Authenticator
		}
		out["K_index"], out["the secret for Derive"] = n.ring.Index, n.ring.Secret
		out[fmt.Sprintf("vault key of device %d", i)] = s.cfg.VaultKey
		out[fmt.Sprintf("device seed %d", i)] = s.vault.DeviceSeed
		out[fmt.Sprintf("sign seed %d", i)] = s.vault.SignSeed
		out[fmt.Sprintf("local key %d", i)] = s.vault.LocalKey
	}
	return out
}

func noPause(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// What the server does get, AUTH included, opens nothing that it stores.
func TestFlaw12_AuthOpensNothing(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "secret")
	u := f.server.users[username]
	scope := keys.Scope{Origin: origin, User: u.register.UserID}
	for _, secret := range [][]byte{u.register.Auth, u.register.UserID, u.register.KDF.Salt, make([]byte, 32)} {
		if len(secret) != 32 {
			secret = append(secret, make([]byte, 32-len(secret))...)
		}
		w, err := keys.FromDevice(secret, [16]byte{}, scope)
		if err != nil {
			t.Fatal(err)
		}
		wraps, err := keys.ParseWraps(u.objects[bootstrapID(TypeWrap)].Data)
		if err != nil || len(wraps) != 4 {
			t.Fatalf("%d wraps, %v", len(wraps), err)
		}
		for _, x := range wraps {
			x.Kind, x.ID = w.Recipient().Kind, w.Recipient().ID
			if _, _, err := w.Root(x); err == nil {
				t.Error("a wrap opens with what the server knows")
			}
		}
		for id, o := range u.objects {
			for _, p := range []keys.Purpose{keys.PurposeHead, keys.PurposeKeyring, keys.PurposeState, keys.PurposeArchive} {
				k, err := keys.Derive(secret, p)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := envelope.Open(k, s.context(typeOf(id), id), envelope.Expect{}, o.Data); err == nil {
					t.Error("an object opens with what the server knows")
				}
			}
		}
	}
}

// Nothing readable lies in the local store: neither objects, nor the cache with
// its keys and namespaces, nor names of users, accounts and conversations.
func TestSeedFlaw11_LocalStoreIsSealed(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	const canary = "canary-4711"
	k := Key{TypeConversation, canary, keyapi.Account{Platform: "email", ID: canary + "@example.org"}}
	put(t, s, k, canary)
	put(t, s, Key{TypeEpoch, canary, mail}, canary)
	if err := s.Swap(t.Context(), Key{TypeSender, canary, mail}, func([]byte) ([]byte, error) { return []byte(canary), nil }); err != nil {
		t.Fatal(err)
	}
	c := s.Cache(canary)
	if err := c.Put(canary, []byte(canary)); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Get(canary); err != nil || string(v) != canary {
		t.Fatalf("%q, %v", v, err)
	}
	n := 0
	for name, b := range f.local[0].buckets {
		for key, v := range b {
			n++
			for _, secret := range []string{canary, "alice", mail.ID} {
				if strings.Contains(name, secret) || strings.Contains(key, secret) || contains(v, []byte(secret)) {
					t.Errorf("%s/%s shows %q", name, key, secret)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d records", n)
	}
	// With another vault key there is nothing to be had.
	other := f.config(0)
	other.VaultKey = random(32)
	if _, err := Resume(t.Context(), other); err == nil {
		t.Error("resumed with another vault key")
	}
}

func TestCacheKeepsNamespacesApart(t *testing.T) {
	t.Parallel()
	s := setUp(t).device(t, 0)
	a, b := s.Cache("a"), s.Cache("b")
	for _, k := range []string{"", "1", "2"} {
		if err := a.Put(k, []byte("v"+k)); err != nil {
			t.Fatal(err)
		}
	}
	if v, err := b.Get("1"); v != nil || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	if err := a.Delete("2"); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	if err := a.ForEach(func(k string, v []byte) error { got[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[""] != "v" || got["1"] != "v1" {
		t.Errorf("got %v", got)
	}
	// A record moved to another key does not open.
	m := s.cfg.Local.(*memory)
	m.buckets[a.bucket][a.name("x")] = m.buckets[a.bucket][a.name("1")]
	if _, err := a.Get("x"); err == nil {
		t.Error("a moved record opens")
	}
}

func TestPersonalEnvelopes(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	before := f.server.sent()
	x, err := a.SealPersonal(t.Context(), []byte("draft"), []byte("account"))
	if err != nil {
		t.Fatal(err)
	}
	if pt, err := b.OpenPersonal(t.Context(), x, []byte("account")); err != nil || string(pt) != "draft" {
		t.Errorf("%q, %v", pt, err)
	}
	if f.server.sent() != before {
		t.Error("sealing or opening spoke to the server")
	}
	if _, err := b.OpenPersonal(t.Context(), x, []byte("other")); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("bound to something else: %v", err)
	}
	if _, err := b.OpenPersonal(t.Context(), x[:100], nil); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("cut: %v", err)
	}
}
