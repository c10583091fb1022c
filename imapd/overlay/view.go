// Package overlay presents sealed messages as the messages inside them: it
// finds the sealed parts in a provider's BODYSTRUCTURE, reads the bulk part in
// windows, and synthesises every FETCH item of RFC 9051 section 6.4.5 from an
// opened message. It knows neither connections nor keys.
package overlay

import (
	"errors"
	"io"

	"github.com/cloudmls/gateway/internal/mime"
)

// MaxStubKey bounds View.StubKey in bytes: it is stored once per stub.
const MaxStubKey = 256

// ErrCorrupt marks a read error of a View's content that no repetition cures:
// the stored bytes are not those that were sealed. Backends wrap it. The message
// is shown as a stub from then on, see SealedMessage.Damaged.
var ErrCorrupt = errors.New("sealed content is corrupt")

// SealedMessage is one sealed message as the provider stores it.
type SealedMessage struct {
	// Mailbox is the name as the mail client wrote it (modified UTF-7), INBOX
	// in capitals.
	Mailbox     string
	UIDValidity uint32
	UID         uint32

	// Header is the outer header with its final blank line.
	Header []byte
	// Control is the decoded content of the control part.
	Control []byte
	// Bulk is the decoded bulk part; nil when that part is empty.
	Bulk BulkReader

	// StubKey is not empty when this message was shown as a stub before: it is
	// the StubKey of that View. What a UID showed once never changes, so the
	// backend must return that very stub again, without trying to open.
	StubKey string
	// Damaged tells that what the provider stores is known not to be what was
	// sealed: a read of View.Content gave ErrCorrupt, or a part is missing.
	// Without trying to open, the backend returns a stub that says so and that
	// is not Temporary. Control and Bulk may be empty. StubKey goes before.
	Damaged bool
}

// BulkReader is the decoded bulk part of a sealed message, fetched from the
// provider in windows on demand.
//
// It may be kept inside View.Content and is used from one goroutine at a time:
// reads happen inside OpenMessage and while imapd serves the message; at any
// other time ReadAt fails. Size may fetch as well; it returns -1 when the
// provider cannot be asked.
type BulkReader interface {
	io.ReaderAt
	Size() int64
}

// View is what the mail client sees of a sealed message. Its fields are not
// changed once it is handed over.
type View struct {
	// Content is the whole presented message, CRLF line ends, Size octets.
	Content io.ReaderAt
	Size    int64
	// Tree is the offset tree of Content.
	Tree *mime.Part
	// Keywords are the IMAP keywords to show: names of policy.Keywords.
	Keywords []string
	// Ref names the sealed message independently of its mailbox; a log and
	// index value, may be empty.
	Ref string

	// Stub tells that Content explains why the message cannot be read.
	Stub bool
	// Temporary tells that a later attempt may succeed. imapd then shows the
	// stub for as long as this UID lives, and gives the message a new UID at a
	// SELECT after the moment when it opens.
	Temporary bool
	// StubKey is an opaque value from which the backend makes the same stub
	// again, at most MaxStubKey octets. Required with Stub.
	StubKey string
}

// StubError is the other way to return a stub from OpenMessage.
type StubError struct {
	View *View
	Err  error
}

// Error implements error.
func (e *StubError) Error() string {
	if e.Err == nil {
		return "message cannot be opened"
	}
	return "message cannot be opened: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *StubError) Unwrap() error { return e.Err }
