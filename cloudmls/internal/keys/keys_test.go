package keys

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

var scope = Scope{Origin: "https://keys.test", User: []byte("0123456789abcdef")}

func kdf() keyapi.KDF {
	return keyapi.KDF{Algorithm: Algorithm, Salt: []byte("salt of 16 bytes"), Time: 3, MemoryKiB: 64 << 10, Threads: 4}
}

func TestPasswordForms(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "\x00", "a\tb", "\xff\xfe", "\u0378", strings.Repeat("x", MaxPassword+1)} {
		if got, err := Normalize(bad); !errors.Is(err, ErrPassword) || got != "" {
			t.Errorf("%q: %q, %v", bad, got, err)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q is quoted in its error", bad)
		}
	}
	composed, err := Normalize("Gr\u00fc\u00dfe \u65e5\u672c")
	if err != nil {
		t.Fatal(err)
	}
	decomposed, err := Normalize("Gru\u0308\u00dfe\u3000\u65e5\u672c") // u + diaeresis, ideographic space
	if err != nil || composed != decomposed {
		t.Errorf("got %q and %q, %v", composed, decomposed, err)
	}
	if upper, _ := Normalize("GR"); upper == "gr" {
		t.Error("case was folded")
	}
}

// The work per guess has a floor that no server can lower, and a ceiling that
// none can raise.
func TestFlaw13_KDFFloors(t *testing.T) {
	t.Parallel()
	if k, err := NewKDF(); err != nil || CheckKDF(k) != nil || len(k.Salt) != 16 {
		t.Fatalf("the default is refused: %+v, %v", k, err)
	}
	for name, change := range map[string]func(*keyapi.KDF){
		"algorithm":       func(k *keyapi.KDF) { k.Algorithm = "pbkdf2" },
		"no algorithm":    func(k *keyapi.KDF) { k.Algorithm = "" },
		"few passes":      func(k *keyapi.KDF) { k.Time = 2 },
		"many passes":     func(k *keyapi.KDF) { k.Time = 11 },
		"little memory":   func(k *keyapi.KDF) { k.MemoryKiB = 64<<10 - 1 },
		"too much memory": func(k *keyapi.KDF) { k.MemoryKiB = 1<<20 + 1 },
		"no thread":       func(k *keyapi.KDF) { k.Threads = 0 },
		"many threads":    func(k *keyapi.KDF) { k.Threads = 65 },
		"short salt":      func(k *keyapi.KDF) { k.Salt = k.Salt[:15] },
		"long salt":       func(k *keyapi.KDF) { k.Salt = make([]byte, 17) },
	} {
		k := kdf()
		change(&k)
		var b *BoundsError
		if auth, w, err := FromPassword("x", k, scope); !errors.As(err, &b) || auth != nil || w != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The derivations are pinned: a changed one would lock every user out.
func TestDerivationsArePinned(t *testing.T) {
	t.Parallel()
	auth, w, err := FromPassword("correct horse", kdf(), scope)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s: %x", what, got)
		}
	}
	check("AUTH", auth, wantAuth)
	check("authenticator", w.Recipient().Authenticator, wantAuthenticator)
	check("KDF tag", KDFTag(bytes.Repeat([]byte{5}, 32), scope, AuthVersion, kdf()), wantTag)
	recovery, err := RecoveryAuth("0000-0000-0000-0000-0000-0000-0000-0000-"+recoveryCheck(make([]byte, 20)), scope)
	if err != nil {
		t.Fatal(err)
	}
	check("recovery AUTH", recovery, wantRecoveryAuth)
	check("public key", w.Recipient().Public[:16], wantPublic)
	root, version, err := w.Root(parse(t, wantWrap)[0])
	if err != nil || version != 9 || !bytes.Equal(root, bytes.Repeat([]byte{7}, 32)) {
		t.Errorf("wrap made earlier: %x, %d, %v", root, version, err)
	}

	// AUTH of one server is useless at another, and for another user.
	for _, s := range []Scope{{"https://keys.example", scope.User}, {scope.Origin, []byte("fedcba9876543210")}} {
		other, x, err := FromPassword("correct horse", kdf(), s)
		if err != nil || bytes.Equal(other, auth) {
			t.Errorf("AUTH is not bound: %v", err)
		}
		if bytes.Equal(x.Recipient().Authenticator, w.Recipient().Authenticator) {
			t.Error("authenticator is not bound")
		}
	}
	if bytes.Equal(auth, w.Recipient().Authenticator) {
		t.Error("AUTH says something about the wrap")
	}
}

