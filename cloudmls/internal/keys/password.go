package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Floors and ceilings of the password derivation. The server names the
// parameters, so it could ask for a derivation that is quickly searched, or for
// one that exhausts this machine; neither is followed.
const (
	MinTime      = floorTime
	MaxTime      = 10
	MinMemoryKiB = floorMemoryKiB
	MaxMemoryKiB = 1 << 20
	MinThreads   = 1
	MaxThreads   = 64
	SaltSize     = 16
	Algorithm    = "argon2id"
	// AuthVersion 1 is the split derivation: AUTH and the wrap key are
	// independent outputs of one stretched password.
	AuthVersion = 1
	// UserIDSize is the size of a user id.
	UserIDSize = 16
	// MaxPassword bounds a password, in octets of UTF-8 before normalisation.
	MaxPassword = 1024
)

// ErrPassword is matched by every complaint about a password's form.
var ErrPassword = errors.New("password cannot be used")

// BoundsError says which parameter of the password derivation the key server
// named outside the accepted range. Nothing was derived.
type BoundsError struct{ Parameter string }

func (e *BoundsError) Error() string {
	return "password derivation named by the key server is refused: " + e.Parameter + " out of bounds"
}

// NewKDF returns the default parameters with a fresh salt.
func NewKDF() (keyapi.KDF, error) {
	k := keyapi.KDF{Algorithm: Algorithm, Salt: make([]byte, SaltSize), Time: floorTime, MemoryKiB: floorMemoryKiB, Threads: 4}
	if _, err := rand.Read(k.Salt); err != nil {
		return keyapi.KDF{}, fmt.Errorf("make salt: %w", err)
	}
	return k, nil
}

// CheckKDF returns a *BoundsError unless k is within the bounds above.
func CheckKDF(k keyapi.KDF) error {
	switch {
	case k.Algorithm != Algorithm:
		return &BoundsError{"algorithm"}
	case len(k.Salt) != SaltSize:
		return &BoundsError{"salt size"}
	case k.Time < MinTime || k.Time > MaxTime:
		return &BoundsError{"number of passes"}
	case k.MemoryKiB < MinMemoryKiB || k.MemoryKiB > MaxMemoryKiB:
		return &BoundsError{"memory"}
	case k.Threads < MinThreads || k.Threads > MaxThreads:
		return &BoundsError{"number of threads"}
	}
	return nil
}

// Normalize brings a password into the form that is stretched: precis profile
// OpaqueString (RFC 8265 section 4.2). Case and inner spaces count; how an
// accented letter was typed does not.
func Normalize(password string) (string, error) {
	if password == "" {
		return "", fmt.Errorf("%w: it is empty", ErrPassword)
	}
	if len(password) > MaxPassword {
		return "", fmt.Errorf("%w: longer than %d octets", ErrPassword, MaxPassword)
	}
	if !utf8.ValidString(password) { // precis would replace what is not
		return "", fmt.Errorf("%w: it is not UTF-8", ErrPassword)
	}
	s, err := precis.OpaqueString.String(password)
	if err != nil {
		// The cause of precis quotes nothing, but it is not promised to.
		return "", fmt.Errorf("%w: it has characters that are not allowed (RFC 8265)", ErrPassword)
	}
	return s, nil
}

// FromPassword stretches a password and gives what AUTH and the password wrap
// need. It takes about 150 ms and MemoryKiB of memory.
func FromPassword(password string, k keyapi.KDF, s Scope) (auth []byte, w *Wrapper, err error) {
	if err := CheckKDF(k); err != nil {
		return nil, nil, err
	}
	if err := s.check(); err != nil {
		return nil, nil, err
	}
	p, err := Normalize(password)
	if err != nil {
		return nil, nil, err
	}
	raw := []byte(p)
	master := argon2.IDKey(raw, k.Salt, k.Time, k.MemoryKiB, k.Threads, keySize)
	clear(raw)
	defer clear(master)
	if auth, err = s.expand(master, "cloudmls/1 auth", keySize); err != nil {
		return nil, nil, fmt.Errorf("derive AUTH: %w", err)
	}
	w, err = newWrapper(master, KindPassword, [16]byte{}, s)
	if err != nil {
		return nil, nil, err
	}
	return auth, w, nil
}

// Scope is where keys are valid.
type Scope struct {
	Origin string // configured name of the key server
	User   []byte // user id, UserIDSize octets
}

const (
	keySize   = 32
	maxOrigin = 1024
)

func (s Scope) check() error {
	if s.Origin == "" || len(s.Origin) > maxOrigin {
		return errors.New("derive keys: origin of the key server is empty or too long")
	}
	if len(s.User) != UserIDSize {
		return fmt.Errorf("derive keys: user id of %d octets, want %d", len(s.User), UserIDSize)
	}
	return nil
}

// expand derives n octets for one purpose at one server for one user.
func (s Scope) expand(secret []byte, label string, n int) ([]byte, error) {
	return hkdf.Expand(sha256.New, secret, string(s.bind([]byte(label))), n)
}

func (s Scope) bind(b []byte) []byte {
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.Origin)))
	b = append(b, s.Origin...)
	return append(b, s.User...)
}
