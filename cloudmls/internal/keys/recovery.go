package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// A recovery code is 160 random bits in Crockford's base 32 (no I, L, O, U),
// eight groups of four characters, and a ninth group that checks them.
const (
	recoverySize  = 20
	recoveryGroup = 4
	recoveryChars = recoverySize * 8 / 5
)

var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// ErrRecoveryCode means that a recovery code was mistyped.
var ErrRecoveryCode = errors.New("recovery code is mistyped")

// NewRecoveryCode returns a fresh code in the form that is shown to the user.
func NewRecoveryCode() (string, error) {
	b := make([]byte, recoverySize)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make recovery code: %w", err)
	}
	return formatRecovery(b), nil
}

func formatRecovery(secret []byte) string {
	chars := crockford.EncodeToString(secret) + recoveryCheck(secret)
	var b strings.Builder
	for i := 0; i < len(chars); i += recoveryGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(chars[i : i+recoveryGroup])
	}
	return b.String()
}

// recoveryCheck is 20 bits of a hash: one wrong code in a million passes.
func recoveryCheck(secret []byte) string {
	h := sha256.Sum256(append([]byte("cloudmls/1 recovery check"), secret...))
	return crockford.EncodeToString(h[:])[:recoveryGroup]
}

// ParseRecoveryCode gives the code's 160 bits. Case, spaces, line ends and hyphens do
// not count; the letters I, L and O are read as the digits they resemble.
func ParseRecoveryCode(code string) ([]byte, error) {
	if len(code) > 256 {
		return nil, ErrRecoveryCode
	}
	s := strings.Join(strings.Fields(code), "")
	s = strings.NewReplacer("-", "", "I", "1", "L", "1", "O", "0").Replace(strings.ToUpper(s))
	if len(s) != recoveryChars+recoveryGroup {
		return nil, ErrRecoveryCode
	}
	secret, err := crockford.DecodeString(s[:recoveryChars])
	if err != nil || subtle.ConstantTimeCompare([]byte(recoveryCheck(secret)), []byte(s[recoveryChars:])) != 1 {
		return nil, ErrRecoveryCode
	}
	return secret, nil
}

// FromRecoveryCode derives the key pair of a recovery code. The code has
// enough entropy of its own, so it is not stretched.
func FromRecoveryCode(code string, s Scope) (*Wrapper, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	secret, err := ParseRecoveryCode(code)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	h := sha256.Sum256(append([]byte("cloudmls/1 recovery code"), secret...))
	defer clear(h[:])
	return newWrapper(h[:], KindRecovery, [16]byte{}, s)
}
