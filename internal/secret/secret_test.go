package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
)

type holder struct {
	Name   string
	Public Secret
	hidden Secret
	list   []Secret
	byName map[string]Secret
	err    error
}

func TestThreat82_SecretsDoNotPrint(t *testing.T) {
	const canary = "CANARY-hunter2"
	s := New([]byte(canary))
	h := holder{"x", s, s, []Secret{s}, map[string]Secret{"k": s}, fmt.Errorf("login with %s: %v", s, s)}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%10s", "%-5v", "%c", "%U", "%b", "%e"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
		fmt.Fprintf(&out, verb+"\n", []any{s, h})
	}
	fmt.Fprintln(&out, s, &s, h, &h, s.String(), s.GoString())
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(handler)
		log.Info("m", "secret", s, "pointer", &s, "holder", h, "group", slog.GroupValue(slog.Any("s", s)))
		log.With("password", s).Error("m", "err", h.err)
	}
	octets := []byte(canary)
	for _, form := range []string{
		canary, hex.EncodeToString(octets), strings.ToUpper(hex.EncodeToString(octets)),
		strings.Trim(fmt.Sprint(octets), "[]"), strings.Trim(fmt.Sprintf("%#v", octets), "[]byte{}"), new(big.Int).SetBytes(octets).String(),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the output holds the secret as %q:\n%s", form, out.String())
		}
	}
	if !strings.Contains(out.String(), Redacted) {
		t.Error("the output says nothing about a secret at all")
	}
	if s.RevealString() != canary {
		t.Error("the secret is lost")
	}
}

func TestThreat82_SecretsDoNotMarshal(t *testing.T) {
	s := New([]byte("CANARY"))
	if b, err := json.Marshal(map[string]any{"s": s}); err == nil {
		t.Errorf("JSON: %s", b)
	}
	if b, err := xml.Marshal(struct{ S Secret }{s}); err == nil {
		t.Errorf("XML: %s", b)
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(s); err == nil {
		t.Error("gob encoded a secret")
	}
}

func TestSecretValue(t *testing.T) {
	original := []byte("abc")
	s := New(original)
	original[0] = 'X'
	if s.RevealString() != "abc" {
		t.Error("the secret shares the caller's memory")
	}
	if !s.Equal(New([]byte("abc"))) || s.Equal(New([]byte("abd"))) || s.Equal(New([]byte("abcd"))) || s.Equal(Secret{}) {
		t.Error("Equal is wrong")
	}
	other := s
	value := s.Reveal()
	s.Wipe()
	if !other.IsZero() || !bytes.Equal(value, make([]byte, 3)) {
		t.Error("Wipe left the value")
	}
	var zero Secret
	zero.Wipe()
	if !zero.IsZero() || zero.RevealString() != "" {
		t.Error("the zero value is not empty")
	}
}

func TestPassword(t *testing.T) {
	seen := make(map[string]bool)
	for range 200 {
		p, h, err := NewPassword()
		if err != nil {
			t.Fatal(err)
		}
		text := p.RevealString()
		if seen[text] || len(strings.ReplaceAll(text, "-", "")) != 26 || strings.ContainsAny(text, "lo01 ") {
			t.Fatalf("password %q", text)
		}
		seen[text] = true
		if !h.Matches([]byte(text)) || h.Matches([]byte(text+"x")) || h.Matches(nil) {
			t.Fatalf("hash of %q is wrong", text)
		}
		again, err := ParsePasswordHash(h.String())
		if err != nil || again != h {
			t.Fatalf("ParsePasswordHash(%s) = %v, %v", h, again, err)
		}
	}
	if (PasswordHash{}).Matches([]byte("x")) || (PasswordHash{}).Matches(nil) {
		t.Error("the zero hash matches")
	}
	for _, bad := range []string{"", "abc", strings.Repeat("0", 64), strings.Repeat("g", 64), strings.Repeat("a", 66)} {
		if _, err := ParsePasswordHash(bad); err == nil {
			t.Errorf("ParsePasswordHash(%q) accepted", bad)
		}
	}
}
