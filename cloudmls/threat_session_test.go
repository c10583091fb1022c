package cloudmls

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/argon2"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// safeBuffer takes logs of several goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// panicky is a store that dies at its n-th write.
type panicky struct {
	LocalStore
	left int
}

func (p *panicky) Update(fn func(Writer) error) error {
	if p.left--; p.left < 0 {
		panic("the store died")
	}
	return p.LocalStore.Update(fn)
}

// stretched is everything that a password is turned into on the device and that
// must not leave it: MK, the seed of the key pair that ROOT is wrapped to, and
// what authenticates such a wrap.
func stretched(t *testing.T, word, origin string, p keyapi.AuthParams) map[string][]byte {
	t.Helper()
	normal, err := keys.Normalize(word)
	if err != nil {
		t.Fatal(err)
	}
	master := argon2.IDKey([]byte(normal), p.KDF.Salt, p.KDF.Time, p.KDF.MemoryKiB, p.KDF.Threads, 32)
	where := append([]byte{0}, binary.BigEndian.AppendUint16(nil, uint16(len(origin)))...)
	where = append(append(where, origin...), p.UserID...)
	secrets := map[string][]byte{"password": []byte(word), "normalised password": []byte(normal), "MK": master}
	for _, label := range []string{"cloudmls/1 wrap key", "cloudmls/1 wrap authenticator"} {
		k, err := hkdf.Expand(sha256.New, master, label+string(where), 32)
		if err != nil {
			t.Fatal(err)
		}
		secrets[label] = k
	}
	// As a control that these are the real ones: AUTH, made the same way, is what
	// was sent.
	auth, err := hkdf.Expand(sha256.New, master, "cloudmls/1 auth"+string(where), 32)
	if err != nil {
		t.Fatal(err)
	}
	secrets["AUTH"] = auth
	return secrets
}

