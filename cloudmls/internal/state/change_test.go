package state

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/crypto/argon2"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const newWord = "another password, also long"

// stranger is a device that has never been used.
func (f *fixture) stranger() Config {
	c := f.config(0)
	c.Local, c.VaultKey = NewMemory(), random(32)
	return c
}

// signsIn tells whether a password works on a new device, and reads with it.
func (f *fixture) signsIn(t *testing.T, word string) bool {
	t.Helper()
	s, err := Open(t.Context(), username, word, f.stranger())
	if errors.Is(err, ErrCredentials) {
		return false
	}
	if err != nil {
		t.Fatalf("sign in: %v", err)
	}
	if got := get(t, s, conv); got != "kept" {
		t.Errorf("a new device reads %q", got)
	}
	return true
}

// Threat 6, T4: a change of password changes three objects of constant size,
// whatever the state holds; everything opens afterwards, with the new password
// only, and all other sessions are dead.
func TestThreat06_PasswordChange(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "kept")
	for i := range 20 {
		put(t, a, Key{TypeConversation, fmt.Sprint(i), mail}, "more")
	}
	refresh(t, b)
	if err := a.ChangePassword(t.Context(), password, newWord); err != nil {
		t.Fatal(err)
	}
	var r keyapi.PasswordRequest
	f.server.last(t, "old_auth", &r)
	if len(r.Tx.Put) != 3 || len(r.Tx.Delete)+len(r.Tx.Expect) != 0 {
		t.Errorf("%d objects were written", len(r.Tx.Put))
	}
	for _, o := range r.Tx.Put {
		if ty := typeOf(o.ID); ty != TypeWrap && ty != TypeKeyring && ty != TypeHead {
			t.Errorf("an object of type %d was written", ty)
		}
	}
	if len(r.RecoveryAuth) != 0 {
		t.Error("the recovery code was replaced")
	}
	put(t, a, conv, "kept") // this device goes on
	if _, err := b.Refresh(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("the other device: %v", err)
	}
	if f.signsIn(t, password) || !f.signsIn(t, newWord) {
		t.Error("the wrong password works")
	}
	// The other device has pinned the old derivation and follows the user's.
	if _, err := Open(t.Context(), username, password, f.config(1)); !errors.Is(err, ErrCredentials) {
		t.Errorf("the other device, old password: %v", err)
	}
	b, err := Open(t.Context(), username, newWord, f.config(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, b, conv); got != "kept" {
		t.Errorf("got %q", got)
	}
	if err := b.ChangePassword(t.Context(), newWord, password); err != nil {
		t.Errorf("and back: %v", err)
	}
}

// A crash at any point leaves one password that works, and never none or both.
func TestThreat06_CrashDuringPasswordChange(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fault   func(e *evilServer)
		changed bool
	}{
		"before it arrives":        {func(e *evilServer) { e.fail = times(1000, "password", errLost) }, false},
		"after it was carried out": {func(e *evilServer) { e.lose = dead("password") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			put(t, f.device(t, 0), conv, "kept")
			a := f.device(t, 0)
			row.fault(f.server)
			if err := a.ChangePassword(t.Context(), password, newWord); !errors.Is(err, errLost) {
				t.Fatalf("got %v", err)
			}
			f.server.fail, f.server.lose = nil, nil
			if f.signsIn(t, password) == row.changed || f.signsIn(t, newWord) != row.changed {
				t.Error("the wrong password works on a new device")
			}
			again := f.device(t, 0) // its session is the one that survives
			refresh(t, again)
			word := password
			if row.changed {
				word = newWord
			}
			if s, err := Open(t.Context(), username, word, f.config(0)); err != nil || get(t, s, conv) != "kept" {
				t.Errorf("on the same device: %v", err)
			}
		})
	}
}

// dead makes the network die for good once an operation was carried out.
func dead(op string) func(string) error {
	gone := false
	return func(o string) error {
		if gone = gone || o == op; gone {
			return errLost
		}
		return nil
	}
}

// A device that could not note how the new password is stretched, for it crashed
// or its disk was full, still knows the right password from a wrong one, and takes
// other parameters from nobody but a device of the user.
func TestThreat06_NewParametersWereNotNoted(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	put(t, f.device(t, 0), conv, "kept")
	a := f.device(t, 0)
	f.server.lose = dead("password")
	if err := a.ChangePassword(t.Context(), password, newWord); !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	f.server.lose = nil
	again := f.device(t, 0)
	refresh(t, again)
	const third = "a third password, long again"
	for _, word := range []string{password, "wrong"} {
		if err := again.ChangePassword(t.Context(), word, third); !errors.Is(err, ErrCredentials) {
			t.Errorf("%q: %v", word, err)
		}
	}
	f.server.inParams = func(p *keyapi.AuthParams) { p.KDF.Time++ }
	if err := again.ChangePassword(t.Context(), newWord, third); !errors.Is(err, ErrPinned) {
		t.Errorf("parameters of the key server's own: %v", err)
	}
	f.server.inParams = nil
	if err := again.ChangePassword(t.Context(), newWord, third); err != nil {
		t.Fatalf("the right password: %v", err)
	}
	if f.signsIn(t, newWord) || !f.signsIn(t, third) {
		t.Error("the wrong password works")
	}
}

