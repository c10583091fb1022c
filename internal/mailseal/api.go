package mailseal

import (
	"crypto/sha256"
	"errors"
	"io"

	"github.com/cloudmls/gateway/internal/mime"
)

// Names and sizes of the format.
const (
	// ControlType is the media type of the control part, and the protocol
	// parameter of the multipart/encrypted.
	ControlType = "application/vnd.cloudmls.control"
	// InlineMax is the size in octets up to which a message travels inside
	// the control record.
	InlineMax = 48 << 10
	// ChunkSize is the number of plaintext octets under one hash.
	ChunkSize = 64 << 10
)

var errPending = errors.New("not implemented yet")

// ErrCorrupt is wrapped by every error that says the octets of a message are
// not what its sender sealed: tampered with, truncated, swapped, or sealed
// wrongly in the first place. Nothing of such a message was released.
var ErrCorrupt = errors.New("sealed message is corrupt")

// Kind says why a message was sealed.
type Kind uint8

const (
	KindMessage Kind = 1 // to the people of a conversation
	KindSelf    Kind = 2 // draft or other upload, for the own account only
	KindBlind   Kind = 3 // the copy of one blind recipient
)

// FileKey is the age file key of the bulk part. It prints as "[redacted]".
type FileKey [16]byte

// Control is the control record: what one small fetch tells of a message.
type Control struct {
	Kind         Kind
	Conversation [16]byte
	// Size is the number of octets of the inner message.
	Size int64
	// Skeleton is the part table with all headers.
	Skeleton *mime.Part
	// Inline is the whole inner message; nil if it is in the bulk part.
	Inline []byte
	// FileKey, BulkSize (octets of the age file), PaddedSize (octets of its
	// plaintext) and ChunkHashes (SHA-256 per ChunkSize of plaintext) describe
	// the bulk part.
	FileKey     FileKey
	BulkSize    int64
	PaddedSize  int64
	ChunkHashes [][32]byte
}

// MarshalBinary returns the control record's octets.
func (c *Control) MarshalBinary() ([]byte, error) { return nil, errPending }

// ParseControl reads a control record, strictly.
func ParseControl(b []byte) (*Control, error) { return nil, errPending }

// Outer is what a sealed message shows outside. Addresses are bare addr-specs.
type Outer struct {
	From                             string
	To, Cc                           []string
	Date                             string
	MessageID, InReplyTo, References string
	// SubjectToken is the 8-character token of the thread.
	SubjectToken string
}

// SealOptions say how to seal a message.
type SealOptions struct {
	Outer        Outer
	Conversation [16]byte
	Kind         Kind
	// Control turns the control record into the content of the control part
	// (an MLS PrivateMessage, or a CMS1 object).
	Control func(plaintext []byte) ([]byte, error)
}

// Sealed describes a sealed message.
type Sealed struct {
	Ref  [32]byte // SHA-256 of the control part's content
	Size int64    // octets of the outer message
}

// Prepared is a sealed message of known size that was not written yet.
type Prepared struct{ Sealed }

// Reader returns the octets of the outer message. It may be called once.
func (p *Prepared) Reader() io.Reader { return nil }

// Prepare seals the inner message as far as is needed to know the size of the
// outer one; the bulk part is encrypted while the reader is read, so inner must
// stay valid until then.
func Prepare(inner io.ReaderAt, size int64, o SealOptions) (*Prepared, error) {
	return nil, errPending
}

// Seal reads the inner message and writes the outer message to w.
func Seal(w io.Writer, inner io.ReaderAt, size int64, o SealOptions) (*Sealed, error) {
	return nil, errPending
}

// Ref returns the reference of a sealed message: SHA-256 of the content of
// its control part.
func Ref(control []byte) [32]byte { return sha256.Sum256(control) }

// Location names the two parts of a sealed message.
type Location struct {
	Control, Bulk         *mime.Part // Bulk is nil if a relay dropped an empty one
	ControlPath, BulkPath []int
}

// Locate finds our two parts.
func Locate(root *mime.Part) (Location, bool) { return Location{}, false }

// Bulk is the decoded content of the bulk part: the age file.
type Bulk interface {
	io.ReaderAt
	Size() int64
}

// Message is an opened message: the exact octets that were sealed.
type Message struct{}

// Open opens a message. bulk may be nil where the message is inline.
func Open(c *Control, bulk Bulk) (*Message, error) { return nil, errPending }

// ReadAt implements io.ReaderAt over the inner octets.
func (m *Message) ReadAt(p []byte, off int64) (int, error) { return 0, errPending }

// Size returns the number of inner octets.
func (m *Message) Size() int64 { return 0 }

// Tree returns the part tree.
func (m *Message) Tree() *mime.Part { return nil }

// Verify reads the whole content and checks it against hashes and part table.
func (m *Message) Verify() error { return errPending }

// View is a message as the mail client sees it.
type View struct{}

// NewView presents an opened message: the outer header's trace fields, the
// status field, the inner octets.
func NewView(outerHeader []byte, status string, m *Message) *View { return &View{} }

// Stub presents a message that cannot be opened.
func Stub(outerHeader []byte, status, text string) *View { return &View{} }

// Prefix returns the octets that a view puts before the inner message.
func Prefix(outerHeader []byte, status string) []byte { return nil }

// ReadAt implements io.ReaderAt.
func (v *View) ReadAt(p []byte, off int64) (int, error) { return 0, errPending }

// Size returns the number of octets.
func (v *View) Size() int64 { return 0 }

// Tree returns the part tree of the view.
func (v *View) Tree() *mime.Part { return nil }

// StripBcc returns the message without its Bcc fields.
func StripBcc(inner io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
	return nil, 0, errPending
}

// Header is what the gateway needs to know of a message's header.
type Header struct {
	From, To, Cc, Bcc []Mailbox
	Sender, ReplyTo   []Mailbox
	Date, Subject     string
	MessageID         string   // with angle brackets, "" if missing
	InReplyTo         []string // with angle brackets
	References        []string // with angle brackets
	List              bool     // has List-* fields
	AutoSubmitted     string   // "" or lower-case keyword
	Duplicates        []string // names of fields that may be there once and are there more often
}

// Mailbox is one address of a header field.
type Mailbox struct {
	Name    string // decoded display name
	Address string // addr-spec as written
}

// ParseHeader reads a message's header, which must be complete.
func ParseHeader(header []byte) (*Header, error) { return nil, errPending }

// ReadHeader reads the header octets of a message, blank line included.
func ReadHeader(inner io.ReaderAt, size int64) ([]byte, error) { return nil, errPending }
