package labeled

import (
	"bytes"
	"crypto"
	"crypto/hkdf"
	"crypto/hmac"
	"fmt"
	"hash"
	"math/rand/v2"
	"testing"
)

// MACs are those of the standard library, for every length of key and message
// around the sizes at which something else is done.
func TestMACAgreesWithTheStandardLibrary(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{1})
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for key := range 140 {
			for _, size := range []int{0, 1, 31, 32, 55, 56, 63, 64, 119, 128, maxShortMAC - 1, maxShortMAC, maxShortMAC + 1, 2000} {
				k, m := make([]byte, key), make([]byte, size)
				_, _ = rnd.Read(k)
				_, _ = rnd.Read(m)
				want := hmac.New(h.New, k)
				want.Write(m)
				if got := mac(h, k, m); !bytes.Equal(got, want.Sum(nil)) {
					t.Errorf("%v, key of %d, message of %d bytes: got %x, want %x", h, key, size, got, want.Sum(nil))
				}
			}
		}
	}
}

// What is expanded, short or long, is HKDF-Expand of the standard library.
func TestExpandAgreesWithTheStandardLibrary(t *testing.T) {
	for _, id := range IDs() {
		s := suites[id]
		secret := bytes.Repeat([]byte{7}, s.Nh)
		for _, length := range []int{0, 1, s.Nk, s.Nh - 1, s.Nh, s.Nh + 1, 3*s.Nh + 5, 255 * s.Nh} {
			for _, context := range []int{0, 4, 32, maxShortMAC/2 - 8, maxShortMAC/2 - 7, 1000} {
				c := bytes.Repeat([]byte{9}, context)
				info := []byte{byte(length >> 8), byte(length), byte(len(labelPrefix) + 7)}
				info = append(info, "MLS 1.0 a label"...)
				if context < 64 {
					info = append(info, byte(context))
				} else {
					info = append(info, 0x40|byte(context>>8), byte(context))
				}
				want, err := hkdf.Expand(func() hash.Hash { return s.hash.New() }, secret, string(append(info, c...)), length)
				if err != nil {
					t.Fatal(err)
				}
				got, err := s.ExpandWithLabel(secret, "a label", c, length)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: length %d, context of %d bytes: got %x, %v, want %x", s.Name, length, context, got, err, want)
				}
			}
		}
	}
}

func TestShortMACRefusesMore(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a message that is too long is hashed")
		}
	}()
	var m shortMAC
	m.sum(nil, append(m.begin(crypto.SHA256, nil), make([]byte, maxShortMAC+1)...))
}

// One result is all that a derivation takes from the heap.
func TestDerivationAllocatesItsResult(t *testing.T) {
	for _, id := range IDs() {
		s := suites[id]
		secret := make([]byte, s.Nh)
		n := testing.AllocsPerRun(100, func() {
			if _, err := s.DeriveTreeSecret(secret, "secret", 5, s.Nh); err != nil {
				panic(fmt.Sprint(err))
			}
		})
		if n > 1 {
			t.Errorf("%s: %v allocations", s.Name, n)
		}
	}
}
