package groupid

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// vectors are the published ones of docs/spec/group-id.md.
type vectors struct {
	Canonical []struct{ Address, Canonical string }
	Refused   []struct{ Address, Error string }
	Dialogs   []struct {
		Platform string
		A, B     string
		Encoding string
		ID       string
	}
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	b, err := os.ReadFile("../docs/spec/vectors/group-id.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Canonical) < 20 || len(v.Refused) < 20 || len(v.Dialogs) < 5 {
		t.Fatal("vectors are missing")
	}
	return v
}

// refusals names the errors in the vectors.
var refusals = map[string]error{
	"empty": ErrEmpty, "control": ErrControl, "space": ErrSpace, "encoding": ErrEncoding,
	"syntax": ErrSyntax, "domain": ErrDomain, "too-long": ErrTooLong,
}

// TestFlaw39_CanonicalForm: F39, one mailbox had many ids, for lack of a
// canonical form.
func TestFlaw39_CanonicalForm(t *testing.T) {
	v := readVectors(t)
	for _, tt := range v.Canonical {
		got, err := Canonical(tt.Address)
		if err != nil || got != tt.Canonical {
			t.Errorf("%q: got %q, %v; want %q", tt.Address, got, err, tt.Canonical)
		}
		if again, err := Canonical(got); err != nil || again != got {
			t.Errorf("%q: the canonical form is %q of itself, %v", got, again, err)
		}
	}
	for _, tt := range v.Refused {
		want, ok := refusals[tt.Error]
		if !ok {
			t.Fatalf("unknown error %q", tt.Error)
		}
		if got, err := Canonical(tt.Address); !errors.Is(err, want) || got != "" {
			t.Errorf("%q: got %q, %v; want %v", tt.Address, got, err, want)
		}
	}
	if _, err := Canonical("a\xff@b.example"); !errors.Is(err, ErrEncoding) {
		t.Errorf("not UTF-8: %v", err)
	}
	if _, err := Canonical(strings.Repeat("a", 1<<20) + "@b.example"); !errors.Is(err, ErrTooLong) {
		t.Errorf("a megabyte: %v", err)
	}
	if _, err := Canonical("secret\x00name@b.example"); strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the address: %v", err)
	}
}