// TestThreat01_SecretsReachNoServerLogOrPanic: all that leaves a device during
// its whole life, errors and panics included, is searched for passwords and what
// they are turned into, in whatever way they could be written.
func TestThreat01_SecretsReachNoServerLogOrPanic(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	const name, first, second, third = "alice-user", "Grüße, \"日本\" & <12> more/+", "the second passphrase\\é", "and a third one 123"
	log := &safeBuffer{}
	var said bytes.Buffer // errors, and what a panic prints
	note := func(err error) {
		if err == nil {
			t.Error("a fault had no effect")
		}
		fmt.Fprintf(&said, "%v\n%+v\n%#v\n", err, err, err)
	}
	options := func(device string) Options {
		o := h.optionsAs(device, NewMemoryStore())
		o.Logger = loggerTo(log)
		return o
	}
	secrets := map[string][]byte{}
	remember := func(word string) {
		p, err := h.evil.Client("observer").Params(t.Context(), keyapi.ParamsRequest{Username: name})
		if err != nil {
			t.Fatal(err)
		}
		for what, s := range stretched(t, word, h.ks.Origin, p) {
			secrets[fmt.Sprintf("%s of %q", what, word)] = s
		}
	}
	code := func(of string, r *Recovery) {
		secret, err := keys.ParseRecoveryCode(r.Code)
		if err != nil {
			t.Fatal(err)
		}
		secrets["recovery code, "+of], secrets["recovery secret, "+of] = []byte(r.Code), secret
		secrets["recovery code without hyphens, "+of] = []byte(strings.ReplaceAll(r.Code, "-", ""))
	}

	laptop := options("laptop")
	c, recovery, err := Register(t.Context(), name, first, laptop)
	if err != nil {
		t.Fatal(err)
	}
	code("at first", recovery)
	remember(first)
	self, bob := account("alice"), h.user("bob")
	if err := c.AddAccount(t.Context(), self); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ensure(t.Context(), self, Conversation{Kind: KindDialog, Members: accounts(bob)}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), name, second, options("wrong password")); true {
		note(err)
	}
	for _, fault := range []string{"down", "a page with 500", "garbage with 200"} {
		lie := h.evil.Always(evil.From(evil.To("POST", "/v1/auth/login"), "faulty"), evil.Faults()[fault])
		_, err := Open(t.Context(), name, first, options("faulty"))
		lie.Stop()
		note(err)
	}
	lie := h.evil.Always(evil.From(nil, "laptop"), evil.Down)
	_, err = c.Encrypt(t.Context(), self, newID(t), []byte("x"), nil) // what is done without the key server is logged
	lie.Stop()
	note(err)
	for _, writes := range []int{0, 2} {
		func() {
			defer func() {
				if r := recover(); r != nil {
					fmt.Fprintf(&said, "%v\n%s\n", r, debug.Stack())
				}
			}()
			o := options("panics")
			o.Store = &panicky{o.Store, writes}
			_, err := Open(t.Context(), name, first, o)
			fmt.Fprintf(&said, "%v\n", err)
		}()
	}
	note(c.ChangePassword(t.Context(), second, third))
	if err := c.ChangePassword(t.Context(), first, second); err != nil {
		t.Fatal(err)
	}
	remember(second)
	fresh, err := c.ReplaceRecoveryCode(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	code("replaced", fresh)
	remember(second)
	recovered, last, err := Recover(t.Context(), name, fresh.Code, third, options("recovered"))
	if err != nil {
		t.Fatal(err)
	}
	code("last", last)
	remember(third)
	_, _, err = Recover(t.Context(), name, fresh.Code, third, options("used code"))
	note(err)
	for _, x := range []*Client{c, recovered} {
		fmt.Fprintf(&said, "%v\n%+v\n", x.o.Store, x.o.Logger)
		x.Close()
	}

	places := map[string][][]byte{"log": {log.b.Bytes()}, "error or panic": {said.Bytes()}}
	for _, e := range h.evil.Log() {
		places["request"] = append(places["request"], e.Octets())
	}
	if log.b.Len() == 0 || !bytes.Contains(said.Bytes(), []byte("the store died")) {
		t.Errorf("a place has nothing to be searched: %d octets of log, %d of errors", log.b.Len(), said.Len())
	}
	authSeen := 0
	for what, secret := range secrets {
		for place, all := range places {
			for _, b := range all {
				how := evil.Find(b, secret)
				switch {
				case how != "" && place == "request" && strings.HasPrefix(what, "AUTH"):
					authSeen++
				case how != "":
					t.Errorf("%s holds the %s, %s", place, what, how)
				}
			}
		}
	}
	if authSeen < 3 {
		t.Errorf("AUTH was found in %d requests: the search finds nothing", authSeen)
	}
}

// asked lists the paths that a device asked for.
func (h *hostile) asked(device string) []string {
	var paths []string
	for _, e := range h.evil.Log() {
		if e.Device == device {
			paths = append(paths, e.Path)
		}
	}
	return paths
}

