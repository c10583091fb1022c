// Package groupid turns the people of a conversation into one stable
// conversation id.
//
// A dialog (two people) and a self conversation (one) have an id that anybody
// can compute from the platform and the canonical addresses; a group has a
// random one, because its people change and its id does not. The id names what
// people see. It is not the MLS group_id, which is random per group instance,
// and knowing it gives no access to anything.
//
//	a, err := groupid.Canonical("Alice@Example.org") // "alice@example.org"
//	b, err := groupid.Canonical("bob@bücher.example")
//	id := groupid.Dialog("email", a, b)
//
// The format is specified in docs/spec/group-id.md, with vectors beside it.
package groupid

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// Size is the length of an ID in octets.
const Size = 16

// dialogLabel separates this hash from every other use of SHA-256 in the
// project. It is the first field of the hashed encoding.
const dialogLabel = "cloudmls/1 dialog"

// ErrID reports text that is not a conversation id.
var ErrID = errors.New("conversation id is not 32 lower-case hexadecimal digits")

// ID names a conversation. It is comparable and usable as a map key. The zero
// ID names nothing: Dialog, Self and New never return it.
type ID [Size]byte

// String returns the id as 32 lower-case hexadecimal digits, its only text
// form.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is the zero ID, which names no conversation.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns the text form of the id.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText sets id to what text says, under the rules of Parse. After an
// error id is unchanged.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Parse reads the text form of an id. Upper-case digits, surrounding space and
// the zero id are refused with ErrID, so that an id has one spelling.
func Parse(s string) (ID, error) {
	var id ID
	if len(s) != 2*Size {
		return ID{}, ErrID
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return ID{}, ErrID
		}
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, ErrID
	}
	if id.IsZero() {
		return ID{}, ErrID
	}
	return id, nil
}

// Dialog returns the id of the conversation between a and b on a platform,
// whichever comes first. Both must be in canonical form (see Canonical for
// mail addresses): Dialog compares octets. With a equal to b it is Self.
func Dialog(platform, a, b string) ID {
	switch {
	case a == b:
		return derive(dialogLabel, platform, a)
	case a < b:
		return derive(dialogLabel, platform, a, b)
	default:
		return derive(dialogLabel, platform, b, a)
	}
}

// Self returns the id of the conversation of one account with itself. The id
// must be in canonical form.
func Self(platform, a string) ID { return Dialog(platform, a, a) }

// New returns a random id for a group.
func New() (ID, error) {
	var id ID
	for id.IsZero() {
		if _, err := rand.Read(id[:]); err != nil {
			return ID{}, fmt.Errorf("make a conversation id: %w", err)
		}
	}
	return id, nil
}

// derive hashes the fields, each with its length before it as eight octets,
// big endian: no two different lists of fields give the same encoding.
func derive(fields ...string) ID {
	h := sha256.New()
	var n [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return ID(h.Sum(nil)[:Size])
}
