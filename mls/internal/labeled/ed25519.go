package labeled

import (
	"crypto/ed25519"
	"crypto/rand"

	"filippo.io/edwards25519"
)

// ed25519Scheme is Ed25519. What it accepts is RFC 8032 section 5.1.7 to the
// letter: the points A and R in their canonical encoding, S below the order L,
// and the equation with the cofactor,
//
//	[8][S]B = [8]R + [8][k]A.
//
// The standard library's equation is the stricter one without the cofactor,
// which RFC 8032 allows as well; the two differ only about signatures whose
// maker put a point of small order into A or R on purpose. All members of a
// group must judge those alike, or the group forks. The equation with the
// cofactor is the one that a batch can decide with certainty: without it, the
// random factors of a batch let such signatures through by chance. So it is
// the rule here, whether signatures are verified one by one or together.
type ed25519Scheme struct{}

func (ed25519Scheme) generate() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return priv.Seed(), pub, nil
}

func (ed25519Scheme) public(private []byte) ([]byte, error) {
	if len(private) != ed25519.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed25519.NewKeyFromSeed(private).Public().(ed25519.PublicKey), nil
}

func (ed25519Scheme) check(public []byte) error {
	if !canonical25519(public) {
		return ErrPublicKey
	}
	if _, err := new(edwards25519.Point).SetBytes(public); err != nil {
		return ErrPublicKey
	}
	return nil
}

func (ed25519Scheme) sign(private, message []byte) ([]byte, error) {
	if len(private) != ed25519.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed25519.Sign(ed25519.NewKeyFromSeed(private), message), nil
}

func (ed25519Scheme) verify(public, message, signature []byte) bool {
	if len(signature) != ed25519.SignatureSize || !canonical25519(public) {
		return false
	}
	// Without the cofactor it holds for all honest signatures, and then it
	// holds with the cofactor too.
	if ed25519.Verify(public, message, signature) {
		return true
	}
	return verifyCofactored(public, signature, message)
}

// verifyParts leaves the standard library out, which wants the message in one
// piece: what it accepts is accepted with the cofactor too.
func (ed25519Scheme) verifyParts(public, signature []byte, message ...[]byte) bool {
	return verifyCofactored(public, signature, message...)
}

// verifyCofactored is RFC 8032 section 5.1.7 with canonical encodings.
func verifyCofactored(public, signature []byte, message ...[]byte) bool {
	e, ok := parseEd25519(public, signature, message...)
	if !ok {
		return false
	}
	// [S]B - [k]A - R is of small order.
	p := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(e.k, e.a.Negate(e.a), e.s)
	p.Subtract(p, e.r)
	return p.MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1
}

// canonical25519 reports whether b is the encoding that RFC 8032 section 5.1.2
// gives a point, if it is the encoding of one at all: y below p = 2^255-19, and
// no sign for x = 0, which is so for y = 1 and y = -1.
func canonical25519(b []byte) bool {
	if len(b) != 32 {
		return false
	}
	y := [32]byte(b)
	y[31] &= 0x7f
	if y[31] == 0x7f && y[0] >= 0xed { // p is 0xed and 0xff, and 0x7f at the end
		high := byte(0xff)
		for _, v := range y[1:31] {
			high &= v
		}
		if high == 0xff {
			return false
		}
	}
	if b[31]&0x80 == 0 {
		return true
	}
	return y != [32]byte{1} && y != nearPrime(0xec)
}