// TestThreat02_DerivationOutOfBounds: a server that asks for a password
// derivation that is quickly searched, or that exhausts the device, gets nothing
// that was derived from the password.
func TestThreat02_DerivationOutOfBounds(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice := h.user("alice")
	for name, weaken := range map[string]func(k *keyapi.KDF){
		"no passes":        func(k *keyapi.KDF) { k.Time = 0 },
		"fewer passes":     func(k *keyapi.KDF) { k.Time = keys.MinTime - 1 },
		"too many passes":  func(k *keyapi.KDF) { k.Time = keys.MaxTime + 1 },
		"endless":          func(k *keyapi.KDF) { k.Time = 1<<32 - 1 },
		"no memory":        func(k *keyapi.KDF) { k.MemoryKiB = 0 },
		"less memory":      func(k *keyapi.KDF) { k.MemoryKiB = keys.MinMemoryKiB - 1 },
		"too much memory":  func(k *keyapi.KDF) { k.MemoryKiB = keys.MaxMemoryKiB + 1 },
		"all memory":       func(k *keyapi.KDF) { k.MemoryKiB = 1<<32 - 1 },
		"no threads":       func(k *keyapi.KDF) { k.Threads = 0 },
		"too many threads": func(k *keyapi.KDF) { k.Threads = keys.MaxThreads + 1 },
		"PBKDF2":           func(k *keyapi.KDF) { k.Algorithm = "pbkdf2-sha1" },
		"argon2i":          func(k *keyapi.KDF) { k.Algorithm = "argon2i" },
		"long salt":        func(k *keyapi.KDF) { k.Salt = make([]byte, 64) },
	} {
		device := strings.ReplaceAll(name, " ", "-")
		lie := h.evil.SignInParams(func(p *keyapi.AuthParams) { weaken(&p.KDF) })
		_, err := h.signIn(alice, device)
		var bounds *keys.BoundsError
		if !errors.As(err, &bounds) && !errors.Is(err, keyclient.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		if paths := h.asked(device); !slices.Equal(paths, []string{"/v1/auth/params"}) {
			t.Errorf("%s: the device went on: %v", name, paths)
		}
		lie.Stop()
	}
	h.second(alice, "honest")
}

// TestThreat03_DerivationChangedAfterPin: what a device pinned at its first
// sign-in, the server does not change.
func TestThreat03_DerivationChangedAfterPin(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice := h.user("alice")
	if err := alice.SignOut(t.Context()); err != nil { // the pins stay
		t.Fatal(err)
	}
	for name, lie := range map[string]func(p *keyapi.AuthParams){
		"salt":              func(p *keyapi.AuthParams) { p.KDF.Salt[0] ^= 1 },
		"passes in bounds":  func(p *keyapi.AuthParams) { p.KDF.Time++ },
		"memory in bounds":  func(p *keyapi.AuthParams) { p.KDF.MemoryKiB *= 2 },
		"threads":           func(p *keyapi.AuthParams) { p.KDF.Threads-- },
		"algorithm":         func(p *keyapi.AuthParams) { p.KDF.Algorithm = "scrypt" },
		"auth_version":      func(p *keyapi.AuthParams) { p.AuthVersion = 2 },
		"auth_version 0":    func(p *keyapi.AuthParams) { p.AuthVersion = 0 },
		"user":              func(p *keyapi.AuthParams) { p.UserID[0] ^= 1 },
		"salt with own tag": func(p *keyapi.AuthParams) { p.KDF.Salt[0] ^= 1; p.KDFTag = make([]byte, 32) },
	} {
		h.evil.ClearLog()
		running := h.evil.SignInParams(lie)
		_, err := Open(t.Context(), alice.username, password, h.optionsAs("alice", alice.store))
		if !errors.Is(err, ErrSignInChanged) {
			t.Errorf("%s: %v", name, err)
		}
		if paths := h.asked("alice"); !slices.Equal(paths, []string{"/v1/auth/params"}) {
			t.Errorf("%s: the device went on: %v", name, paths)
		}
		running.Stop()
	}
	c, err := Open(t.Context(), alice.username, password, h.optionsAs("alice", alice.store))
	if err != nil {
		t.Fatalf("what was pinned: %v", err)
	}
	c.Close()
}

// TestThreat04_AuthIsForOneServer: a user has the same name and password at two
// servers, and one of them pretends to the derivation of the other. What it
// learns from the sign-in does not open the other.
func TestThreat04_AuthIsForOneServer(t *testing.T) {
	t.Parallel()
	good := newHostile(t)
	alice := good.user("alice")
	other := evil.NewServer(t, evil.Options{Server: serverOptions("https://keyz.test.example", good.clock)})
	params, err := good.evil.Client("observer").Params(t.Context(), keyapi.ParamsRequest{Username: alice.username})
	if err != nil {
		t.Fatal(err)
	}
	other.SignInParams(func(p *keyapi.AuthParams) { *p = params })
	o := good.options(NewMemoryStore())
	o.Server, o.Origin = other.Client("alice"), other.Origin
	if _, err := Open(t.Context(), alice.username, password, o); !errors.Is(err, ErrCredentials) {
		t.Fatalf("the other server: %v", err)
	}
	signIn := func(from *evil.Server, device string) keyapi.LoginRequest {
		for _, e := range from.Log() {
			if e.Device == device && e.Path == "/v1/auth/login" {
				return decodeJSON[keyapi.LoginRequest](t, e.Sent)
			}
		}
		t.Fatal("nobody signed in")
		return keyapi.LoginRequest{}
	}
	learned := signIn(other, "alice")
	mallory := good.evil.Client("mallory")
	if _, err := mallory.Login(t.Context(), learned); !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
		t.Errorf("AUTH for the other server opens this one: %v", err)
	}
	good.second(alice, "phone")
	if honest := signIn(good.evil, "phone"); bytes.Equal(honest.Auth, learned.Auth) {
		t.Error("both servers are sent the same AUTH")
	} else if _, err := mallory.Login(t.Context(), honest); err != nil {
		t.Errorf("AUTH for this server does not open it: %v", err)
	}
}

