package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"

	"github.com/cloudmls/gateway/smtpd/outbox"
)

// ErrCredentials is what [Backend.Login] returns for an unknown user name or a
// wrong password. Every other error is reported to the client as temporary.
var ErrCredentials = errors.New("wrong user name or password")

// Backend checks the credentials of mail clients. It must be safe for
// concurrent use.
type Backend interface {
	// Login returns the account that username and password open, or
	// ErrCredentials. Passwords must be compared in constant time. smtpd slows
	// down repeated failures by itself.
	Login(ctx context.Context, username, password string) (Account, error)
}

// Account is what a mail client may do after a login. It must be safe for
// concurrent use: several connections may share one.
type Account interface {
	// Upstream says how to reach the mail provider. It is asked anew for every
	// connection.
	Upstream() Upstream

	// CheckRecipient is asked at RCPT time whether from may write to rcpt at
	// all. It must be cheap and must not touch the network. A *Refusal is told
	// to the client as it is; any other error becomes 451.
	CheckRecipient(ctx context.Context, from, rcpt string) error

	// Seal turns one submitted message into the transactions that carry it to
	// the provider: one in the common case, more where blind recipients get
	// copies of their own. The one most likely to fail comes first: its reply
	// is the reply to the client. At most one transaction may be unsealed; it
	// is run first.
	//
	// An error that is (or wraps) a *Refusal is told to the client as it is;
	// any other error becomes 451 and nothing is sent. Together the recipients
	// of the transactions are those of the envelope, spelt as there, each once. msg is valid
	// until the transactions are closed, also for reading from their Open.
	Seal(ctx context.Context, e Envelope, msg Message) ([]Transaction, error)

	// Sent reports that the provider took the transaction. Its Open must not
	// be called any more.
	Sent(ctx context.Context, t Transaction)
}

// MustSealer is what an [Account] may be as well.
type MustSealer interface {
	// MustSeal says that mail to rcpt never leaves in clear, as far as that is
	// known without the network. It must be cheap.
	MustSeal(rcpt string) bool
}

// Preparer is what an [Account] may be as well.
type Preparer interface {
	// Prepare is told at MAIL that a message is coming: what Seal needs of the
	// network can begin while the mail client still sends. It must return at
	// once; ctx ends with the connection. Envelope.Prepared is what it returned.
	// The message may never come.
	Prepare(ctx context.Context) any
}

// TLSMode says how the connection to the provider is protected.
type TLSMode uint8

const (
	// TLSImplicit speaks TLS from the first octet (RFC 8314). The default.
	TLSImplicit TLSMode = iota
	// TLSStartTLS insists on STARTTLS: without it nothing is sent.
	TLSStartTLS
	// TLSNone is allowed only if the provider's address is a loopback one.
	TLSNone
)

// Upstream says how to reach the submission server of a mail provider.
type Upstream struct {
	// Addr is host:port.
	Addr string
	// Mode is how the connection is protected.
	Mode TLSMode
	// TLSConfig may be nil. ServerName is taken from Addr where it is empty.
	TLSConfig *tls.Config
	// Username is the login at the provider; empty means no authentication.
	Username string
	// Password is called once per connection; nil means no authentication.
	Password func(ctx context.Context) (string, error)
	// Hello is the name said in EHLO; empty means "localhost".
	Hello string
	// Generation names these settings: an idle connection that was made under
	// another one is renewed before the next message.
	Generation uint64
	// Report, if set, is told how each attempt to connect and log in ended,
	// nil for well, and why a connection broke. It must return at once.
	Report func(err error)
}

// Envelope is the SMTP envelope of a submission (RFC 5321 section 2.3.1).
// Addresses are in the form of the wire: a local part that needs quotes has
// them.
type Envelope struct {
	// Username is what the mail client logged in with.
	Username string
	// From is the reverse path; empty for the null path.
	From string
	// Recipients are in the order of the RCPT commands and hold no repetitions.
	Recipients []string
	// UTF8 says that the client asked for SMTPUTF8 (RFC 6531).
	UTF8 bool
	// EightBit says that the content holds octets above 127.
	EightBit bool
	// LongestLine is the length in octets of the content's longest line,
	// without its CRLF.
	LongestLine int
	// Prepared is what the account's Preparer returned, nil if it is none.
	Prepared any

	notify   outbox.Notify
	declared int64 // SIZE at MAIL; 0 if there was none
}

// Message is the content of a submission: exactly the octets of DATA or BDAT,
// after dot unstuffing. Lines end in CRLF; there is no bare CR or LF and no
// NUL.
type Message struct {
	Content io.ReaderAt
	Size    int64
}

// Transaction is one SMTP transaction with the provider.
type Transaction struct {
	// ID is unique among the transactions of the gateway; it names the
	// transaction in logs and in the outbox.
	ID string
	// From and Recipients are the envelope, in the form of the wire.
	From       string
	Recipients []string
	// Open returns the content from its first octet. It is called once per
	// attempt. The octets must be the same each time and obey the same rules
	// as Message.
	Open func() (io.ReadCloser, error)
	// Size is the number of octets of the content.
	Size int64
	// UTF8 asks the provider for SMTPUTF8, EightBit for 8BITMIME.
	UTF8, EightBit bool
	// Sealed says that the content is ciphertext. Only such content may enter
	// the outbox.
	Sealed bool
	// Note is kept with the transaction in the outbox and handed back in Sent
	// and Bounce; it must hold no secrets.
	Note string
	// Resent is set by smtpd: an earlier attempt ended without the provider's
	// reply, so the provider may have taken the message before.
	Resent bool
	// Close frees the content; nil does nothing. smtpd calls it once.
	Close func() error

	notify outbox.Notify
}

// Refusal is an error that the client reads as it is.
type Refusal struct {
	// Code is the SMTP code; 0 means 451 or 554, by Temporary.
	Code int
	// Enhanced is the enhanced status code (RFC 3463) such as {5, 7, 1}; zero
	// means X.0.0.
	Enhanced [3]int
	// Text is for people: what is wrong and what to do. Several lines are
	// separated by LF.
	Text string
	// Temporary says that the same submission may work later.
	Temporary bool
	// Err is the cause for the log; the client never sees it.
	Err error
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Options configures a [Server].
type Options struct {
	// Backend checks credentials. Required.
	Backend Backend
	// Outbox keeps later transactions of a submission that needs several; nil
	// means such submissions are refused.
	Outbox *Outbox
	// TLSConfig holds the certificate of the listener, which then speaks TLS
	// from the first octet. nil means a plain listener.
	TLSConfig *tls.Config
	// Hostname is said in the greeting; empty means "localhost".
	Hostname string
	// MaxMessageBytes is the largest message a client may submit, announced as
	// SIZE; 0 means DefaultMaxMessageBytes. See Capacity.
	MaxMessageBytes int64
	// OversizePlain admits at MAIL a message that the provider would take in
	// clear only; if it must be sealed it is refused after DATA.
	OversizePlain bool
	// SpoolDir is where large messages wait, encrypted under a key in memory;
	// empty means the system's directory for temporary files.
	SpoolDir string
	// Timeouts; zero fields have documented defaults.
	Timeouts Timeouts
	// Logger may be nil.
	Logger *slog.Logger
}
