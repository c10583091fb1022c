package labeled

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"
)

func suite(t *testing.T) *Suite {
	t.Helper()
	s, ok := ByID(1)
	if !ok {
		t.Fatal("suite 1 is missing")
	}
	return s
}

// each runs a test for every suite.
func each(t *testing.T, f func(t *testing.T, s *Suite)) {
	t.Helper()
	if len(IDs()) != 8 {
		t.Fatalf("%d suites, want 8", len(IDs()))
	}
	for _, id := range IDs() {
		s, _ := ByID(id)
		t.Run(s.Name, func(t *testing.T) { f(t, s) })
	}
}

// The listed points are those that the standard library refuses to multiply,
// and no others.
func TestLowOrderPointsAreRefused(t *testing.T) {
	s := suite(t)
	scalar, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	private, own, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range lowOrderPoints {
		for _, top := range []byte{0, 0x80} {
			u := p
			u[31] |= top
			public, err := ecdh.X25519().NewPublicKey(u[:])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := scalar.ECDH(public); err == nil {
				t.Errorf("%x is not of low order", u)
			}
			if err := s.CheckPublicKey(u[:]); !errors.Is(err, ErrPublicKey) {
				t.Errorf("%x: got %v, want %v", u, err, ErrPublicKey)
			}
			if _, _, err := s.Encrypt(u[:], "label", nil, nil); !errors.Is(err, ErrPublicKey) {
				t.Errorf("encrypt to %x: got %v", u, err)
			}
			if _, err := s.ReceiveExternalInit(private, own, u[:]); !errors.Is(err, ErrDecrypt) {
				t.Errorf("kem output %x: got %v", u, err)
			}
		}
	}
	_, public, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckPublicKey(public); err != nil {
		t.Errorf("honest key: %v", err)
	}
	for _, n := range []int{0, 31, 33} {
		if err := s.CheckPublicKey(make([]byte, n)); !errors.Is(err, ErrPublicKey) {
			t.Errorf("key of %d bytes: got %v", n, err)
		}
	}
}

// No operation changes what it is given.
func TestInputsAreUnchanged(t *testing.T) { each(t, inputsAreUnchanged) }

func inputsAreUnchanged(t *testing.T, s *Suite) {
	private, public, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	plaintext, context := []byte("plaintext plaintext"), []byte("context")
	kemOutput, ciphertext, err := s.Encrypt(public, "label", context, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	key, nonce := make([]byte, s.Nk), make([]byte, s.Nn)
	sealed, err := s.AEADSeal(key, nonce, context, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	inputs := [][]byte{private, public, plaintext, context, kemOutput, ciphertext, key, nonce, sealed}
	var before [][]byte
	for _, b := range inputs {
		before = append(before, bytes.Clone(b))
	}
	for range 2 {
		got, err := s.Decrypt(private, public, "label", context, kemOutput, ciphertext)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("decrypt: got %q, %v", got, err)
		}
		got, err = s.AEADOpen(key, nonce, context, sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Fatalf("open: got %q, %v", got, err)
		}
		if _, err := s.Decrypt(private, public, "other", context, kemOutput, ciphertext); !errors.Is(err, ErrDecrypt) {
			t.Errorf("other label: got %v", err)
		}
	}
	for i, b := range inputs {
		if !bytes.Equal(b, before[i]) {
			t.Errorf("input %d was changed", i)
		}
	}
}

func TestVerifyMACComparesAll(t *testing.T) { each(t, verifyMACComparesAll) }

func verifyMACComparesAll(t *testing.T, s *Suite) {
	tag := s.MAC([]byte("key"), []byte("message"))
	if !s.VerifyMAC([]byte("key"), []byte("message"), tag) {
		t.Fatal("good tag was refused")
	}
	for i := range tag {
		bad := bytes.Clone(tag)
		bad[i] ^= 1
		if s.VerifyMAC([]byte("key"), []byte("message"), bad) {
			t.Errorf("byte %d does not count", i)
		}
	}
	for _, bad := range [][]byte{nil, {}, tag[:len(tag)-1], append(bytes.Clone(tag), 0)} {
		if s.VerifyMAC([]byte("key"), []byte("message"), bad) {
			t.Errorf("tag of %d bytes was accepted", len(bad))
		}
	}
}

func TestSignatures(t *testing.T) { each(t, signatures) }

func signatures(t *testing.T, s *Suite) {
	private, public, err := s.GenerateSignatureKey()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := s.Sign(private, "label", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(public, "label", []byte("content"), signature); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"label":           s.Verify(public, "other", []byte("content"), signature),
		"content":         s.Verify(public, "label", []byte("contents"), signature),
		"empty signature": s.Verify(public, "label", []byte("content"), nil),
		"empty key":       s.Verify(nil, "label", []byte("content"), signature),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want %v", name, err, ErrSignature)
		}
	}
	for i := range signature {
		bad := bytes.Clone(signature)
		bad[i] ^= 1
		if err := s.Verify(public, "label", []byte("content"), bad); !errors.Is(err, ErrSignature) {
			t.Errorf("byte %d of the signature does not count: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{"none": nil, "empty": {}, "long": append(bytes.Clone(private), 0)} {
		if _, err := s.Sign(bad, "label", nil); !errors.Is(err, ErrPrivateKey) {
			t.Errorf("private key %s: got %v", name, err)
		}
		if _, err := s.SignaturePublicKey(bad); !errors.Is(err, ErrPrivateKey) {
			t.Errorf("public key of private key %s: got %v", name, err)
		}
	}
	if got, err := s.SignaturePublicKey(private); err != nil || !bytes.Equal(got, public) {
		t.Errorf("public key: got %x, %v, want %x", got, err, public)
	}
	if err := s.CheckSignatureKey(public); err != nil {
		t.Errorf("honest key: %v", err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "short": public[1:], "long": append(bytes.Clone(public), 0)} {
		if err := s.CheckSignatureKey(bad); !errors.Is(err, ErrPublicKey) {
			t.Errorf("%s public key: got %v", name, err)
		}
	}
	if _, ok := ByID(0xfff0); ok || Supported(0xfff0) {
		t.Error("unknown suite is supported")
	}
}
