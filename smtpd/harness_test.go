package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/mailtest"
)

const (
	alice  = "alice@example.org"
	bob    = "bob@example.net"
	carol  = "carol@example.net"
	dave   = "dave@example.net"
	secret = "client-secret"
	letter = "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: x\r\n\r\n.dot\r\nbody\r\n"
)

// world is a gateway's listener in front of a provider in memory.
type world struct {
	t        *testing.T
	provider *mailtest.Provider // alice's
	other    *mailtest.Provider // bob's, carol's and dave's
	server   *Server
	addr     string
	tls      *tls.Config // for clients; nil for a plain listener
	account  *testAccount
}

type worldOptions struct {
	provider mailtest.Options // Users and World are filled in
	server   Options          // Backend is filled in
	plain    bool
}

func newWorld(t *testing.T, o worldOptions) *world {
	t.Helper()
	mw := mailtest.NewWorld()
	o.provider.World = mw
	o.provider.Users = []mailtest.User{{Address: alice, Password: "provider-secret"}}
	w := &world{t: t, provider: mailtest.NewT(t, o.provider)}
	w.other = mailtest.NewT(t, mailtest.Options{World: mw, Users: []mailtest.User{
		{Address: bob, Password: "b"}, {Address: carol, Password: "c"}, {Address: dave, Password: "d"},
	}})
	w.account = &testAccount{upstream: upstreamOf(w.provider, o.provider.Security)}
	o.server.Backend = testBackend{w.account}
	o.server.SpoolDir = t.TempDir()
	if !o.plain {
		authority, err := mailtest.NewAuthority()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := authority.Issue()
		if err != nil {
			t.Fatal(err)
		}
		o.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
		w.tls = &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"}
	}
	w.start(o.server)
	return w
}

func (w *world) start(o Options) {
	w.t.Helper()
	server, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.server, w.addr = server, ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			w.t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
}

func upstreamOf(p *mailtest.Provider, security mailtest.Security) Upstream {
	return Upstream{
		Addr:      p.SMTPAddr(),
		Mode:      map[mailtest.Security]TLSMode{mailtest.ImplicitTLS: TLSImplicit, mailtest.StartTLS: TLSStartTLS, mailtest.Plain: TLSNone}[security],
		TLSConfig: p.ClientTLS(),
		Username:  alice,
		Password:  func(context.Context) (string, error) { return "provider-secret", nil },
	}
}

type testBackend struct{ account *testAccount }

func (b testBackend) Login(_ context.Context, username, password string) (Account, error) {
	if username != alice || password != secret {
		return nil, ErrCredentials
	}
	return b.account, nil
}

// testAccount passes messages through unless seal says otherwise.
type testAccount struct {
	mu       sync.Mutex
	upstream Upstream
	policy   func(rcpt string) error
	seal     func(e Envelope, content []byte) ([]Transaction, error)
	got      []submitted
	sent     []Transaction
	onSent   func(Transaction)
}

type submitted struct {
	envelope Envelope
	content  []byte
}

var _ Account = (*testAccount)(nil)

func (a *testAccount) Upstream() Upstream { return a.upstream }

func (a *testAccount) CheckRecipient(_ context.Context, _, rcpt string) error {
	if a.policy != nil {
		return a.policy(rcpt)
	}
	return nil
}

func (a *testAccount) Seal(_ context.Context, e Envelope, m Message) ([]Transaction, error) {
	content, err := io.ReadAll(io.NewSectionReader(m.Content, 0, m.Size))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.got = append(a.got, submitted{e, content})
	a.mu.Unlock()
	if a.seal != nil {
		return a.seal(e, content)
	}
	return []Transaction{transaction("t1", e, e.Recipients, content, false)}, nil
}

func (a *testAccount) Sent(_ context.Context, t Transaction) {
	a.mu.Lock()
	a.sent = append(a.sent, t)
	f := a.onSent
	a.mu.Unlock()
	if f != nil {
		f(t)
	}
}

func (a *testAccount) received() []submitted {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got
}

func transaction(id string, e Envelope, rcpts []string, content []byte, sealed bool) Transaction {
	return Transaction{
		ID: id, From: e.From, Recipients: rcpts, Size: int64(len(content)), UTF8: e.UTF8, EightBit: e.EightBit && !sealed,
		Sealed: sealed,
		Open:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

// splitSeal makes one sealed transaction per recipient.
func splitSeal(e Envelope, content []byte) ([]Transaction, error) {
	var out []Transaction
	for _, rcpt := range e.Recipients {
		sealed := fmt.Appendf(nil, "From: %s\r\n\r\nsealed for %s: %x\r\n", e.From, rcpt, len(content))
		out = append(out, transaction("t-"+rcpt, e, []string{rcpt}, sealed, true))
	}
	return out, nil
}

// dial opens a connection to the listener.
func (w *world) dial() net.Conn {
	w.t.Helper()
	var (
		conn net.Conn
		err  error
	)
	if w.tls != nil {
		conn, err = tls.Dial("tcp", w.addr, w.tls)
	} else {
		conn, err = net.Dial("tcp", w.addr)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// client logs in as alice's mail program.
func (w *world) client() *smtp.Client {
	w.t.Helper()
	c := smtp.NewClient(w.dial())
	if err := c.Auth(sasl.NewPlainClient("", alice, secret)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// send submits a message and returns the final reply.
func send(c *smtp.Client, from string, rcpts []string, content string, o *smtp.MailOptions) (string, error) {
	if err := c.Mail(from, o); err != nil {
		return "", fmt.Errorf("mail: %w", err)
	}
	for _, rcpt := range rcpts {
		if err := c.Rcpt(rcpt, nil); err != nil {
			return "", fmt.Errorf("rcpt: %w", err)
		}
	}
	data, err := c.Data()
	if err != nil {
		return "", fmt.Errorf("data: %w", err)
	}
	if _, err := io.WriteString(data, content); err != nil {
		return "", fmt.Errorf("content: %w", err)
	}
	response, err := data.CloseWithResponse()
	if err != nil {
		return "", fmt.Errorf("end: %w", err)
	}
	return response.StatusText, nil
}

// raw is a connection on which a test writes octets by itself.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// rawLogin returns a connection after greeting, EHLO and AUTH.
func (w *world) rawLogin() *raw {
	r := w.raw()
	r.want("220")
	r.say("EHLO client.example\r\n")
	r.want("250")
	r.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00"+secret)) + "\r\n")
	r.want("235")
	return r
}

func (w *world) raw() *raw {
	conn := w.dial()
	return &raw{t: w.t, conn: conn, r: bufio.NewReader(conn)}
}

func (r *raw) say(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r.conn, s); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

// reply reads one reply, all lines.
func (r *raw) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := r.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if len(line) < 4 || line[3] != '-' {
			return all.String(), nil
		}
	}
}

func (r *raw) want(code string) string {
	r.t.Helper()
	got, err := r.reply()
	if err != nil || !strings.HasPrefix(got, code) {
		r.t.Fatalf("reply %q (%v), want %s", got, err, code)
	}
	return got
}

// wantClosed reads until the server closes.
func (r *raw) wantClosed() {
	r.t.Helper()
	rest, err := io.ReadAll(r.r)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		r.t.Fatalf("the connection stays open after %q", rest)
	}
}

// inbox returns what a recipient's mailbox holds.
func (w *world) inbox(address string) []mailtest.Stored {
	w.t.Helper()
	l, err := w.other.Messages(address, "INBOX")
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}
