package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mime"
)

const (
	userName   = "alice@example.org"
	clientPass = "client secret"
	mailPass   = "provider secret"
	testWait   = 10 * time.Second
)

// world is a provider, the relay before it, and a backend whose sealed format
// is trivial to open.
type world struct {
	t       testing.TB
	user    *imapmemserver.User
	backend *backend
	// addr is the relay, provider the server behind it.
	addr, provider string
	server         *imapd.Server
}

// listen returns a loopback listener that closes with the test.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// memProvider starts an in-memory provider.
func memProvider(t testing.TB, caps ...imap.Cap) (string, *imapmemserver.User) {
	t.Helper()
	mem := imapmemserver.New()
	user := imapmemserver.NewUser(userName, mailPass)
	for _, box := range []string{"INBOX", "Sent", "Drafts", "Work"} {
		if err := user.Create(box, nil); err != nil {
			t.Fatal(err)
		}
	}
	mem.AddUser(user)
	set := imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapUIDPlus: {}, imap.CapMove: {}, imap.CapESearch: {},
		imap.CapSearchRes: {}, imap.CapNamespace: {}, imap.CapBinary: {}}
	for _, c := range caps {
		set[c] = struct{}{}
	}
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return mem.NewSession(), nil, nil
		},
		Caps:         set,
		InsecureAuth: true,
		Logger:       log.New(io.Discard, "", 0),
	})
	ln := listen(t)
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	return ln.Addr().String(), user
}

// newWorld starts everything; tune may change the backend and the options
// before the relay starts.
func newWorld(t testing.TB, tune func(*backend, *imapd.Options)) *world {
	t.Helper()
	provider, user := memProvider(t)
	w := &world{t: t, user: user, provider: provider, backend: &backend{provider: provider, index: &imapd.MemoryIndex{}}}
	w.start(tune)
	return w
}

func (w *world) start(tune func(*backend, *imapd.Options)) {
	w.t.Helper()
	o := imapd.Options{Backend: w.backend}
	if tune != nil {
		tune(w.backend, &o)
	}
	var err error
	if w.server, err = imapd.New(o); err != nil {
		w.t.Fatal(err)
	}
	ln := listen(w.t)
	w.addr = ln.Addr().String()
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ln) }()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testWait)
		defer cancel()
		if err := w.server.Shutdown(ctx); err != nil {
			w.t.Errorf("shutdown: %v", err)
		}
		if err := <-done; !errors.Is(err, imapd.ErrServerClosed) {
			w.t.Errorf("serve: %v", err)
		}
	})
}

// deliver puts a message into a mailbox of the provider.
func (w *world) deliver(box string, msg []byte, flags ...imap.Flag) {
	w.t.Helper()
	_, err := w.user.Append(box, literalReader{bytes.NewReader(msg)}, &imap.AppendOptions{
		Flags: flags, Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)})
	if err != nil {
		w.t.Fatal(err)
	}
}

type literalReader struct{ *bytes.Reader }

func (l literalReader) Size() int64 { return int64(l.Len()) }

// backend is the fake Backend and Account. Sealed messages are made by seal:
// the control part is a mode letter and the inner message, or only its size
// where the bulk part holds it with each octet inverted.
type backend struct {
	provider string
	index    imapd.Index
	dial     func(ctx context.Context) (net.Conn, error)
	upstream *imapd.Upstream

	mu       sync.Mutex
	closed   map[string]bool // inner messages, by a word in them, that do not open yet
	openErr  error
	sealErr  error
	plain    bool // uploads are stored as they are
	opened   int
	uploads  []imapd.Upload
	keywords []string
	// corrupt is where the content of bulk parts turns out damaged, by UID.
	corrupt map[uint32]int64
	// never: nothing opens any more, for good.
	never bool
}

func (b *backend) Login(_ context.Context, user, pass string) (imapd.Account, error) {
	if user != userName || pass != clientPass {
		return nil, imapd.ErrCredentials
	}
	return b, nil
}

