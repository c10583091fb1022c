package imapd

import (
	"net"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/session"
)

// The interfaces and values between imapd and its backend, see package session
// and package overlay for their contracts.
type (
	// Backend checks mail clients' credentials.
	Backend = session.Backend
	// Account opens and seals messages and says how to reach the provider.
	Account = session.Account
	// Upstream says how to sign in at the provider.
	Upstream = session.Upstream
	// Upload is a message which a mail client stores by APPEND.
	Upload = session.Upload
	// SealedUpload is what is stored instead of an Upload.
	SealedUpload = session.SealedUpload
	// Failure is an error whose text may be shown to the person.
	Failure = session.Failure

	// Index keeps which messages are sealed and what was shown of them.
	Index = session.Index
	// IndexState is what an Index knows of a mailbox.
	IndexState = session.State
	// IndexChange is merged into an IndexState.
	IndexChange = session.Change
	// IndexEntry is one sealed message of an Index.
	IndexEntry = session.Entry
	// MemoryIndex is an Index in memory.
	MemoryIndex = session.MemoryIndex

	// SealedMessage is a sealed message as the provider stores it.
	SealedMessage = overlay.SealedMessage
	// BulkReader is the decoded bulk part of a sealed message.
	BulkReader = overlay.BulkReader
	// View is what the mail client sees of a sealed message.
	View = overlay.View
	// StubError is a View that explains why a message cannot be opened.
	StubError = overlay.StubError
)

// NewBuffered wraps the connection below TLS that an Account dials, so that one
// system call moves several TLS records. Where it is missing all works as well,
// only slower.
func NewBuffered(conn net.Conn) net.Conn { return session.NewBuffered(conn) }

// The keywords that a View may carry. Same-named ones of the provider or of a
// mail client never survive.
const (
	KeywordEncrypted = policy.KeywordEncrypted
	KeywordVerified  = policy.KeywordVerified
	KeywordWarning   = policy.KeywordWarning
)

var (
	// ErrCredentials says that user name or password is wrong.
	ErrCredentials = session.ErrCredentials
	// ErrCorrupt marks a read error of View.Content that no repetition cures.
	ErrCorrupt = overlay.ErrCorrupt
)
