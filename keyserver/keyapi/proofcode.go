package keyapi

import (
	"errors"
	"strings"
)

// proofAlphabet is Crockford's base32: no I, L, O and U.
const proofAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// proofCodeSize is the number of characters of a proof code, 40 bits.
const proofCodeSize = 8

// ProofCode reads the code of a challenge message as a person types it: case,
// spaces and dashes do not matter, O is read as 0, I and L as 1. Its octets
// stand in for token1 in ProofSigningInput.
func ProofCode(typed string) ([]byte, error) {
	code := make([]byte, 0, proofCodeSize)
	for _, c := range strings.ToUpper(typed) {
		switch c {
		case ' ', '-':
			continue
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if c > 0x7f || strings.IndexByte(proofAlphabet, byte(c)) < 0 || len(code) == proofCodeSize {
			return nil, errors.New("code: want 8 letters and digits, as the message shows them")
		}
		code = append(code, byte(c))
	}
	if len(code) != proofCodeSize {
		return nil, errors.New("code: want 8 letters and digits, as the message shows them")
	}
	return code, nil
}

// NewProofCode makes a code of 5 random octets, in the form that ProofCode
// gives.
func NewProofCode(random [5]byte) []byte {
	var n uint64
	for _, b := range random {
		n = n<<8 | uint64(b)
	}
	code := make([]byte, proofCodeSize)
	for i := range code {
		code[i] = proofAlphabet[n>>(5*(proofCodeSize-1-i))&31]
	}
	return code
}
