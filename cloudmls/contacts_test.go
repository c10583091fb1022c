package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func (d *device) contact(other *device) Contact {
	d.t.Helper()
	list, err := d.Contacts(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatalf("%s: contacts: %v", d.self, err)
	}
	for _, k := range list {
		if k.Account == other.self {
			return k
		}
	}
	d.t.Fatalf("%s: %s is no contact", d.self, other.self)
	return Contact{}
}

func (d *device) code(other *device) Code {
	d.t.Helper()
	c, err := d.ComparisonCode(d.t.Context(), d.self, other.self)
	if err != nil {
		d.t.Fatalf("%s: comparison code: %v", d.self, err)
	}
	return c
}

// renames makes the key server name another identity key for an account.
func (w *world) renames(a Account, key []byte) {
	w.wire.set(nil, func(e *exchange) {
		if e.is("GET", "/v1/reachable/email/"+a.ID) && e.status == 200 {
			e.answered = encodeJSON(w.t, keyapi.Reachability{Account: a, HasAccount: true, IdentityKey: key})
		}
	})
}

// TestComparisonCode: both sides see one code, it marks the contact on all
// devices, and the next message shows it.
func TestComparisonCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	if k := alice.contact(bob); k.State != ContactUnverified || !k.Confirmed || k.Since.IsZero() || !k.VerifiedAt.IsZero() {
		t.Errorf("before: %+v", k)
	}
	if p := alice.decrypt(bob.encrypt(id, "before")); !p.Verified || p.SenderVerified {
		t.Errorf("before: verified %v, by a person %v", p.Verified, p.SenderVerified)
	}
	a, b := alice.code(bob), bob.code(alice)
	if a.String() != b.String() || !bytes.Equal(a.Bytes(), b.Bytes()) || bytes.Equal(a.Key(), b.Key()) {
		t.Fatalf("codes %s and %s", a, b)
	}
	if other := alice.code(carol); other.Digits() == a.Digits() {
		t.Error("another contact has the same code")
	}
	wrong := []byte(a.Digits())
	wrong[59] = '0' + (wrong[59]-'0'+1)%10
	if err := alice.Verify(t.Context(), alice.self, bob.self, string(wrong)); !errors.Is(err, ErrCodeMismatch) {
		t.Errorf("one wrong digit: %v", err)
	}
	if err := alice.Verify(t.Context(), alice.self, carol.self, a.Digits()); !errors.Is(err, ErrCodeMismatch) {
		t.Errorf("the code of another contact: %v", err)
	}
	if k := alice.contact(bob); k.State != ContactUnverified {
		t.Fatalf("a wrong code counted: %+v", k)
	}
	if err := alice.Verify(t.Context(), alice.self, bob.self, strings.ReplaceAll(b.String(), " ", "-\n")); err != nil {
		t.Fatal(err)
	}
	phone.cleanSync()
	for name, d := range map[string]*device{"this device": alice, "the other device": phone} {
		if k := d.contact(bob); k.State != ContactVerified || k.VerifiedAt.IsZero() {
			t.Errorf("%s: %+v", name, k)
		}
		if p := d.decrypt(bob.encrypt(id, "after")); !p.SenderVerified {
			t.Errorf("%s: the message is not verified by a person", name)
		}
		if p := d.decrypt(alice.encrypt(id, "own")); !p.SenderVerified {
			t.Errorf("%s: an own message is not", name)
		}
	}
	if err := bob.VerifyScanned(t.Context(), bob.self, alice.self, a.Bytes()); err != nil {
		t.Fatal(err)
	}
	if k := bob.contact(alice); k.State != ContactVerified {
		t.Errorf("scanned: %+v", k)
	}
	if err := alice.Unverify(t.Context(), alice.self, bob.self); err != nil {
		t.Fatal(err)
	}
	if k := alice.contact(bob); k.State != ContactUnverified || !k.VerifiedAt.IsZero() {
		t.Errorf("unverified: %+v", k)
	}
	if err := alice.VerifyKey(t.Context(), alice.self, bob.self, a.Key()); err != nil {
		t.Fatal(err)
	}
	if k := alice.contact(bob); k.State != ContactVerified {
		t.Errorf("by key: %+v", k)
	}
}

