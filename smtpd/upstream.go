package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// link is one connection to a submission server, logged in.
type link struct {
	client   *smtp.Client
	conn     *meteredConn
	host     string
	username string
	size     int64 // the provider's SIZE; 0 if unknown or unlimited
	utf8     bool
	eightBit bool
	dsn      bool
	used     bool // a transaction was begun on it
	begun    bool // a transaction is open
	opening  opening
	rcpts    []string
}

// dial connects and logs in. Its errors are *linkError or *Refusal.
func dial(ctx context.Context, up Upstream, t Timeouts) (*link, error) {
	host, _, err := net.SplitHostPort(up.Addr)
	if err != nil {
		return nil, fmt.Errorf("provider address %q: %w", up.Addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, t.Dial)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", up.Addr)
	if err != nil {
		return nil, &linkError{host: host, stage: "connect", err: err}
	}
	// The library has no contexts: closing the connection ends what it waits for.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	l, err := greet(ctx, conn, host, up, t)
	if err != nil {
		if broken := (*linkError)(nil); ctx.Err() != nil && errors.As(err, &broken) {
			broken.err = errors.Join(ctx.Err(), broken.err) // it was we who closed the connection
		}
		return nil, errors.Join(err, ignoreClosed(conn.Close()))
	}
	return l, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// greet protects the connection and logs in.
func greet(ctx context.Context, raw net.Conn, host string, up Upstream, t Timeouts) (*link, error) {
	conn, err := protect(ctx, raw, host, up, t)
	if err != nil {
		return nil, &linkError{host: host, stage: "protect the connection", err: err}
	}
	l := &link{host: host, username: up.Username, conn: &meteredConn{Conn: conn, patience: t.Command}}
	l.client = smtp.NewClient(l.conn)
	l.client.CommandTimeout = t.Command
	l.client.SubmissionTimeout = t.Submission
	if err := l.client.Hello(hello(up)); err != nil {
		return nil, l.broken("greet", err)
	}
	if size, ok := l.client.MaxMessageSize(); ok {
		l.size = int64(size)
	}
	l.utf8, _ = l.client.Extension("SMTPUTF8")
	l.eightBit, _ = l.client.Extension("8BITMIME")
	l.dsn, _ = l.client.Extension("DSN")
	return l, l.authenticate(ctx, up)
}

func hello(up Upstream) string {
	if up.Hello != "" {
		return up.Hello
	}
	return "localhost"
}

// protect returns the connection on which SMTP is spoken.
func protect(ctx context.Context, conn net.Conn, host string, up Upstream, t Timeouts) (net.Conn, error) {
	switch up.Mode {
	case TLSImplicit:
		return handshake(ctx, conn, host, up.TLSConfig)
	case TLSStartTLS:
		if err := conn.SetDeadline(time.Now().Add(t.Command)); err != nil {
			return nil, err
		}
		if err := startTLS(conn, hello(up)); err != nil {
			return nil, fmt.Errorf("starttls: %w", err)
		}
		secure, err := handshake(ctx, conn, host, up.TLSConfig)
		if err != nil {
			return nil, err
		}
		if err := secure.SetDeadline(time.Time{}); err != nil {
			return nil, err
		}
		// There is no second greeting after STARTTLS; the library wants one.
		return &prefixedConn{Conn: secure, prefix: strings.NewReader("220 ready\r\n")}, nil
	case TLSNone:
		if err := checkAddress(conn.RemoteAddr()); err != nil {
			return nil, fmt.Errorf("connection without TLS: %w", err)
		}
		return conn, nil
	}
	return nil, fmt.Errorf("unknown TLS mode %d", up.Mode)
}

func handshake(ctx context.Context, conn net.Conn, host string, config *tls.Config) (net.Conn, error) {
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure, nil
}

// Limits of the exchange before STARTTLS.
const (
	maxReplyLines  = 100
	maxStartTLSLen = 64 << 10
)

// startTLS speaks SMTP in clear up to the 220 of STARTTLS. What was learnt
// before it is dropped, and anything that arrives behind it ends the
// connection: it would be read as if it had come through TLS.
func startTLS(conn net.Conn, name string) error {
	buf := bufio.NewReader(io.LimitReader(conn, maxStartTLSLen))
	r := textproto.NewReader(buf)
	if _, err := readReply(r, 220); err != nil {
		return err
	}
	if strings.ContainsAny(name, "\r\n\x00 ") {
		return errors.New("malformed host name for EHLO")
	}
	if _, err := io.WriteString(conn, "EHLO "+name+"\r\n"); err != nil {
		return err
	}
	lines, err := readReply(r, 250)
	if err != nil {
		return err
	}
	offered := false
	for _, line := range lines[1:] {
		offered = offered || strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
	}
	if !offered {
		return errors.New("the server does not offer it")
	}
	if _, err := io.WriteString(conn, "STARTTLS\r\n"); err != nil {
		return err
	}
	if _, err := readReply(r, 220); err != nil {
		return err
	}
	if buf.Buffered() > 0 {
		return errors.New("the server sent data ahead of TLS")
	}
	return nil
}

// readReply reads one reply with an expected code and returns its lines.
func readReply(r *textproto.Reader, want int) ([]string, error) {
	var lines []string
	for len(lines) < maxReplyLines {
		line, err := r.ReadLine()
		if err != nil {
			return nil, err
		}
		if len(line) < 3 || line[:3] != fmt.Sprint(want) {
			return nil, fmt.Errorf("unexpected reply %q", printable(line, false))
		}
		rest := line[3:]
		if rest == "" || rest[0] == ' ' {
			return append(lines, strings.TrimPrefix(rest, " ")), nil
		}
		if rest[0] != '-' {
			return nil, fmt.Errorf("malformed reply %q", printable(line, false))
		}
		lines = append(lines, rest[1:])
	}
	return nil, errors.New("reply of too many lines")
}

// authenticate logs in at the provider.
func (l *link) authenticate(ctx context.Context, up Upstream) error {
	if up.Username == "" || up.Password == nil {
		return nil
	}
	password, err := up.Password(ctx)
	if err != nil {
		return &Refusal{
			Code: 451, Enhanced: [3]int{4, 7, 0}, Temporary: true, Err: errors.Join(ErrNoPassword, err),
			Text: "the password for your mail provider (" + l.host + ") is not available to the gateway; nothing was sent",
		}
	}
	var mechanism sasl.Client
	switch {
	case l.client.SupportsAuth(sasl.Plain):
		mechanism = sasl.NewPlainClient("", up.Username, password)
	case l.client.SupportsAuth(sasl.Login):
		mechanism = &loginClient{username: up.Username, password: password}
	default:
		return l.refusedLogin("it offers neither AUTH PLAIN nor AUTH LOGIN", nil)
	}
	if err := l.client.Auth(mechanism); err != nil {
		if said := fromClient(err); said != nil && said.Code/100 == 4 && said.Code != 421 {
			return l.noLoginNow(said, err)
		} else if said != nil && said.Code != 421 {
			return l.refusedLogin(fmt.Sprintf("it said %d %s", said.Code, printable(said.Message, false)), err)
		}
		return l.broken("log in", err)
	}
	return nil
}

// refusedLogin is temporary for the client: the user mends it in the gateway's
// settings, not in the mail program's.
func (l *link) refusedLogin(why string, err error) error {
	return &Refusal{
		Code: 451, Enhanced: [3]int{4, 7, 0}, Temporary: true, Err: errors.Join(ErrLogin, err),
		Text: "your mail provider (" + l.host + ") refused the gateway's login: " + why +
			". Nothing was sent. Check the provider's password in the gateway's settings",
	}
}

// noLoginNow is a refusal that has nothing to do with the password (RFC 4954
// section 6: 454).
func (l *link) noLoginNow(said *reply, err error) error {
	return &Refusal{
		Code: 451, Enhanced: [3]int{4, 7, 0}, Temporary: true, Err: errors.Join(ErrNotNow, err),
		Text: fmt.Sprintf("your mail provider (%s) takes no login for now: it said %d %s. Nothing was sent. Try again later",
			l.host, said.Code, printable(said.Message, false)),
	}
}

// broken turns an error of the library into a *reply, or into a *linkError if
// the connection is of no further use.
func (l *link) broken(stage string, err error) error {
	said := fromClient(err)
	if said != nil && said.Code != 421 {
		return said
	}
	return &linkError{host: l.host, stage: stage, err: err, closing: said}
}

// close says QUIT and closes. It waits two seconds at most.
func (l *link) close() {
	l.client.CommandTimeout = 2 * time.Second
	if l.client.Quit() != nil {
		_ = l.conn.Close() // it is of no further use whatever happens
	}
}

// meteredConn bounds what the provider may say and how long a write may take.
type meteredConn struct {
	net.Conn
	patience time.Duration
	heard    atomic.Int64
}

// Read implements net.Conn.
func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.heard.Add(int64(n)) > maxUpstreamReply {
		return 0, errors.New("the server says too much")
	}
	return n, err
}

// Write implements net.Conn.
func (c *meteredConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// prefixedConn delivers some octets before those of the connection.
type prefixedConn struct {
	net.Conn
	prefix *strings.Reader
}

// Read implements net.Conn.
func (c *prefixedConn) Read(p []byte) (int, error) {
	if c.prefix.Len() > 0 {
		return c.prefix.Read(p)
	}
	return c.Conn.Read(p)
}