// Where only the answer is lost, the state tells that it happened.
func TestThreat06_LostAnswerToPasswordChange(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, conv, "kept")
	before := a.now.Load().view.counter
	f.server.lose = times(1, "password", errLost)
	if err := a.ChangePassword(t.Context(), password, newWord); err != nil {
		t.Fatal(err)
	}
	if got := a.now.Load().view.counter; got != before+1 {
		t.Errorf("%d changes", got-before)
	}
	if f.signsIn(t, password) || !f.signsIn(t, newWord) {
		t.Error("the wrong password works")
	}
}

func TestPasswordChangeRefusals(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	if err := a.ChangePassword(t.Context(), "wrong", newWord); !errors.Is(err, ErrCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := a.ChangePassword(t.Context(), "\x00", newWord); !errors.Is(err, ErrCredentials) {
		t.Errorf("an impossible old password: %v", err)
	}
	if err := a.ChangePassword(t.Context(), password, ""); !errors.Is(err, keys.ErrPassword) {
		t.Errorf("an empty password: %v", err)
	}
	if _, err := a.ReplaceRecoveryCode(t.Context(), "wrong"); !errors.Is(err, ErrCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if n := f.server.count("password"); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	put(t, b, conv, "kept") // a has to follow first
	f.server.fail = once("password", func() { put(t, b, conv, "kept") })
	if err := a.ChangePassword(t.Context(), password, newWord); err != nil {
		t.Fatal(err)
	}
	if !f.signsIn(t, newWord) {
		t.Error("the new password does not work")
	}
}

// once runs fn before the first request of a kind.
func once(op string, fn func()) func(string) error {
	done := false
	return func(o string) error {
		if o == op && !done {
			done = true
			fn()
		}
		return nil
	}
}

// Threat 3: other parameters than the pinned ones are followed only where a
// device of the user has made them.
func TestThreat03_ParametersNeedTheUsersTag(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	old := f.server.users[username].register
	if err := f.device(t, 0).ChangePassword(t.Context(), password, newWord); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*keyapi.AuthParams){
		"another salt":      func(p *keyapi.AuthParams) { p.KDF.Salt = random(16) },
		"more passes":       func(p *keyapi.AuthParams) { p.KDF.Time++ },
		"the old tag":       func(p *keyapi.AuthParams) { p.KDFTag = old.KDFTag },
		"no tag":            func(p *keyapi.AuthParams) { p.KDFTag = nil },
		"another user":      func(p *keyapi.AuthParams) { p.UserID = random(16) },
		"another algorithm": func(p *keyapi.AuthParams) { p.KDF.Algorithm = "pbkdf2" },
	} {
		logins := f.server.count("login")
		f.server.inParams = change
		if _, err := Open(t.Context(), username, newWord, f.config(1)); !errors.Is(err, ErrPinned) {
			t.Errorf("%s: %v", name, err)
		}
		if f.server.count("login") != logins {
			t.Errorf("%s: something was sent", name)
		}
	}
	// After a sign-out, too.
	f.server.inParams = nil
	s, err := Open(t.Context(), username, newWord, f.config(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), username, newWord, f.config(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.ChangePassword(t.Context(), newWord, password); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), username, password, f.config(1)); err != nil {
		t.Errorf("after a sign-out: %v", err)
	}
}

// Threat 7: the code signs a new device in, is replaced, and serves once.
func TestThreat07_Recovery(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, conv, "kept")
	slots := map[uint16]bool{a.Slot(): true, f.device(t, 1).Slot(): true}
	s, code, err := Recover(t.Context(), "Alice", f.recovery, newWord, f.stranger())
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, conv); got != "kept" {
		t.Errorf("got %q", got)
	}
	if s.Slot() == 0 || slots[s.Slot()] {
		t.Errorf("slot %d", s.Slot())
	}
	put(t, s, conv, "kept")
	if _, err := a.Refresh(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("an old session: %v", err)
	}
	if f.signsIn(t, password) || !f.signsIn(t, newWord) {
		t.Error("the wrong password works")
	}
	if _, _, err := Recover(t.Context(), username, f.recovery, newWord, f.stranger()); !errors.Is(err, ErrRecovery) {
		t.Errorf("the used code: %v", err)
	}
	third, err := s.ReplaceRecoveryCode(t.Context(), newWord)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Recover(t.Context(), username, code, newWord, f.stranger()); !errors.Is(err, ErrRecovery) {
		t.Errorf("the replaced code: %v", err)
	}
	// On a device that is signed in still, or was: it stays the device that it is.
	again, fourth, err := Recover(t.Context(), username, third, password, f.config(0))
	if err != nil || again.Slot() != a.Slot() || get(t, again, conv) != "kept" {
		t.Errorf("on a known device: %v", err)
	}
	if !f.signsIn(t, password) {
		t.Error("the password does not work")
	}
	// The code that replaces another opens ROOT on a device that has nothing.
	if last, _, err := Recover(t.Context(), username, fourth, password, f.stranger()); err != nil || get(t, last, conv) != "kept" {
		t.Errorf("the last code: %v", err)
	}
}

