package labeled

import (
	"bytes"
	"crypto/mlkem"
	"errors"
	"testing"

	"github.com/cloudflare/circl/dh/x448"
)

// RFC 9180 section 7.1.4: points must be on the curve and not at infinity.
func TestNISTPointsAreOnTheCurve(t *testing.T) {
	for _, id := range []uint16{2, 5, 7} {
		s, _ := ByID(id)
		private, public, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		signature, _, err := s.GenerateSignatureKey()
		if err != nil || len(signature) == 0 {
			t.Fatal(err)
		}
		compressed := bytes.Clone(public[:1+len(public)/2])
		compressed[0] = 2 + public[len(public)-1]&1
		for name, bad := range map[string][]byte{
			"off the curve": changed(public, len(public)-1), "infinity": {0}, "zero": make([]byte, len(public)),
			"compressed": compressed, "hybrid": append([]byte{6 + public[len(public)-1]&1}, public[1:]...),
		} {
			if err := s.CheckPublicKey(bad); !errors.Is(err, ErrPublicKey) {
				t.Errorf("%s: hpke key %s: got %v", s.Name, name, err)
			}
			if _, _, err := s.Encrypt(bad, "label", nil, nil); !errors.Is(err, ErrPublicKey) {
				t.Errorf("%s: encrypt to %s: got %v", s.Name, name, err)
			}
			if err := s.CheckSignatureKey(bad); !errors.Is(err, ErrPublicKey) {
				t.Errorf("%s: signature key %s: got %v", s.Name, name, err)
			}
			if _, err := s.ReceiveExternalInit(private, public, bad); !errors.Is(err, ErrDecrypt) {
				t.Errorf("%s: kem output %s: got %v", s.Name, name, err)
			}
		}
		if err := s.CheckSignatureKey(public); err != nil {
			t.Errorf("%s: honest point: %v", s.Name, err)
		}
	}
}

// The listed points are those with which circl computes zero, and no others.
func TestLowOrderPointsOfX448AreRefused(t *testing.T) {
	s, _ := ByID(4)
	private, public, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	p := bytes.Repeat([]byte{0xff}, 56)
	p[28] = 0xfe
	before, after := changed(p, 0), append(make([]byte, 28), bytes.Repeat([]byte{0xff}, 28)...)
	one := append([]byte{1}, make([]byte, 55)...)
	for _, u := range [][]byte{make([]byte, 56), one, before, p, after} {
		var shared x448.Key
		if x448.Shared(&shared, (*x448.Key)(private), (*x448.Key)(u)) {
			t.Errorf("%x is not of low order", u)
		}
		if err := s.CheckPublicKey(u); !errors.Is(err, ErrPublicKey) {
			t.Errorf("%x: got %v", u, err)
		}
		if _, _, err := s.Encrypt(u, "label", nil, nil); !errors.Is(err, ErrPublicKey) {
			t.Errorf("encrypt to %x: got %v", u, err)
		}
		if _, err := s.ReceiveExternalInit(private, public, u); !errors.Is(err, ErrDecrypt) {
			t.Errorf("kem output %x: got %v", u, err)
		}
	}
	if err := s.CheckPublicKey(public); err != nil {
		t.Errorf("honest key: %v", err)
	}
}

// FIPS 203 section 7.2: each coefficient is below the modulus. The standard
// library is the judge of every case.
func TestMLKEMKeysAreReduced(t *testing.T) {
	s, _ := ByID(XWing)
	_, public, err := s.GenerateKeyPair()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 3, 600, mlkemCoefficients - 3} {
		for _, v := range []uint16{0, 3328, 3329, 3330, 4095} {
			for second := range 2 {
				k := bytes.Clone(public)
				if second == 0 {
					k[at], k[at+1] = byte(v), k[at+1]&0xf0|byte(v>>8)
				} else {
					k[at+1], k[at+2] = k[at+1]&0x0f|byte(v<<4), byte(v>>4)
				}
				_, theirs := mlkem.NewEncapsulationKey768(k[:mlkemPublicKey])
				if ours := s.CheckPublicKey(k); (ours == nil) != (theirs == nil) || (ours == nil) != (v < 3329) {
					t.Errorf("coefficient %d: we say %v, they say %v", v, ours, theirs)
				}
			}
		}
	}
	for _, p := range lowOrderPoints {
		if err := s.CheckPublicKey(append(bytes.Clone(public[:mlkemPublicKey]), p[:]...)); !errors.Is(err, ErrPublicKey) {
			t.Errorf("X25519 point of low order: got %v", err)
		}
	}
}

// A scalar without its leading zeros is the same key, as in official vectors.
func TestShortScalars(t *testing.T) {
	for _, id := range []uint16{2, 5, 7} {
		s, _ := ByID(id)
		short := []byte{1, 2, 3}
		_, full, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		padded := append(make([]byte, (len(full)-1)/2-len(short)), short...)
		a, err := s.PublicKey(short)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.PublicKey(padded); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: got %x and %x, %v", s.Name, a, b, err)
		}
		if b, err := s.SignaturePublicKey(short); err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: signature key: got %x and %x, %v", s.Name, a, b, err)
		}
		for _, zero := range [][]byte{{0}, make([]byte, len(padded))} {
			if _, err := s.PublicKey(zero); !errors.Is(err, ErrPrivateKey) {
				t.Errorf("%s: zero: got %v", s.Name, err)
			}
		}
	}
}