// TestThreat45_SubstitutedKey: a key server that puts itself in the middle from
// the first contact on is found out by the code, and a changed key stops
// sending until somebody confirms it.
func TestThreat45_SubstitutedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	f := w.forger()
	middle := f.identity.Public().(ed25519.PublicKey)
	w.renames(bob.self, middle)
	b := bob.code(alice)
	if a := alice.code(bob); a.Digits() == b.Digits() || !bytes.Equal(a.Key(), middle) {
		t.Error("the code does not show the one in the middle")
	}
	if err := alice.Verify(t.Context(), alice.self, bob.self, b.Digits()); !errors.Is(err, ErrCodeMismatch) {
		t.Errorf("the code of the real Bob: %v", err)
	}
	if list, err := alice.Contacts(t.Context(), alice.self); err != nil || len(list) != 0 {
		t.Fatalf("a failed comparison pinned something: %+v, %v", list, err)
	}
	w.wire.set(nil, nil)
	if err := alice.Verify(t.Context(), alice.self, bob.self, b.Digits()); err != nil {
		t.Fatal(err)
	}
	real := alice.contact(bob).IdentityKey
	id := alice.ensureDialog(bob)
	w.renames(bob.self, middle)
	k, err := alice.Contact(t.Context(), alice.self, bob.self)
	if err != nil || k.State != ContactChanged || !bytes.Equal(k.NewKey, middle) || !k.NewConfirmed || k.VerifiedAt.IsZero() || !bytes.Equal(k.IdentityKey, real) {
		t.Errorf("contact %+v, %v", k, err)
	}
	w.wire.set(nil, nil)
	if k, err := alice.Contact(t.Context(), alice.self, bob.self); err != nil || k.State != ContactVerified || k.NewKey != nil {
		t.Errorf("contact %+v, %v", k, err)
	}
	d, _ := f.welcome(bob.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, alice)
	if r := w.deliver(alice, w.user("mallory"), d); !hasProblem(r, ProblemIdentityChanged) {
		t.Fatalf("%+v", r)
	}
	if k := alice.contact(bob); k.State != ContactChanged || !bytes.Equal(k.NewKey, middle) || k.NewConfirmed || k.VerifiedAt.IsZero() {
		t.Errorf("with a Welcome on hold: %+v", k)
	}
	// Somebody accepts the key without a comparison: it is pinned, not verified.
	if err := alice.AcceptIdentity(t.Context(), alice.self, bob.self, middle); err != nil {
		t.Fatal(err)
	}
	if k := alice.contact(bob); k.State != ContactUnverified || !bytes.Equal(k.IdentityKey, middle) || !k.VerifiedAt.IsZero() {
		t.Errorf("accepted: %+v", k)
	}
	// Comparing with the real Bob finds it out, and brings his key back.
	if err := alice.Verify(t.Context(), alice.self, bob.self, b.Digits()); err != nil {
		t.Fatal(err)
	}
	if k := alice.contact(bob); k.State != ContactVerified || !bytes.Equal(k.IdentityKey, real) {
		t.Errorf("compared: %+v", k)
	}
	var changed *IdentityChangedError
	if s := alice.state(id); !errors.As(s.Blocked, &changed) || !changed.Verified {
		t.Errorf("the group of the one in the middle is not blocked: %v", s.Blocked)
	}
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil); !errors.As(err, &changed) || !changed.Verified {
		t.Errorf("sent to a changed key of a verified contact: %v", err)
	}
}

