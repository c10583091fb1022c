// Package secret holds what must not be seen: values that print as
// "[redacted]", the passwords of mail clients, and the key of the vault, which
// lies in a file, the system's keyring, under a passphrase, or is handed over
// by systemd ([OpenVaultKey]).
//
// Go cannot promise that memory is wiped (values are copied by the collector,
// strings cannot be cleared); Wipe is best effort, and the point of the type is
// that a secret does not end up in a log, an error or a document by accident.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Secret prints as.
const Redacted = "[redacted]"

// errMarshal refuses to write a secret into a document.
var errMarshal = errors.New("a secret cannot be marshaled")

// Secret is a value that prints as "[redacted]" in every format, also as a
// field of a struct that is printed. The zero value is an empty secret. Copies
// share the value.
type Secret struct {
	// A function, because fmt prints unexported fields of other structs
	// without asking their methods and, for some verbs, follows pointers.
	// It also keeps secrets from being compared with ==.
	value func() *[]byte
}

// New returns a secret with a copy of b.
func New(b []byte) Secret {
	own := append([]byte(nil), b...)
	return Secret{func() *[]byte { return &own }}
}

// Reveal returns the value. The caller must not modify or keep it.
func (s Secret) Reveal() []byte {
	if s.value == nil {
		return nil
	}
	return *s.value()
}

// RevealString returns the value as a string.
func (s Secret) RevealString() string { return string(s.Reveal()) }

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return len(s.Reveal()) == 0 }

// Wipe overwrites the value, for all copies of the secret.
func (s Secret) Wipe() {
	if s.value != nil {
		b := s.value()
		clear(*b)
		*b = nil
	}
}

// Equal compares in a time that depends on neither value.
func (s Secret) Equal(other Secret) bool { return EqualBytes(s.Reveal(), other.Reveal()) }

// EqualBytes compares in a time that depends on neither value, also where the
// lengths differ.
func EqualBytes(a, b []byte) bool {
	x, y := sha256.Sum256(a), sha256.Sum256(b)
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

var (
	_ fmt.Stringer   = Secret{}
	_ fmt.GoStringer = Secret{}
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
)

// String implements fmt.Stringer.
func (Secret) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return Redacted }

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, Redacted) // a fmt.State has nowhere to report to
}

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalJSON implements json.Marshaler by refusing.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// MarshalText implements encoding.TextMarshaler by refusing.
func (Secret) MarshalText() ([]byte, error) { return nil, errMarshal }

// MarshalBinary implements encoding.BinaryMarshaler by refusing.
func (Secret) MarshalBinary() ([]byte, error) { return nil, errMarshal }

// GobEncode implements gob.GobEncoder by refusing.
func (Secret) GobEncode() ([]byte, error) { return nil, errMarshal }
