package mls

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestKeyPackage(t *testing.T) {
	kp, secrets := newKeyPackage(t, "alice", func(o *KeyPackageOptions) { o.LastResort = true })
	parsed := must[*KeyPackage](t)(ParseKeyPackage(must[[]byte](t)(kp.MarshalBinary())))
	noError(t, parsed.Verify(testNow))
	if parsed.Ref() != kp.Ref() || secrets.Ref() != kp.Ref() || len(kp.Ref()) != 32 {
		t.Errorf("references: %s, %s, %s", parsed.Ref(), kp.Ref(), secrets.Ref())
	}
	if !parsed.IsLastResort() || parsed.CipherSuite() != testSuite || string(parsed.Credential().Identity) != "alice" || parsed.Lifetime() != testLifetime() {
		t.Errorf("key package: %+v", parsed)
	}
	if other, _ := newKeyPackage(t, "alice"); other.IsLastResort() || other.Ref() == kp.Ref() {
		t.Error("key packages are not independent")
	}
	again := must[*KeyPackageSecrets](t)(ParseKeyPackageSecrets(must[[]byte](t)(secrets.MarshalBinary())))
	if again.Ref() != kp.Ref() || !bytes.Equal(again.SignatureKey(), secrets.SignatureKey()) {
		t.Error("secrets do not survive storage")
	}
	if s := fmt.Sprintf("%v %+v %#v %x %s", secrets, secrets, secrets, secrets.signaturePrivate, secrets.SignatureKey()); strings.TrimSpace(strings.ReplaceAll(s, "[redacted]", "")) != "" {
		t.Errorf("secrets print as %s", s)
	}
	_, stranger := newKeyPackage(t, "alice")
	if _, err := NewKeyPackageSecrets(kp, secrets.initPrivate, stranger.encryptionPrivate, secrets.signaturePrivate); err == nil {
		t.Error("foreign private key was accepted")
	}
}

func TestKeyPackageVerify(t *testing.T) {
	day := 24 * time.Hour
	lifetime := func(from, to time.Duration) func(*KeyPackageOptions) {
		return func(o *KeyPackageOptions) {
			o.Lifetime = Lifetime{NotBefore: uint64(testNow.Add(from).Unix()), NotAfter: uint64(testNow.Add(to).Unix())}
		}
	}
	for _, test := range []struct {
		name     string
		from, to time.Duration
		reason   string
	}{
		{"good", -time.Hour, 90 * day, ""},
		{"longest", -time.Hour, 120*day - time.Hour, ""},
		{"too long", -time.Hour, 120 * day, "longer than the maximum"},
		{"expired", -2 * day, -day, "current time"},
		{"not yet", day, 2 * day, "current time"},
		{"backwards", day, -day, "longer than the maximum"},
	} {
		kp, _ := newKeyPackage(t, "x", lifetime(test.from, test.to))
		err := kp.Verify(testNow)
		if test.reason == "" && err != nil || test.reason != "" && (err == nil || !strings.Contains(err.Error(), test.reason)) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.reason)
		}
	}
	kp, _ := newKeyPackage(t, "x", func(o *KeyPackageOptions) { o.Lifetime = Lifetime{NotAfter: ^uint64(0)} })
	if err := kp.Verify(testNow); err == nil {
		t.Error("eternal key package was accepted")
	}
	if _, err := newGroup(t, "a").Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow}); err == nil || !strings.Contains(err.Error(), "longer than the maximum") {
		t.Errorf("eternal key package was added: %v", err)
	}
	for name, change := range map[string]func(*KeyPackageOptions){
		"suite":         func(o *KeyPackageOptions) { o.CipherSuite = 0xfff0 },
		"signature key": func(o *KeyPackageOptions) { o.SignatureKey = nil },
		"capabilities":  func(o *KeyPackageOptions) { o.Capabilities = &Capabilities{} },
		"leaf extension": func(o *KeyPackageOptions) {
			c := DefaultCapabilities(testSuite)
			o.Capabilities = &c
			o.LeafExtensions = []Extension{{Type: 0xf123}}
		},
		"extension twice": func(o *KeyPackageOptions) {
			o.Extensions = []Extension{{Type: 0xf123}, {Type: 0xf123}}
		},
	} {
		o := KeyPackageOptions{CipherSuite: testSuite, Credential: NewBasicCredential([]byte("x")), SignatureKey: newKey(t), Lifetime: testLifetime()}
		change(&o)
		if _, _, err := NewKeyPackage(o); err == nil {
			t.Errorf("%s: key package was made", name)
		}
	}
	if _, err := ParseMessage(make([]byte, MaxMessage+1)); err == nil {
		t.Error("huge message was accepted")
	}
	var v *ValidationError
	if err := kp.Verify(testNow); !errors.As(err, &v) || v.Section == "" {
		t.Errorf("got %v", err)
	}
}