// TestComparisonWithoutTheKeyServer: the pinned key is compared; what is not
// known is not made up.
func TestComparisonWithoutTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	alice.ensureDialog(bob)
	want := bob.code(alice)
	w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, faults["500 page"])
	if got := alice.code(bob); got.Digits() != want.Digits() {
		t.Errorf("code %s, want %s", got, want)
	}
	if _, err := alice.ComparisonCode(t.Context(), alice.self, carol.self); err == nil || errors.Is(err, ErrNoContact) {
		t.Errorf("an unknown account: %v", err)
	}
	if _, err := alice.Contact(t.Context(), alice.self, bob.self); err == nil || errors.Is(err, ErrNoContact) {
		t.Errorf("contact: %v", err)
	}
	if err := alice.Verify(t.Context(), alice.self, bob.self, want.String()); err != nil {
		t.Error(err)
	}
	if err := alice.Verify(t.Context(), alice.self, bob.self, strings.Repeat("1", 60)); !errors.Is(err, ErrCodeMismatch) || !strings.Contains(err.Error(), "could not be asked") {
		t.Errorf("mismatch: %v", err)
	}
	w.wire.set(nil, nil)
	for what, err := range map[string]error{
		"unknown":     func() error { _, err := alice.Contact(t.Context(), alice.self, account("nobody")); return err }(),
		"no code":     func() error { _, err := alice.ComparisonCode(t.Context(), alice.self, account("nobody")); return err }(),
		"no unverify": alice.Unverify(t.Context(), alice.self, account("nobody")),
	} {
		if !errors.Is(err, ErrNoContact) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := alice.ComparisonCode(t.Context(), alice.self, alice.self); err == nil {
		t.Error("an account compares with itself")
	}
	if list, err := alice.Contacts(t.Context(), alice.self); err != nil || len(list) != 1 {
		t.Errorf("contacts %+v, %v", list, err)
	}
}

func TestCodeForm(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "1", strings.Repeat("1", 59), strings.Repeat("1", 61), strings.Repeat("a", 60),
		strings.Repeat("١", 60), strings.Repeat("1 ", 600),
	} {
		if _, err := parseDigits(bad); !errors.Is(err, ErrCodeForm) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range [][]byte{nil, []byte("CMV1"), []byte("https://example.org"), make([]byte, 36), append(Code{}.Bytes(), 0)} {
		if _, err := parseScanned(bad); !errors.Is(err, ErrCodeForm) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if (Code{}).isDigits(Code{}.Digits()) {
		t.Error("the zero code equals itself")
	}
	if s := (Code{}).String(); len(s) != 71 || strings.Count(s, " ") != 11 {
		t.Errorf("form %q", s)
	}
}

func FuzzComparisonCode(f *testing.F) {
	f.Add([]byte(strings.Repeat("12345 ", 12)))
	f.Add(Code{digest: [32]byte{1}}.Bytes())
	f.Add([]byte("CMV1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := parseDigits(string(b)); err == nil && (len(d) != codeDigits || strings.Trim(d, "0123456789") != "") {
			t.Errorf("digits %q", d)
		}
		if d, err := parseScanned(b); err == nil && !bytes.Equal(Code{digest: d}.Bytes(), b) {
			t.Errorf("scanned %x", d)
		}
	})
}

var codeFile = filepath.Join("..", "docs", "spec", "vectors", "comparison-code.json")

type codeVector struct {
	Origin string   `json:"origin"`
	A      Account  `json:"a"`
	AKey   hexBytes `json:"a_identity_key"`
	B      Account  `json:"b"`
	BKey   hexBytes `json:"b_identity_key"`
	Digits string   `json:"digits"`
	QR     hexBytes `json:"qr"`
}