func TestDialogVectors(t *testing.T) {
	for _, tt := range readVectors(t).Dialogs {
		want, err := Parse(tt.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got := Dialog(tt.Platform, tt.A, tt.B); got != want {
			t.Errorf("%s, %s: %v, want %v", tt.A, tt.B, got, want)
		}
		if got := Dialog(tt.Platform, tt.B, tt.A); got != want {
			t.Errorf("%s, %s: %v, want %v", tt.B, tt.A, got, want)
		}
		encoding, err := hex.DecodeString(tt.Encoding)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(encoding); ID(sum[:Size]) != want {
			t.Errorf("%s, %s: the hash of the encoding is %x", tt.A, tt.B, sum)
		}
		if tt.A == tt.B && Self(tt.Platform, tt.A) != want {
			t.Errorf("%s alone: %v", tt.A, Self(tt.Platform, tt.A))
		}
	}
}

// TestFlaw38_NoConcatenationCollision: F38, the id was a concatenation, the
// same for different pairs.
func TestFlaw38_NoConcatenationCollision(t *testing.T) {
	pairs := [][2]string{
		{"a@b.c", "om@c.de"}, {"a@b.co", "m@c.de"}, {"a@b.com", "@c.de"}, {"a@b.com@c.de", ""}, {"a@b.com@c.de", "a@b.com@c.de"},
		{"a", "b"}, {"ab", ""}, {"a", "a"}, {"aa", ""}, {"aa", "aa"},
	}
	seen := map[ID][2]string{}
	for _, p := range pairs {
		for _, platform := range []string{"email", "e", "emaila@b.c"} {
			id := Dialog(platform, p[0], p[1])
			if other, ok := seen[id]; ok {
				t.Errorf("%q and %q on %s have the same id", p, other, platform)
			}
			seen[id] = p
		}
	}
	// a label, a platform or an id cannot run into its neighbour either
	if Dialog("ab", "c", "d") == Dialog("a", "bc", "d") {
		t.Error("platform and account run into each other")
	}
}

// TestSeedFlaw05_DialogIDIsHashed: row 0.5, the id was the two addresses. Now
// it shows neither, and that of a group is random.
func TestSeedFlaw05_DialogIDIsHashed(t *testing.T) {
	a, b := "alice@a.example", "bob@b.example"
	id := Dialog("email", a, b)
	for _, s := range []string{id.String(), string(id[:])} {
		if strings.Contains(s, "alice") || strings.Contains(s, hex.EncodeToString([]byte("alice"))) || len(s) > 32 {
			t.Errorf("the id shows who it is: %q", s)
		}
	}
	seen := map[ID]bool{Dialog("email", a, b): true, Self("email", a): true}
	for range 1000 {
		id, err := New()
		if err != nil {
			t.Fatal(err)
		}
		if seen[id] || id.IsZero() {
			t.Fatal("a random id repeats")
		}
		seen[id] = true
	}
}

func TestIDText(t *testing.T) {
	id := Dialog("email", "a@a.example", "b@b.example")
	text, err := id.MarshalText()
	if err != nil || len(text) != 32 {
		t.Fatalf("%q, %v", text, err)
	}
	var back ID
	if err := back.UnmarshalText(text); err != nil || back != id {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{
		"", "00", strings.ToUpper(string(text)), string(text) + "00", " " + string(text[1:]), strings.Repeat("0", 32), strings.Repeat("g", 32),
	} {
		if s == string(text) {
			continue
		}
		if got, err := Parse(s); !errors.Is(err, ErrID) || !got.IsZero() {
			t.Errorf("%q: %v, %v", s, got, err)
		}
		kept := id
		if err := kept.UnmarshalText([]byte(s)); err == nil || kept != id {
			t.Errorf("%q: %v, %v", s, kept, err)
		}
	}
}

func TestParticipants(t *testing.T) {
	p, err := NewParticipants("c@x.example", "a@x.example", "b@x.example", "a@x.example")
	if err != nil {
		t.Fatal(err)
	}
	q, err := NewParticipants("b@x.example", "d@x.example", "c@x.example")
	if err != nil {
		t.Fatal(err)
	}
	same, err := NewParticipants("a@x.example", "b@x.example", "c@x.example")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(p.IDs(), " "); got != "a@x.example b@x.example c@x.example" || p.Len() != 3 {
		t.Errorf("ids %q", got)
	}
	if !p.Contains("a@x.example") || p.Contains("d@x.example") || p.Contains("") {
		t.Error("contains")
	}
	if !p.Equal(same) || p.Equal(q) || p.Key() != same.Key() || p.Key() == q.Key() {
		t.Error("equal")
	}
	added, removed := p.Diff(q)
	if len(added) != 1 || added[0] != "d@x.example" || len(removed) != 1 || removed[0] != "a@x.example" {
		t.Errorf("added %v, removed %v", added, removed)
	}
	if got := strings.Join(p.Others("b@x.example"), " "); got != "a@x.example c@x.example" {
		t.Errorf("others %q", got)
	}
	p.IDs()[0] = "z"
	p.Others("x")[0] = "z"
	if !p.Contains("a@x.example") || p.IDs()[0] != "a@x.example" {
		t.Error("the set was changed from outside")
	}
	var none Participants
	if none.Len() != 0 || none.Contains("a") || none.Key() == p.Key() {
		t.Error("the empty set")
	}
	x, err := NewParticipants("ab", "c")
	if err != nil {
		t.Fatal(err)
	}
	y, err := NewParticipants("a", "bc")
	if err != nil {
		t.Fatal(err)
	}
	if x.Key() == y.Key() {
		t.Error("keys run into each other")
	}
	for _, id := range []string{"", "a b", "a\nb", "\xff", strings.Repeat("a", 2000)} {
		if _, err := NewParticipants("a", id); !errors.Is(err, ErrParticipant) {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	if _, err := NewParticipants(make([]string, MaxParticipants+1)...); !errors.Is(err, ErrTooMany) {
		t.Errorf("too many: %v", err)
	}
}

func FuzzCanonical(f *testing.F) {
	v := readVectors(f)
	for _, tt := range v.Canonical {
		f.Add(tt.Address)
	}
	for _, tt := range v.Refused {
		f.Add(tt.Address)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := Canonical(s)
		if err != nil {
			return
		}
		if again, err := Canonical(got); err != nil || again != got {
			t.Fatalf("%q becomes %q becomes %q, %v", s, got, again, err)
		}
		if strings.ContainsAny(got, "\x00\r\n \t") || len(got) > MaxAddress {
			t.Fatalf("%q becomes %q", s, got)
		}
		if upper, err := Canonical(upperASCII(s)); err != nil || upper != got {
			t.Fatalf("%q becomes %q, in capitals %q, %v", s, got, upper, err)
		}
		if _, err := NewParticipants(got); err != nil {
			t.Fatal(err)
		}
	})
}

func upperASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

func FuzzParse(f *testing.F) {
	f.Add("0123456789abcdef0123456789abcdef")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := Parse(s); err == nil && id.String() != s {
			t.Fatalf("%q is %v", s, id)
		}
	})
}