// What can be seen to be wrong is not sent.
func TestThreat07_MistypedCodeIsCaughtHere(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	wrong := []byte(f.recovery)
	if wrong[len(wrong)-1]++; wrong[len(wrong)-1] > '9' {
		wrong[len(wrong)-1] = '0'
	}
	f.server.bodies = nil
	if _, _, err := Recover(t.Context(), username, string(wrong), newWord, f.stranger()); !errors.Is(err, keys.ErrRecoveryCode) {
		t.Errorf("wrong check characters: %v", err)
	}
	if _, _, err := Recover(t.Context(), username, f.recovery, "", f.stranger()); !errors.Is(err, keys.ErrPassword) {
		t.Errorf("no password: %v", err)
	}
	if len(f.server.bodies) != 0 {
		t.Errorf("%d requests were made", len(f.server.bodies))
	}
	other, err := keys.NewRecoveryCode()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{username, "nobody"} {
		if _, _, err := Recover(t.Context(), name, other, newWord, f.stranger()); !errors.Is(err, ErrRecovery) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.server.inParams = func(p *keyapi.AuthParams) { p.UserID = random(16) }
	tries := f.server.count("recover")
	if _, _, err := Recover(t.Context(), username, f.recovery, newWord, f.config(0)); !errors.Is(err, ErrPinned) || f.server.count("recover") != tries {
		t.Errorf("another user id: %v", err)
	}
	if err := f.device(t, 1).SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Recover(t.Context(), username, f.recovery, newWord, f.config(1)); !errors.Is(err, ErrPinned) || f.server.count("recover") != tries {
		t.Errorf("another user id after a sign-out: %v", err)
	}
	f.server.inParams = nil
	if _, _, err := Recover(t.Context(), "bob", f.recovery, newWord, f.config(0)); !errors.Is(err, ErrOtherUser) {
		t.Errorf("a device of another user: %v", err)
	}
}

// A recovery that is cut off anywhere leaves the old code, or the new password.
func TestThreat07_RecoveryCutOff(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"recover", "objects", "password"} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s after=%v", op, after), func(t *testing.T) {
				t.Parallel()
				f := setUp(t)
				put(t, f.device(t, 0), conv, "kept")
				if after {
					f.server.lose = dead(op)
				} else {
					f.server.fail = dead(op)
				}
				if _, _, err := Recover(t.Context(), username, f.recovery, newWord, f.stranger()); !errors.Is(err, errLost) {
					t.Fatalf("got %v", err)
				}
				f.server.fail, f.server.lose = nil, nil
				if op == "password" && after {
					if !f.signsIn(t, newWord) || f.signsIn(t, password) {
						t.Error("the wrong password works")
					}
					return
				}
				if _, _, err := Recover(t.Context(), username, f.recovery, newWord, f.stranger()); err != nil {
					t.Errorf("again: %v", err)
				}
				if !f.signsIn(t, newWord) {
					t.Error("the new password does not work")
				}
			})
		}
	}
}

// Threat 1: neither password, old or new, nor what opens anything is ever sent.
func TestThreat01_ChangesSendNoSecrets(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.server.bodies = nil
	s := f.device(t, 0)
	if err := s.ChangePassword(t.Context(), password, newWord); err != nil {
		t.Fatal(err)
	}
	k := f.server.users[username].register.KDF
	r, code, err := Recover(t.Context(), username, f.recovery, password, f.stranger())
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string][]byte{
		"the password": []byte(password), "the new password": []byte(newWord), "ROOT": r.vault.Root, "K_index": r.now.Load().ring.Index,
		"the stretched password": argon2.IDKey([]byte(newWord), k.Salt, k.Time, k.MemoryKiB, k.Threads, 32),
	}
	for name, c := range map[string]string{"the code": f.recovery, "the new code": code} {
		raw, err := keys.ParseRecoveryCode(c)
		if err != nil {
			t.Fatal(err)
		}
		secrets[name], secrets[name+" in octets"] = []byte(c), raw
	}
	for _, x := range r.now.Load().ring.Recipients {
		secrets[fmt.Sprint("authenticator ", x.Kind)] = x.Authenticator
	}
	if len(f.server.bodies) < 5 {
		t.Fatalf("%d requests", len(f.server.bodies))
	}
	for _, b := range f.server.bodies {
		for name, x := range secrets {
			if contains(b, x) {
				t.Errorf("a request holds %s", name)
			}
		}
	}
	auth, err := keys.RecoveryAuth(code, r.scope)
	if err != nil || !bytes.Equal(auth, f.server.users[username].register.RecoveryAuth) {
		t.Errorf("the server verifies another code: %v", err)
	}
}
