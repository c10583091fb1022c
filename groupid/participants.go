package groupid

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// MaxParticipants bounds one conversation. Submissions are limited to far
// fewer recipients; this is the limit of what a parser may build.
const MaxParticipants = 4096

var (
	// ErrParticipant reports an id that no account can have.
	ErrParticipant = errors.New("participant id is empty, too long or not printable")
	// ErrTooMany reports more than MaxParticipants.
	ErrTooMany = errors.New("too many participants")
)

// Participants is a sorted set of canonical account ids of one platform. The
// zero value is the empty set. It is immutable and safe for concurrent use.
type Participants struct {
	ids []string
}

// NewParticipants returns the set of the given canonical ids; duplicates count
// once. The caller canonicalises (see Canonical for mail addresses); ids that
// no account can have are refused with ErrParticipant.
func NewParticipants(ids ...string) (Participants, error) {
	if len(ids) > MaxParticipants {
		return Participants{}, ErrTooMany
	}
	for _, id := range ids {
		if id == "" || len(id) > 4*MaxAddress || !utf8.ValidString(id) {
			return Participants{}, ErrParticipant
		}
		if err := checkCharacters(id); err != nil {
			return Participants{}, fmt.Errorf("%w: %w", ErrParticipant, err)
		}
	}
	set := slices.Clone(ids)
	slices.Sort(set)
	return Participants{ids: slices.Compact(set)}, nil
}

// IDs returns the ids in sorted order, in a slice of its own.
func (p Participants) IDs() []string { return slices.Clone(p.ids) }

// Len returns the number of ids.
func (p Participants) Len() int { return len(p.ids) }

// Contains reports whether id is in the set.
func (p Participants) Contains(id string) bool {
	_, ok := slices.BinarySearch(p.ids, id)
	return ok
}

// Equal reports whether both sets have the same ids.
func (p Participants) Equal(q Participants) bool { return slices.Equal(p.ids, q.ids) }

// Others returns the set without self, sorted.
func (p Participants) Others(self string) []string {
	return slices.DeleteFunc(p.IDs(), func(id string) bool { return id == self })
}

// Diff returns what has to be added to p and removed from it to get to q, both
// sorted.
func (p Participants) Diff(q Participants) (added, removed []string) {
	for _, id := range q.ids {
		if !p.Contains(id) {
			added = append(added, id)
		}
	}
	for _, id := range p.ids {
		if !q.Contains(id) {
			removed = append(removed, id)
		}
	}
	return added, removed
}

// Key returns a text of fixed length that is equal for equal sets and differs
// for different ones: an index key, without the ids in clear.
func (p Participants) Key() string {
	h := sha256.New()
	var n [8]byte
	for _, id := range p.ids {
		binary.BigEndian.PutUint64(n[:], uint64(len(id)))
		h.Write(n[:])
		h.Write([]byte(id))
	}
	return hex.EncodeToString(h.Sum(nil))
}
