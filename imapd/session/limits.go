package session

import "time"

// Limits bounds what clients and providers may make the relay do. A zero field
// means its default.
type Limits struct {
	// LoginTimeout is the time from connecting to presenting credentials
	// (10 s): a local port must not be held by silent connections.
	LoginTimeout time.Duration
	// DialTimeout bounds connecting and signing in at the provider (30 s).
	DialTimeout time.Duration
	// Progress is how long a read within a command, a write, or the wait for
	// the provider's next octet may take (5 min). It is never a limit on a
	// whole response: slow clients are legitimate.
	Progress time.Duration
	// FailureDelay holds back each attempt after MaxFailures wrong passwords
	// in a row for one user name (30 s).
	FailureDelay time.Duration
	// MaxFailures is the number of wrong passwords before that (5).
	MaxFailures int

	// MaxConns and MaxPreAuth bound the connections, all and those not yet
	// signed in (64, 8).
	MaxConns   int
	MaxPreAuth int

	// CommandBytes bounds a command's text, LiteralBytes the sum of its
	// literals when it is no upload (64 KiB, 256 KiB).
	CommandBytes int
	LiteralBytes int64
	// UploadBytes bounds an uploaded message (100 MiB).
	UploadBytes int64
	// KeepAlive is how often a client is told that its command is being worked
	// on, while a large message is read (15 s).
	KeepAlive time.Duration
	// SpoolMemory is the size above which an uploaded or served message is
	// spooled in an encrypted temporary file (1 MiB).
	SpoolMemory int64
	// ResponseBytes bounds the text of one response of the provider (4 MiB),
	// and the size of one internal answer with its literals.
	ResponseBytes int
	// CacheBytes bounds the opened messages that a connection keeps (16 MiB).
	CacheBytes int64
}

// Limits before authentication: nothing that is legitimate there is longer.
const (
	preAuthCommandBytes = 8 << 10
	preAuthLiteralBytes = 4 << 10
	preAuthCommands     = 32
	preAuthBadCommands  = 3
	preAuthFailures     = 3
)

// WithDefaults returns l with its zero fields filled in.
func (l Limits) WithDefaults() Limits {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.LoginTimeout, 10*time.Second)
	def(&l.DialTimeout, 30*time.Second)
	def(&l.Progress, 5*time.Minute)
	def(&l.KeepAlive, 15*time.Second)
	def(&l.FailureDelay, 30*time.Second)
	setDefault(&l.MaxFailures, 5)
	setDefault(&l.MaxConns, 64)
	setDefault(&l.MaxPreAuth, 8)
	setDefault(&l.CommandBytes, 64<<10)
	setDefault(&l.LiteralBytes, 256<<10)
	setDefault(&l.UploadBytes, 100<<20)
	setDefault(&l.SpoolMemory, 1<<20)
	setDefault(&l.ResponseBytes, 4<<20)
	setDefault(&l.CacheBytes, 16<<20)
	return l
}

func setDefault[T int | int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
