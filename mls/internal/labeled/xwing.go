package labeled

import (
	"crypto/rand"
	"crypto/sha3"

	"github.com/cloudflare/circl/kem/xwing"
)

// xwingKEM is MLKEM768-X25519 of draft-ietf-hpke-pq, also called X-Wing. A
// private key is its seed of 32 bytes.
type xwingKEM struct{}

const kemXWing = 0x647a

// Sizes of an ML-KEM-768 public key (FIPS 203 section 7.2), which comes before
// the X25519 key: its coefficients, of 12 bits, and a seed.
const (
	mlkemCoefficients = 3 * 384
	mlkemPublicKey    = mlkemCoefficients + 32
	mlkemModulus      = 3329
)

func (xwingKEM) id() uint16 { return kemXWing }

func (k xwingKEM) generate() (private, public []byte, err error) {
	private = make([]byte, xwing.SeedSize)
	rand.Read(private) // never fails
	public, err = k.public(private)
	return private, public, err
}

// derive is DeriveKeyPair of draft-ietf-hpke-pq: a key from a secret of any
// size, by SHAKE256 with a label. (Others take the secret as the seed, or hash
// it without a label.)
func (k xwingKEM) derive(ikm []byte) (private, public []byte, err error) {
	const label = "DeriveKeyPair"
	h := sha3.NewSHAKE256()
	h.Write(ikm)
	h.Write([]byte(hpkeVersion + "KEM\x64\x7a"))
	h.Write([]byte{0, byte(len(label))})
	h.Write([]byte(label))
	h.Write([]byte{0, xwing.SeedSize})
	private = make([]byte, xwing.SeedSize)
	h.Read(private)
	public, err = k.public(private)
	return private, public, err
}

func (xwingKEM) public(private []byte) ([]byte, error) {
	if len(private) != xwing.SeedSize {
		return nil, ErrPrivateKey
	}
	_, public := xwing.DeriveKeyPairPacked(private)
	return public, nil
}

// check is the modulus check of FIPS 203 section 7.2. It also refuses X25519
// points of low order: X-Wing can do without, but some implementations cannot
// encapsulate to such a key, and one in a tree would stop them.
func (xwingKEM) check(public []byte) error {
	if len(public) != xwing.PublicKeySize || lowOrder25519([32]byte(public[mlkemPublicKey:])) {
		return ErrPublicKey
	}
	for i := 0; i < mlkemCoefficients; i += 3 {
		a := uint16(public[i]) | uint16(public[i+1]&0x0f)<<8
		b := uint16(public[i+1]>>4) | uint16(public[i+2])<<4
		if a >= mlkemModulus || b >= mlkemModulus {
			return ErrPublicKey
		}
	}
	return nil
}

func (xwingKEM) encap(public []byte) (enc, shared []byte, err error) {
	if len(public) != xwing.PublicKeySize {
		return nil, nil, ErrPublicKey
	}
	shared, enc, err = xwing.Encapsulate(public, nil)
	if err != nil {
		return nil, nil, ErrPublicKey
	}
	return enc, shared, nil
}

// decap does not need the public key. As the draft has it, an X25519 point of
// low order is not refused here: ML-KEM keeps the secret.
func (xwingKEM) decap(private, _, enc []byte) ([]byte, error) {
	if len(private) != xwing.SeedSize {
		return nil, ErrPrivateKey
	}
	if len(enc) != xwing.CiphertextSize {
		return nil, ErrDecrypt
	}
	return xwing.Decapsulate(enc, private), nil
}
