package smtpd

import "time"

// Limits of a listener. The reasons stand with each.
const (
	// DefaultMaxMessageBytes is what providers commonly take (25 MiB or more)
	// after the expansion of Capacity.
	DefaultMaxMessageBytes = 50 << 20
	// MaxRecipients is the least that RFC 5321 section 4.5.3.1.8 lets a server
	// offer, and far above what people address at once.
	MaxRecipients = 100
	// MaxLineLength bounds commands and lines of content. Content that will be
	// sealed may have long lines; content relayed in clear may not (MaxPlainLine).
	MaxLineLength = 128 << 10
	// MaxPlainLine is the limit of RFC 5322 section 2.1.1, without CRLF.
	MaxPlainLine = 998
	// MaxConnections bounds the connections of a listener, and
	// MaxUnauthenticated those of them that have not logged in.
	MaxConnections     = 64
	MaxUnauthenticated = 8
	// FreeLoginFailures wrong passwords in a row for a user name are answered
	// at once, later ones after Timeouts.FailedLogin.
	FreeLoginFailures = 5
	// maxTransactions bounds what one submission may become: each recipient
	// has at most one transaction.
	maxTransactions = MaxRecipients + 1
	// maxUpstreamReply bounds what a provider may say during one transaction.
	maxUpstreamReply = 1 << 20
)

// Capacity returns the largest message that still fits into a provider's limit
// of size octets after it was sealed: base64 in lines of 76 characters makes
// 1.37 octets out of one, the format's fixed parts take the overhead.
func Capacity(size int64) int64 {
	const overhead = 64 << 10
	if size <= 2*overhead {
		return 0
	}
	return (size - overhead) / 138 * 100
}

// Timeouts of a listener and of the connection to the provider. Zero fields
// mean the default that is named with each.
type Timeouts struct {
	// Login is how long a connection may take until it has logged in: 10 s.
	Login time.Duration
	// Idle is how long a client may send nothing, in a command or inside a
	// message: 5 min (RFC 5321 section 4.5.3.2.7).
	Idle time.Duration
	// Write is how long a reply may take to leave: 1 min.
	Write time.Duration
	// FailedLogin delays the answer to repeated wrong passwords: 30 s.
	FailedLogin time.Duration
	// Dial is the limit for connection, TLS and login at the provider: 30 s.
	Dial time.Duration
	// Command is how long the provider may take for a reply: 2 min.
	Command time.Duration
	// Submission is how long it may take for the reply to the content: 10 min
	// (RFC 5321 section 4.5.3.2.6).
	Submission time.Duration
	// Linger is how long a refused client may go on sending before it is cut
	// off, so that it can read the reply: 2 s.
	Linger time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Login, 10*time.Second)
	set(&t.Idle, 5*time.Minute)
	set(&t.Write, time.Minute)
	set(&t.FailedLogin, 30*time.Second)
	set(&t.Dial, 30*time.Second)
	set(&t.Command, 2*time.Minute)
	set(&t.Submission, 10*time.Minute)
	set(&t.Linger, 2*time.Second)
	return t
}