func (b *backend) Dial(ctx context.Context) (net.Conn, error) {
	if b.dial != nil {
		return b.dial(ctx)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", b.provider)
}

func (b *backend) Upstream() imapd.Upstream {
	if b.upstream != nil {
		return *b.upstream
	}
	return imapd.Upstream{Username: userName, Password: func(context.Context) (string, error) { return mailPass, nil }}
}

func (b *backend) Index() imapd.Index { return b.index }

const statusField = "CloudMLS-Status: 0123456789abcdef; verified\r\n"

func (b *backend) OpenMessage(_ context.Context, m imapd.SealedMessage) (*imapd.View, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	if b.openErr != nil {
		return nil, b.openErr
	}
	if m.StubKey != "" {
		return b.stub(m.StubKey)
	}
	if m.Damaged {
		return b.stub("damaged")
	}
	if b.never {
		return b.stub("invalid")
	}
	var content io.ReaderAt
	var size int64
	switch {
	case len(m.Control) == 0:
		return b.stub("no control part")
	case m.Control[0] == 'I':
		inner := m.Control[1:]
		for word := range b.closed {
			if bytes.Contains(inner, []byte(word)) {
				return b.stub("not yet")
			}
		}
		content, size = bytes.NewReader(inner), int64(len(inner))
	case m.Control[0] == 'B' && m.Bulk != nil:
		if _, err := fmt.Sscanf(string(m.Control[1:]), "%d", &size); err != nil {
			return nil, err
		}
		switch n := m.Bulk.Size(); {
		case n < 0:
			return nil, errors.New("bulk part cannot be read")
		case n != size:
			return b.stub("wrong size")
		}
		content = inverted{m.Bulk}
		v, err := makeView(content, size, b.keywords)
		if from, ok := b.corrupt[m.UID]; ok && err == nil {
			v.Content = damaged{v.Content, from}
		}
		return v, err
	default:
		return b.stub("unknown format")
	}
	return makeView(content, size, b.keywords)
}

func makeView(inner io.ReaderAt, size int64, keywords []string) (*imapd.View, error) {
	tree, err := mime.Parse(inner, size, mime.DefaultLimits)
	if err != nil {
		return nil, err
	}
	return &imapd.View{
		Content:  prefixed{[]byte(statusField), inner},
		Size:     size + int64(len(statusField)),
		Tree:     tree.WithPrefix([]byte(statusField)),
		Keywords: append([]string{imapd.KeywordEncrypted, imapd.KeywordVerified}, keywords...),
		Ref:      "ref",
	}, nil
}

func (b *backend) stub(key string) (*imapd.View, error) {
	text := "Subject: [sealed]\r\n\r\nThis message cannot be opened: " + key + "\r\n"
	v, err := makeView(strings.NewReader(text), int64(len(text)), nil)
	if err != nil {
		return nil, err
	}
	v.Keywords = []string{imapd.KeywordEncrypted, imapd.KeywordWarning}
	v.Stub, v.StubKey, v.Temporary = true, key, key == "not yet"
	return v, nil
}

func (b *backend) SealUpload(_ context.Context, u imapd.Upload) (*imapd.SealedUpload, error) {
	content := make([]byte, u.Size)
	if _, err := u.Content.ReadAt(content, 0); err != nil && err != io.EOF {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	u.Content = bytes.NewReader(content)
	b.uploads = append(b.uploads, u)
	if b.sealErr != nil {
		return nil, b.sealErr
	}
	if b.plain {
		return nil, nil
	}
	s := seal(content, sealOptions{})
	return &imapd.SealedUpload{Content: bytes.NewReader(s), Size: int64(len(s))}, nil
}

// prefixed is content with octets before it.
type prefixed struct {
	prefix []byte
	r      io.ReaderAt
}

func (p prefixed) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(p.prefix)) {
		n = copy(b, p.prefix[off:])
		if n == len(b) {
			return n, nil
		}
	}
	k, err := p.r.ReadAt(b[n:], off+int64(n)-int64(len(p.prefix)))
	return n + k, err
}

// inverted is content with each octet inverted.
type inverted struct{ r io.ReaderAt }

func (v inverted) ReadAt(b []byte, off int64) (int, error) {
	n, err := v.r.ReadAt(b, off)
	for i := range b[:n] {
		b[i] ^= 0xff
	}
	return n, err
}

// damaged is content that is corrupt from an octet on.
type damaged struct {
	io.ReaderAt
	from int64
}

func (d damaged) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > d.from {
		return 0, fmt.Errorf("chunk does not match: %w", imapd.ErrCorrupt)
	}
	return d.ReaderAt.ReadAt(b, off)
}

// client is a raw IMAP client.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * testWait))
	return &client{t: t, conn: conn, r: bufio.NewReader(conn)}
}

// login connects and signs in at the relay.
func (w *world) login() *client {
	w.t.Helper()
	c := dial(w.t, w.addr)
	c.line()
	c.ok(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
	return c
}

// direct connects and signs in at the provider.
func (w *world) direct() *client {
	w.t.Helper()
	c := dial(w.t, w.provider)
	c.line()
	c.ok(fmt.Sprintf("LOGIN %s %q", userName, mailPass))
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// readResponse reads one response with its literals.
func (c *client) readResponse() (string, error) {
	var out strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		out.WriteString(line)
		if err != nil {
			return out.String(), err
		}
		n, ok := literalSize(line)
		if !ok || strings.HasPrefix(line, "* OK") {
			return out.String(), nil
		}
		if _, err := io.CopyN(&out, c.r, n); err != nil {
			return out.String(), err
		}
	}
}

func literalSize(line string) (n int64, ok bool) {
	line = strings.TrimRight(line, "\r\n")
	i := strings.LastIndexByte(line, '{')
	if i < 0 || !strings.HasSuffix(line, "}") {
		return 0, false
	}
	_, err := fmt.Sscanf(line[i:], "{%d}", &n)
	return n, err == nil
}

// line reads one response.
func (c *client) line() string {
	c.t.Helper()
	s, err := c.readResponse()
	if err != nil {
		c.t.Fatalf("read: %v (got %q)", err, s)
	}
	return s
}

// do sends a command and returns the untagged responses and the tagged one.
func (c *client) do(command string) ([]string, string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("T%d", c.n)
	c.send(tag + " " + command + "\r\n")
	return c.until(tag)
}

func (c *client) until(tag string) ([]string, string) {
	c.t.Helper()
	var untagged []string
	for {
		s := c.line()
		if rest, ok := strings.CutPrefix(s, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, s)
	}
}

// ok sends a command that must succeed.
func (c *client) ok(command string) []string {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%s: %s", command, tagged)
	}
	return untagged
}

// expect sends a command that must be answered with a prefix.
func (c *client) expect(command, prefix string) []string {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, prefix) {
		c.t.Fatalf("%s: %s, want %s", command, tagged, prefix)
	}
	return untagged
}

// fetchLiteral returns the first literal of a FETCH answer.
func (c *client) fetchLiteral(command string) string {
	c.t.Helper()
	for _, s := range c.ok(command) {
		line, rest, _ := strings.Cut(s, "\r\n")
		if n, ok := literalSize(line); ok && strings.Contains(line, "FETCH") {
			return rest[:n]
		}
	}
	c.t.Fatalf("%s: no literal", command)
	return ""
}

// closed reads until the connection ends and returns what came.
func (c *client) closed() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		c.t.Fatalf("connection not closed: %v (got %q)", err, b)
	}
	return string(b)
}
