package cloudmls

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode"
)

// codeDigits is the length of a comparison code: 199 bits. Whoever sits in the
// middle has to find two keys of their own that make one code, about 2^99
// tries, so the hash is not iterated.
const codeDigits = 60

const (
	codeGroup  = 5
	codeLabel  = "cloudmls/1 safety"
	scanPrefix = "CMV1" // what a QR code begins with
	maxTyped   = 1024   // octets of a typed code, in whatever grouping
)

// ErrCodeMismatch: a comparison code is not that of the keys this device knows.
// Either it was mistyped or belongs to other people, or somebody sits in the
// middle: nothing was marked as verified.
var ErrCodeMismatch = errors.New("comparison code differs: check it once more, and send nothing confidential if it stays different")

// ErrCodeForm is matched by complaints about what cannot be a comparison code.
var ErrCodeForm = errors.New("not a comparison code")

// Code is what two people compare to be sure of each other's identity keys. It
// is the same on both sides, and different as soon as one of them sees another
// key than the other one has. It is no secret. The zero value compares equal to
// nothing.
type Code struct {
	digest [sha256.Size]byte
	key    [ed25519.PublicKeySize]byte
}

// newCode computes the code of two accounts and their identity keys at the key
// server named by origin, in either order; docs/spec/sdk.md.
func newCode(origin string, a Account, aKey []byte, b Account, bKey []byte) (Code, error) {
	if len(aKey) != ed25519.PublicKeySize || len(bKey) != ed25519.PublicKeySize {
		return Code{}, errors.New("comparison code: identity key of a wrong length")
	}
	code := Code{key: [ed25519.PublicKeySize]byte(bKey)}
	if compareAccounts(a, b) > 0 {
		a, aKey, b, bKey = b, bKey, a, aKey
	}
	in := []byte(codeLabel)
	for _, f := range []string{origin, a.Platform, a.ID, string(aKey), b.Platform, b.ID, string(bKey)} {
		in = binary.BigEndian.AppendUint16(in, uint16(len(f)))
		in = append(in, f...)
	}
	code.digest = sha256.Sum256(in)
	return code, nil
}

// Digits gives the 60 digits without spaces.
func (c Code) Digits() string {
	n := new(big.Int).SetBytes(c.digest[:])
	n.Mod(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(codeDigits), nil))
	return fmt.Sprintf("%0*s", codeDigits, n.String())
}

// String gives the digits in twelve groups of five.
func (c Code) String() string {
	d := c.Digits()
	groups := make([]string, 0, codeDigits/codeGroup)
	for ; len(d) > 0; d = d[codeGroup:] {
		groups = append(groups, d[:codeGroup])
	}
	return strings.Join(groups, " ")
}

// Bytes gives the form for a QR code, 36 octets; VerifyScanned reads it.
func (c Code) Bytes() []byte { return append([]byte(scanPrefix), c.digest[:]...) }

// Key is the other account's identity key that the code is about; VerifyKey
// takes it where people have compared the code by themselves.
func (c Code) Key() []byte { return append([]byte(nil), c.key[:]...) }

func (c Code) isDigits(digits string) bool {
	return c != Code{} && subtle.ConstantTimeCompare([]byte(c.Digits()), []byte(digits)) == 1
}

// parseDigits reads a typed code. Spaces, line ends and hyphens do not count.
func parseDigits(typed string) (string, error) {
	if len(typed) > maxTyped {
		return "", fmt.Errorf("%w: it is too long", ErrCodeForm)
	}
	var b strings.Builder
	for _, r := range typed {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case r == '-' || unicode.IsSpace(r):
		default:
			return "", fmt.Errorf("%w: it has characters other than digits", ErrCodeForm)
		}
	}
	if b.Len() != codeDigits {
		return "", fmt.Errorf("%w: it has %d digits, all %d are needed", ErrCodeForm, b.Len(), codeDigits)
	}
	return b.String(), nil
}

// parseScanned reads what a QR code holds.
func parseScanned(scanned []byte) ([sha256.Size]byte, error) {
	rest, ok := strings.CutPrefix(string(scanned), scanPrefix)
	if !ok || len(rest) != sha256.Size {
		return [sha256.Size]byte{}, fmt.Errorf("%w: the scanned QR code shows something else", ErrCodeForm)
	}
	return [sha256.Size]byte([]byte(rest)), nil
}