func parse(t *testing.T, s string) []Wrap {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	w, err := ParseWraps(b)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func deviceWrapper(t *testing.T, fill byte) *Wrapper {
	t.Helper()
	w, err := FromDevice(bytes.Repeat([]byte{fill}, 32), [16]byte{fill}, scope)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWrapOpensForItsRecipientOnly(t *testing.T) {
	t.Parallel()
	a, b := deviceWrapper(t, 1), deviceWrapper(t, 2)
	root := bytes.Repeat([]byte{7}, RootSize)
	wa, err := a.Recipient().Root(root, 3, scope)
	if err != nil {
		t.Fatal(err)
	}
	wb, err := b.Recipient().Root(root, 3, scope)
	if err != nil {
		t.Fatal(err)
	}
	octets, err := MarshalWraps([]Wrap{wa, wb})
	if err != nil {
		t.Fatal(err)
	}
	wraps, err := ParseWraps(octets)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Wrapper{a, b} {
		if got, v, err := w.Find(wraps); err != nil || v != 3 || !bytes.Equal(got, root) {
			t.Errorf("got %x, %d, %v", got, v, err)
		}
		if r := w.Recipient(); bytes.Contains(octets, r.Public[:32]) || bytes.Contains(octets, r.Authenticator) {
			t.Error("the server sees a recipient's key")
		}
	}
	if _, _, err := deviceWrapper(t, 3).Find(wraps); err != ErrUnwrap {
		t.Errorf("a stranger: %v", err)
	}
	swapped := wb
	swapped.Kind, swapped.ID = wa.Kind, wa.ID
	if _, _, err := a.Root(swapped); err != ErrUnwrap {
		t.Errorf("the wrap of another: %v", err)
	}
	elsewhere, err := FromDevice(bytes.Repeat([]byte{1}, 32), [16]byte{1}, Scope{"https://other", scope.User})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := elsewhere.Root(wa); err != ErrUnwrap {
		t.Errorf("at another server: %v", err)
	}
	for i := range wa.Sealed {
		bad := wa
		bad.Sealed = bytes.Clone(wa.Sealed)
		bad.Sealed[i] ^= 1
		if _, _, err := a.Root(bad); err != ErrUnwrap {
			t.Fatalf("octet %d: %v", i, err)
		}
	}
}

// Whoever knows a public key but not the authenticator (nobody should know
// either) cannot plant a ROOT.
func TestWrapNeedsTheAuthenticator(t *testing.T) {
	t.Parallel()
	a := deviceWrapper(t, 1)
	r := a.Recipient()
	r.Authenticator = make([]byte, 32)
	planted, err := r.Root(make([]byte, RootSize), 4, scope)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Root(planted); err != ErrUnwrap {
		t.Errorf("got %v", err)
	}
	r.Authenticator = nil
	if _, err := r.Root(make([]byte, RootSize), 4, scope); err == nil {
		t.Error("wrapped without authenticator")
	}
}

func TestRecoveryCode(t *testing.T) {
	t.Parallel()
	code, err := NewRecoveryCode()
	if err != nil {
		t.Fatal(err)
	}
	if len(code) != 9*4+8 || strings.Count(code, "-") != 8 {
		t.Errorf("code %q", code)
	}
	secret, err := ParseRecoveryCode(code)
	if err != nil || len(secret) != 20 {
		t.Fatalf("%x, %v", secret, err)
	}
	sloppy := strings.NewReplacer("-", " ", "1", "l", "0", "o").Replace(strings.ToLower(code))
	if again, err := ParseRecoveryCode(sloppy); err != nil || !bytes.Equal(again, secret) {
		t.Errorf("%q: %v", sloppy, err)
	}
	if pasted, err := ParseRecoveryCode(" " + code[:20] + "\r\n\t" + code[20:] + "\u00a0\n"); err != nil || !bytes.Equal(pasted, secret) {
		t.Errorf("with the white space that a copy brings along: %v", err)
	}
	for i, c := range code {
		if c == '-' {
			continue
		}
		for _, other := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
			if other == c {
				continue
			}
			if _, err := ParseRecoveryCode(code[:i] + string(other) + code[i+1:]); err != ErrRecoveryCode && i > 38 {
				t.Fatalf("wrong check character %d passed", i)
			}
		}
	}
	for _, bad := range []string{"", code + "0", code[1:], strings.Repeat("U", 36), strings.Repeat("0", 1000)} {
		if _, err := FromRecoveryCode(bad, scope); err != ErrRecoveryCode {
			t.Errorf("%q: %v", bad, err)
		}
	}
	w, err := FromRecoveryCode(code, scope)
	if err != nil {
		t.Fatal(err)
	}
	wrap, err := w.Recipient().Root(make([]byte, RootSize), 1, scope)
	if err != nil {
		t.Fatal(err)
	}
	again, err := FromRecoveryCode(sloppy, scope)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := again.Root(wrap); err != nil {
		t.Error(err)
	}
}

func FuzzParseWraps(f *testing.F) {
	w, err := FromDevice(make([]byte, 32), [16]byte{}, scope)
	if err != nil {
		f.Fatal(err)
	}
	x, err := w.Recipient().Root(make([]byte, RootSize), 1, scope)
	if err != nil {
		f.Fatal(err)
	}
	b, err := MarshalWraps([]Wrap{x})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte("CMW1\x00\x00"))
	f.Add([]byte("CMW1\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ws, err := ParseWraps(b)
		if err != nil {
			return
		}
		again, err := MarshalWraps(ws)
		if err == nil && !bytes.Equal(again, b) {
			t.Fatal("parse and marshal differ")
		}
	})
}
