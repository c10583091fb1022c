package session

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/cloudmls/gateway/imapd/overlay"
)

// ErrCredentials says that user name or password of a mail client is wrong.
var ErrCredentials = errors.New("wrong user name or password")

// Backend checks mail clients' credentials. It is safe for concurrent use.
type Backend interface {
	// Login returns the account of a mail client. A wrong user name or
	// password is ErrCredentials; a *Failure is shown to the person as it is;
	// any other error becomes a general sentence.
	Login(ctx context.Context, username, password string) (Account, error)
}

// Account is what one client connection works with: the way to the provider
// and the opening and sealing of messages. Each connection calls Login and
// gets its own value or a shared one; methods must be safe for concurrent use.
// An Account that implements io.Closer is closed when its connection ends.
// The texts of errors other than *Failure go to the log: no addresses in them.
type Account interface {
	// Dial connects to the provider. The connection is already encrypted
	// unless Upstream().StartTLS is set or the provider is on loopback.
	Dial(ctx context.Context) (net.Conn, error)
	// Upstream says how to sign in at the provider.
	Upstream() Upstream
	// OpenMessage opens a sealed message. What cannot be opened is a View with
	// Stub set (or a *StubError); any other error means "could not be tried"
	// and makes the client's command fail, a *Failure with its own text.
	// Opening the same message twice gives equal Views.
	OpenMessage(ctx context.Context, m overlay.SealedMessage) (*overlay.View, error)
	// SealUpload seals a message which the client stores by APPEND. nil, nil
	// means that it is to be stored as it is. On any error nothing is stored,
	// and the client gets NO with the text of a *Failure, else a general one.
	SealUpload(ctx context.Context, u Upload) (*SealedUpload, error)
	// Index is the account's persistent index, nil for none: then what was
	// learnt about messages is forgotten when the mailbox is left.
	Index() Index
}

// Settler is what an Account may be as well: then what OpenMessage found need not
// be durable when it returns. Nothing of its Views is shown, and no content read,
// before a Settle that was called after it returned nil.
type Settler interface {
	Settle() error
}

// Upstream says how to sign in at the provider.
type Upstream struct {
	// StartTLS demands STARTTLS on the dialled connection, with TLSConfig, or
	// ServerName and the system's roots where TLSConfig is nil.
	StartTLS   bool
	ServerName string
	TLSConfig  *tls.Config
	// Username and Password are the provider's; Password is called at each
	// sign-in and its result is not kept.
	Username string
	Password func(ctx context.Context) (string, error)
}

// Upload is a message which a mail client stores by APPEND.
type Upload struct {
	Mailbox string
	// Flags as the client gave them, our keywords removed.
	Flags []string
	// InternalDate is the client's date-time without quotes; "" for none.
	InternalDate string
	Size         int64
	// Content is the message, valid until the SealedUpload is closed.
	Content io.ReaderAt
}

// SealedUpload is what is stored instead of an Upload.
type SealedUpload struct {
	// Content yields exactly Size octets, CRLF line ends.
	Content io.Reader
	Size    int64
	// Close releases it, stored or not; may be nil.
	Close func() error
	// Stored is called after the provider's OK; may be nil.
	Stored func()
}

// Failure is an error whose text may be shown to the person in the mail
// client. Text is one line without a final full stop; Code is an IMAP response
// code such as UNAVAILABLE, LIMIT, CANNOT, or empty.
type Failure struct {
	Code string
	Text string
	Err  error
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Err == nil {
		return f.Text
	}
	return f.Text + ": " + f.Err.Error()
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }
