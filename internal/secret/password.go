package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// PasswordBits is the entropy of a generated client password. It is what makes
// a plain SHA-256 enough to store it: nobody guesses 128 random bits, so there
// is nothing for a slow hash to protect.
const PasswordBits = 128

var passwordEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// PasswordHash is the SHA-256 of a client password's octets. The zero value
// matches no password.
type PasswordHash [sha256.Size]byte

// NewPassword returns a password for one mail client, to be shown once, and
// its hash, to be stored. It has 26 characters in groups, without those that
// are mistaken for others.
func NewPassword() (Secret, PasswordHash, error) {
	b := make([]byte, PasswordBits/8)
	if _, err := rand.Read(b); err != nil {
		return Secret{}, PasswordHash{}, fmt.Errorf("make password: %w", err)
	}
	text := passwordEncoding.EncodeToString(b)
	clear(b)
	var groups []string
	for len(text) > 7 {
		groups, text = append(groups, text[:6]), text[6:]
	}
	password := New([]byte(strings.Join(append(groups, text), "-")))
	return password, HashPassword(password.Reveal()), nil
}

// HashPassword returns the hash of a password's octets, as they are typed.
func HashPassword(password []byte) PasswordHash { return sha256.Sum256(password) }

// Matches reports in constant time whether the hash is that of password.
func (h PasswordHash) Matches(password []byte) bool {
	if len(password) == 0 || h == (PasswordHash{}) {
		return false
	}
	got := HashPassword(password)
	return subtle.ConstantTimeCompare(got[:], h[:]) == 1
}

// String returns the hash in lower-case hex, the form of the configuration
// file.
func (h PasswordHash) String() string { return hex.EncodeToString(h[:]) }

// ParsePasswordHash reads the form of String.
func ParsePasswordHash(s string) (PasswordHash, error) {
	var h PasswordHash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, errors.New("a password hash has 64 hexadecimal digits")
	}
	copy(h[:], b)
	if h == (PasswordHash{}) {
		return h, errors.New("a password hash of zeros matches nothing")
	}
	return h, nil
}