// TestThreat05_NoEscrow: keys that the server offers to wrap everything to, be it
// in answers or among the wraps that it keeps, are nobody's.
func TestThreat05_NoEscrow(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice := h.user("alice")
	mine, err := keys.FromDevice(bytes.Repeat([]byte{7}, 32), [16]byte{7}, keys.Scope{Origin: h.ks.Origin, User: bytes.Repeat([]byte{8}, 16)})
	if err != nil {
		t.Fatal(err)
	}
	offered := mine.Recipient().Public
	lie := h.evil.Always(evil.Any, evil.AddMembers(map[string]any{
		"escrow_key": offered, "recovery_public_key": offered, "recovery_key": offered, "rewrap_to": offered,
		"recipients": []keys.Recipient{mine.Recipient()}, "organisation": map[string]any{"public": offered}, "kdf_upgrade": true,
	}))
	wraps := func() int {
		all := h.evil.ObjectsOf(alice.username)
		w, err := keys.ParseWraps(all[firstOfType(h, all, state.TypeWrap)].Data)
		if err != nil {
			t.Fatal(err)
		}
		return len(w)
	}
	if n := wraps(); n != 3 {
		t.Fatalf("%d wraps, want password, recovery code and one device", n)
	}
	h.second(alice, "phone")
	if err := alice.ChangePassword(t.Context(), password, "another password"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.ReplaceRecoveryCode(t.Context(), "another password"); err != nil {
		t.Fatal(err)
	}
	if n := wraps(); n != 4 {
		t.Errorf("%d wraps, want password, recovery code and two devices", n)
	}
	if lie.Hits() < 10 {
		t.Errorf("offered %d times", lie.Hits())
	}
	lie.Stop()
	for _, e := range h.evil.Log() {
		if how := evil.Find(e.Octets(), offered[:32]); how != "" {
			t.Errorf("%s %s names the offered key, %s", e.Method, e.Path, how)
		}
	}

	// Among the wraps: whoever has no keyring cannot make one that opens, and one
	// more in the list is an object that the head does not know.
	stored := h.evil.ObjectsOf(alice.username)
	id := firstOfType(h, stored, state.TypeWrap)
	list, err := keys.ParseWraps(stored[id].Data)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := mine.Recipient().Root(bytes.Repeat([]byte{9}, keys.RootSize), 2, keys.Scope{Origin: h.ks.Origin, User: bytes.Repeat([]byte{8}, 16)})
	if err != nil {
		t.Fatal(err)
	}
	more, err := keys.MarshalWraps(append(list, forged))
	if err != nil {
		t.Fatal(err)
	}
	o := stored[id]
	o.Data = more
	stored[id] = o
	h.evil.SetObjects(alice.username, stored)
	var alarm *RollbackError
	if _, err := Open(t.Context(), alice.username, "another password", h.optionsAs("tablet", NewMemoryStore())); !errors.As(err, &alarm) {
		t.Errorf("a wrap of the server's own: %v", err)
	}
}
