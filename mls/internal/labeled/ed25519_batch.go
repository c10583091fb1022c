package labeled

import (
	"crypto/rand"
	"crypto/sha512"

	"filippo.io/edwards25519"
)

// minEd25519Batch is how many signatures are verified faster together than one
// by one.
const minEd25519Batch = 2

// verifyAll decides the sum of all equations, each times a random factor z of
// 128 bits,
//
//	[8]([sum of z S]B - sum of [z]R - sum of [z k]A) = 0.
//
// What verify accepts has each summand in the group of small order, which the
// cofactor takes away: the sum holds with certainty. If one summand is not, the
// sum holds for at most one value of its z, so with probability 2^-128. Encodings
// are checked as verify does, each for itself.
func (s ed25519Scheme) verifyAll(list []signed) bool {
	if len(list) < minEd25519Batch {
		for _, x := range list {
			if !s.verify(x.public, x.message, x.signature) {
				return false
			}
		}
		return true
	}
	factors := make([]byte, 16*len(list))
	if _, err := rand.Read(factors); err != nil {
		return false // never happens; the caller then verifies one by one
	}
	scalars := make([]*edwards25519.Scalar, 0, 2*len(list)+1)
	points := make([]*edwards25519.Point, 0, 2*len(list)+1)
	sum := edwards25519.NewScalar()
	for i, x := range list {
		e, ok := parseEd25519(x.public, x.signature, x.message)
		if !ok {
			return false
		}
		var wide [32]byte
		copy(wide[:16], factors[16*i:])
		z, err := edwards25519.NewScalar().SetCanonicalBytes(wide[:])
		if err != nil {
			return false // cannot be: z is below 2^128
		}
		sum.MultiplyAdd(z, e.s, sum)
		scalars = append(scalars, z, e.k.Multiply(e.k, z))
		points = append(points, e.r, e.a)
	}
	scalars = append(scalars, sum.Negate(sum))
	points = append(points, edwards25519.NewGeneratorPoint())
	p := new(edwards25519.Point).VarTimeMultiScalarMult(scalars, points)
	return p.MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1
}

// ed25519Equation is what the equation of RFC 8032 section 5.1.7 is about.
type ed25519Equation struct {
	s, k *edwards25519.Scalar
	r, a *edwards25519.Point
}

// parseEd25519 decodes a public key and a signature; ok is false if one of them
// is none, in the canonical encoding.
func parseEd25519(public, signature []byte, message ...[]byte) (e ed25519Equation, ok bool) {
	if len(signature) != 64 || !canonical25519(public) || !canonical25519(signature[:32]) {
		return e, false
	}
	var err error
	if e.r, err = new(edwards25519.Point).SetBytes(signature[:32]); err != nil {
		return e, false
	}
	if e.s, err = edwards25519.NewScalar().SetCanonicalBytes(signature[32:]); err != nil {
		return e, false
	}
	if e.a, err = new(edwards25519.Point).SetBytes(public); err != nil {
		return e, false
	}
	h := sha512.New()
	h.Write(signature[:32])
	h.Write(public)
	for _, part := range message {
		h.Write(part)
	}
	e.k, err = edwards25519.NewScalar().SetUniformBytes(h.Sum(nil))
	return e, err == nil
}
