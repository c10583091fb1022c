package labeled

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"testing"

	"filippo.io/edwards25519"
)

// torsion is a point of order 8.
func torsion(t *testing.T) *edwards25519.Point {
	t.Helper()
	// Any point times the prime order is of small order; for one in eight
	// pairs it is of order 8.
	l, err := new(edwards25519.Scalar).SetCanonicalBytes([]byte{
		0xec, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
	}) // L-1
	if err != nil {
		t.Fatal(err)
	}
	for y := byte(2); ; y++ {
		p, err := new(edwards25519.Point).SetBytes(append([]byte{y}, make([]byte, 31)...))
		if err != nil {
			continue
		}
		q := new(edwards25519.Point).ScalarMult(l, p)
		q.Add(q, p) // [L]p
		twice := new(edwards25519.Point).Add(q, q)
		four := new(edwards25519.Point).Add(twice, twice)
		if four.Equal(edwards25519.NewIdentityPoint()) == 0 {
			return q
		}
	}
}

func challenge(t *testing.T, r, public, message []byte) *edwards25519.Scalar {
	t.Helper()
	h := sha512.Sum512(bytes.Join([][]byte{r, public, message}, nil))
	k, err := new(edwards25519.Scalar).SetUniformBytes(h[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What Ed25519 accepts is RFC 8032 section 5.1.7: the equation with the
// cofactor, canonical points, S below the order.
func TestEd25519Rules(t *testing.T) {
	s := judges{t: t}
	message := []byte("message")
	secret, err := new(edwards25519.Scalar).SetUniformBytes(bytes.Repeat([]byte{3}, 64))
	if err != nil {
		t.Fatal(err)
	}
	nonce, err := new(edwards25519.Scalar).SetUniformBytes(bytes.Repeat([]byte{5}, 64))
	if err != nil {
		t.Fatal(err)
	}
	base := func(x *edwards25519.Scalar) *edwards25519.Point { return new(edwards25519.Point).ScalarBaseMult(x) }
	identity := edwards25519.NewIdentityPoint()
	// made signs with the given encodings of R and A, whatever they are.
	made := func(r, public []byte) []byte {
		k := challenge(t, r, public, message)
		return append(bytes.Clone(r), new(edwards25519.Scalar).MultiplyAdd(k, secret, nonce).Bytes()...)
	}
	a, r := base(secret).Bytes(), base(nonce).Bytes()
	small := torsion(t)
	crookedA := new(edwards25519.Point).Add(base(secret), small).Bytes()
	crookedR := new(edwards25519.Point).Add(base(nonce), small).Bytes()

	good := made(r, a)
	if !ed25519.Verify(a, message, good) || !s.verify(a, message, good) || !verifyCofactored(a, good, message) {
		t.Fatal("honest signature is refused")
	}
	// Both the standard library's equation and the one with the cofactor must
	// be there: these pass only the second.
	for name, c := range map[string]struct{ public, signature []byte }{
		"small order in A": {crookedA, made(r, crookedA)},
		"small order in R": {a, made(crookedR, a)},
	} {
		if !s.verify(c.public, message, c.signature) {
			t.Errorf("%s: refused", name)
		}
		if err := s.check(c.public); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.verify(c.public, []byte("another"), c.signature) {
			t.Errorf("%s: another message accepted", name)
		}
	}
	if ed25519.Verify(a, message, made(crookedR, a)) {
		t.Error("the case with small order in R tests nothing")
	}

	// S and S+L are the same scalar; only the first is accepted.
	tooBig, carry := bytes.Clone(good), 0
	order := append([]byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
	}, append(make([]byte, 15), 0x10)...)
	for i, v := range order {
		carry += int(tooBig[32+i]) + int(v)
		tooBig[32+i], carry = byte(carry), carry>>8
	}
	if s.verify(a, message, tooBig) {
		t.Error("S of L or more is accepted")
	}

	// The identity, in its canonical encoding and in others.
	one := identity.Bytes()
	signOne := bytes.Clone(one)
	signOne[31] |= 0x80
	beyond := nearPrime(0xee) // p+1
	byIdentity := func(public []byte) []byte { return append(bytes.Clone(r), nonce.Bytes()...) }
	if !s.verify(one, message, byIdentity(one)) {
		t.Error("the canonical identity is refused")
	}
	rIdentity := func(enc []byte) []byte {
		k := challenge(t, enc, a, message)
		return append(bytes.Clone(enc), new(edwards25519.Scalar).Multiply(k, secret).Bytes()...)
	}
	if !s.verify(a, message, rIdentity(one)) {
		t.Error("R of the canonical identity is refused")
	}
	for name, enc := range map[string][]byte{"y of p or more": beyond[:], "sign of zero": signOne} {
		if s.check(enc) == nil || s.verify(enc, message, byIdentity(enc)) {
			t.Errorf("A with %s is accepted", name)
		}
		if s.verify(a, message, rIdentity(enc)) {
			t.Errorf("R with %s is accepted", name)
		}
	}
	if s.check(append([]byte{2}, make([]byte, 31)...)) == nil {
		t.Error("what is no point is accepted as a key")
	}
	for _, n := range []int{0, 31, 33} {
		if s.check(make([]byte, n)) == nil || s.verify(make([]byte, n), message, good) {
			t.Errorf("key of %d bytes is accepted", n)
		}
	}
	for _, n := range []int{0, 63, 65} {
		if s.verify(a, message, append(bytes.Clone(good), 0)[:n]) {
			t.Errorf("signature of %d bytes is accepted", n)
		}
	}
}

// judges verifies a message in one piece and in parts, which must be the same.
type judges struct {
	ed25519Scheme
	t *testing.T
}

func (j judges) verify(public, message, signature []byte) bool {
	j.t.Helper()
	whole := j.ed25519Scheme.verify(public, message, signature)
	for at := range len(message) + 1 {
		if j.verifyParts(public, signature, message[:at], nil, message[at:]) != whole {
			j.t.Errorf("cut at %d, the judgement of %x differs", at, signature)
		}
	}
	return whole
}

// Content of every size verifies in one piece and in parts, and each octet of it
// counts.
func TestVerifyParts(t *testing.T) {
	for _, id := range IDs() {
		s := suites[id]
		private, public, err := s.GenerateSignatureKey()
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 100, longContent - 1, longContent, longContent + 1} {
			content := make([]byte, size)
			parts := [][]byte{content[:size/3], content[size/3 : size/2], content[size/2:]}
			signature, err := s.Sign(private, "label", parts...)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(public, "label", content, signature); err != nil {
				t.Errorf("%s: %d bytes signed in parts: %v", s.Name, size, err)
			}
			if err := s.VerifyParts(public, "label", signature, parts...); err != nil {
				t.Errorf("%s: %d bytes in parts: %v", s.Name, size, err)
			}
			if s.VerifyParts(public, "other", signature, parts...) == nil {
				t.Errorf("%s: %d bytes under another label verify", s.Name, size)
			}
			if s.VerifyParts(public, "label", signature, append(parts, []byte{0})...) == nil {
				t.Errorf("%s: %d bytes and one more verify", s.Name, size)
			}
			if size > 0 {
				content[size-1] ^= 1
				if s.VerifyParts(public, "label", signature, parts...) == nil {
					t.Errorf("%s: %d bytes, changed, verify", s.Name, size)
				}
			}
		}
	}
}