// TestCodeVectors: what two programs show must be the same for ever.
func TestCodeVectors(t *testing.T) {
	t.Parallel()
	fill := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	if *updateVectors {
		var list []codeVector
		for _, v := range []codeVector{
			{Origin: "https://keys.example.org", A: account("alice"), AKey: fill(1), B: account("bob"), BKey: fill(2)},
			{Origin: "https://keys.example.org", A: account("alice"), AKey: fill(1), B: account("bob"), BKey: fill(3)},
			{Origin: "https://keys.example.com", A: account("alice"), AKey: fill(1), B: account("bob"), BKey: fill(2)},
			{Origin: "k", A: Account{Platform: "telegram", ID: "12345"}, AKey: fill(0xff), B: account("bob"), BKey: fill(0)},
		} {
			c, err := newCode(v.Origin, v.A, v.AKey, v.B, v.BKey)
			if err != nil {
				t.Fatal(err)
			}
			v.Digits, v.QR = c.Digits(), c.Bytes()
			list = append(list, v)
		}
		b, err := json.MarshalIndent(list, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(codeFile, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(codeFile)
	if err != nil {
		t.Fatal(err)
	}
	list := decodeJSON[[]codeVector](t, b)
	if len(list) < 4 {
		t.Fatal("vectors are missing")
	}
	seen := map[string]bool{}
	for i, v := range list {
		c, err := newCode(v.Origin, v.A, v.AKey, v.B, v.BKey)
		if err != nil {
			t.Fatal(err)
		}
		d, err := newCode(v.Origin, v.B, v.BKey, v.A, v.AKey)
		if err != nil || c.Digits() != v.Digits || d.Digits() != v.Digits || !bytes.Equal(c.Bytes(), v.QR) || !bytes.Equal(c.Key(), v.BKey) {
			t.Errorf("vector %d: %s, %s, %v", i, c, d, err)
		}
		if seen[v.Digits] {
			t.Errorf("vector %d repeats another", i)
		}
		seen[v.Digits] = true
	}
	if _, err := newCode("k", account("a"), fill(1)[1:], account("b"), fill(2)); err == nil {
		t.Error("a short key passes")
	}
}

// TestStatus: what a Sync refused, when it went through, and the pool.
func TestStatus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	s, err := bob.Status(t.Context(), bob.self)
	if err != nil || s.LastSync.IsZero() || s.SyncError != nil || len(s.Problems) != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.KeyPackages != defaultKeyPackages || !s.LastResort || s.Counted.IsZero() {
		t.Errorf("pool %+v", s)
	}
	f := w.forger()
	d, _ := f.welcome(alice.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, bob)
	if r := w.deliver(bob, w.user("mallory"), d); !hasProblem(r, ProblemIdentityChanged) {
		t.Fatalf("%+v", r)
	}
	bob.crash()
	if s, err = bob.Status(t.Context(), bob.self); err != nil || len(s.Problems) != 1 || s.Problems[0].Kind != ProblemIdentityChanged ||
		s.Problems[0].Conversation != id || s.Problems[0].Reason == "" || s.Problems[0].At.IsZero() || !s.LastSync.IsZero() {
		t.Errorf("after a restart: %+v, %v", s, err)
	}
	w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/delivery/") }, faults["500 page"])
	if _, err := bob.Sync(t.Context(), bob.self); err == nil {
		t.Fatal("no fault")
	}
	if s, err = bob.Status(t.Context(), bob.self); err != nil || s.SyncError == nil || !s.LastSync.IsZero() {
		t.Errorf("after a failed Sync: %+v, %v", s, err)
	}
	w.wire.set(nil, nil)
	bob.mustSync()
	if s, err = bob.Status(t.Context(), bob.self); err != nil || s.SyncError != nil || s.LastSync.IsZero() {
		t.Errorf("after a Sync: %+v, %v", s, err)
	}
}

// TestBlocked: a conversation says by itself whether something can be written.
func TestBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	if s := alice.ensureGroup(id, bob, carol); s.Blocked != nil {
		t.Errorf("fresh: %v", s.Blocked)
	}
	carol.cleanSync()
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.cleanSync()
	if s := carol.state(id); !errors.Is(s.Blocked, ErrNotMember) {
		t.Errorf("removed: %v", s.Blocked)
	}
	bob.cleanSync()
	ghost, err := mls.ParseKeyPackage(w.forger().keyPackage(alice.self))
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.rogueCommit(id, mls.CommitOptions{Add: []*mls.KeyPackage{ghost}}); err != nil {
		t.Fatal(err)
	}
	alice.mustSync()
	if s := alice.state(id); !errors.Is(s.Blocked, ErrBroken) || s.Blocked.Error() == ErrBroken.Error() {
		t.Errorf("broken: %v", s.Blocked)
	}
}

// TestFormerKeyIsNotCompared: people have compared the new key. What was sent under
// the one before is genuine, and not called verified by a person.
func TestFormerKeyIsNotCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := bob.encrypt(id, "before")
	key := w.forger().identity.Public().(ed25519.PublicKey)
	w.renames(bob.self, key)
	if err := alice.AcceptIdentity(t.Context(), alice.self, bob.self, key); err != nil {
		t.Fatal(err)
	}
	if err := alice.VerifyKey(t.Context(), alice.self, bob.self, key); err != nil {
		t.Fatal(err)
	}
	if k := alice.contact(bob); k.State != ContactVerified || !bytes.Equal(k.IdentityKey, key) {
		t.Fatalf("contact %+v", k)
	}
	if p := alice.decrypt(before); !p.Verified || p.SenderVerified {
		t.Errorf("verified %v, by a person %v", p.Verified, p.SenderVerified)
	}
}
