package mime

import (
	"errors"
	"io"
)

var errPending = errors.New("not implemented yet")

// Parse reads the message of size octets in r and returns its root. It reads
// every octet once, with a bounded buffer. It never fails for odd or broken
// messages, only for those beyond the limits (a *LimitError) and for errors of
// r.
func Parse(r io.ReaderAt, size int64, l Limits) (*Part, error) { return nil, errPending }

// Envelope returns the envelope of the message whose root is p.
func (p *Part) Envelope() Envelope { return Envelope{} }

// BodyStructure returns the body structure of p.
func (p *Part) BodyStructure() *BodyStructure { return &BodyStructure{} }

// HeaderFields returns those fields of a header whose name is in names (case
// does not count), or those whose name is not, octets untouched and in their
// order, followed by the blank line: BODY[HEADER.FIELDS (names)] and
// BODY[HEADER.FIELDS.NOT (names)].
func HeaderFields(header []byte, names []string, not bool) []byte { return nil }

// MarshalSkeleton returns the tree with all headers in a form that
// ParseSkeleton reads: all that ENVELOPE, BODYSTRUCTURE, SIZE and headers need.
func (p *Part) MarshalSkeleton() []byte { return nil }

// ParseSkeleton reads what MarshalSkeleton wrote.
func ParseSkeleton(b []byte, l Limits) (*Part, error) { return nil, errPending }

// MatchSkeleton reports how two trees of one message differ, nil if they do
// not.
func MatchSkeleton(a, b *Part) error { return errPending }

// NewDecoder returns a reader of the octets that r holds in a transfer
// encoding (RFC 2045 section 6): "base64" and "quoted-printable" are decoded,
// leniently; any other name passes octets through. Case does not count.
func NewDecoder(encoding string, r io.Reader) io.Reader { return r }
