package keyserver_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// secureWorld is a server that speaks TLS and HTTP/2, as the command serves it.
func secureWorld(t *testing.T, change func(*keyserver.Limits, *http.Server)) (*world, *tls.Config) {
	t.Helper()
	o := keyserver.Options{Limits: keyservertest.Unlimited()}
	h := httptest.NewUnstartedServer(nil)
	if err := h.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	served := keyserver.HTTPServer(nil, nil)
	change(&o.Limits, served)
	w := newWorld(t, o)
	served.Handler = w.Handler
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.Config, h.Listener, h.EnableHTTP2 = served, w.Handler.Listener(ln), true
	h.StartTLS()
	t.Cleanup(h.Close)
	w.URL = h.URL
	config := h.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if w.c, err = keyclient.New(keyclient.Options{URL: h.URL, HTTPClient: h.Client()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.c.Close)
	return w, config
}

// muxed is a connection of HTTP/2 that keeps to no rules but its caller's.
type muxed struct {
	t        *testing.T
	conn     net.Conn
	f        *http2.Framer
	headers  bytes.Buffer
	encoder  *hpack.Encoder
	settings map[http2.SettingID]uint32 // the server's
	next     uint32
}

// dialMuxed connects from an address of loopback. window is what each stream
// lets the server send.
func dialMuxed(t *testing.T, w *world, config *tls.Config, ip string, window uint32) *muxed {
	t.Helper()
	raw := dialFrom(t, strings.Replace(w.URL, "https", "http", 1), ip)
	config = config.Clone()
	config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if c.ConnectionState().NegotiatedProtocol != "h2" {
		t.Fatal("the server does not speak HTTP/2")
	}
	m := &muxed{t: t, conn: c, settings: map[http2.SettingID]uint32{}, next: 1}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	m.f = http2.NewFramer(c, c)
	m.f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	m.encoder = hpack.NewEncoder(&m.headers)
	m.must(m.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}))
	return m
}

func (m *muxed) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// block encodes a header.
func (m *muxed) block(method, path, token string, more ...string) []byte {
	m.headers.Reset()
	fields := append([]string{":method", method, ":scheme", "https", ":authority", "x", ":path", path, "authorization", "Bearer " + token}, more...)
	for i := 0; i < len(fields); i += 2 {
		m.must(m.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return m.headers.Bytes()
}

// begin sends a request; end: it has no body.
func (m *muxed) begin(end bool, method, path, token string, more ...string) (stream uint32) {
	m.t.Helper()
	stream, m.next = m.next, m.next+2
	m.must(m.f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: m.block(method, path, token, more...), EndHeaders: true, EndStream: end,
	}))
	return stream
}

// read reads until n streams have been answered or reset, by their status: 0 for
// those that were reset, -1: the connection is closed.
func (m *muxed) read(n int) map[uint32]int {
	m.t.Helper()
	got := map[uint32]int{}
	for len(got) < n {
		f, err := m.f.ReadFrame()
		if err != nil {
			got[0] = -1
			return got
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				m.must(f.ForeachSetting(func(s http2.Setting) error { m.settings[s.ID] = s.Val; return nil }))
				if err := m.f.WriteSettingsAck(); err != nil {
					got[0] = -1
					return got
				}
			}
		case *http2.MetaHeadersFrame:
			status := 0
			if _, err := fmt.Sscan(f.PseudoValue("status"), &status); err != nil {
				m.t.Fatal(err)
			}
			got[f.StreamID] = status
		case *http2.RSTStreamFrame:
			if _, answered := got[f.StreamID]; !answered {
				got[f.StreamID] = 0
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				got[0] = -1
				return got
			}
		}
	}
	return got
}

// tally counts how many streams had which status.
func tally(got map[uint32]int) map[int]int {
	n := map[int]int{}
	for _, status := range got {
		n[status]++
	}
	return n
}

// TestHTTP2RequestsOfOneNetwork: many streams of one connection, none of which
// takes its answer, are so many as a network may have requests; others of the
// network are refused and others of the world served.
func TestHTTP2RequestsOfOneNetwork(t *testing.T) {
	w, config := secureWorld(t, func(l *keyserver.Limits, _ *http.Server) {
		l.Connections, l.ConnectionsFrom, l.LongPollsFrom = 1000, 3, 2
	})
	m := dialMuxed(t, w, config, "127.0.7.1", 0)
	const streams = 100
	for range streams {
		m.begin(true, "GET", "/v1/server", "")
	}
	got := tally(m.read(streams))
	if got[http.StatusOK] != 5 || got[http.StatusTooManyRequests] != 64 || got[0] != streams-5-64 {
		t.Errorf("streams of a connection were answered %v", got)
	}
	if m.settings[http2.SettingMaxConcurrentStreams] != streams || m.settings[http2.SettingInitialWindowSize] != 64<<10 {
		t.Errorf("the server lets a connection have %v", m.settings)
	}
	other := dialMuxed(t, w, config, "127.0.8.1", 1<<16)
	other.begin(true, "GET", "/v1/server", "")
	if got := tally(other.read(1)); got[http.StatusOK] != 1 {
		t.Errorf("another network: %v", got)
	}
	// When the answers are taken there is room again.
	m.must(m.f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}))
	for range 600 {
		m.begin(true, "GET", "/v1/server", "")
		if got := tally(m.read(1)); got[http.StatusOK] == 1 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the network is refused still")
}

// TestHTTP2ConnectionsOfOneNetwork: connections are counted below TLS.
func TestHTTP2ConnectionsOfOneNetwork(t *testing.T) {
	w, config := secureWorld(t, func(l *keyserver.Limits, _ *http.Server) { l.Connections, l.ConnectionsFrom = 100, 2 })
	for i := range 4 {
		m := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
		m.begin(true, "GET", "/v1/server", "")
		want := []int{200, 200, 429, 429}[i]
		if got := m.read(1); got[1] != want {
			t.Errorf("connection %d: %v, want %d", i, got, want)
		}
		if want == 429 {
			if m.begin(true, "GET", "/v1/server", ""); m.read(1)[3] == http.StatusOK {
				t.Errorf("connection %d serves on", i)
			}
		}
	}
}

// TestHTTP2LongPolls: those of one connection count for user and network as
// others do.
func TestHTTP2LongPolls(t *testing.T) {
	w, config := secureWorld(t, func(l *keyserver.Limits, _ *http.Server) { l.LongPollsFrom, l.LongPolls = 3, 2 })
	a, b := w.person("anna"), w.person("berta")
	m := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
	poll := func(p *person) { m.begin(true, "GET", "/v1/delivery/email/"+p.account.ID+"?wait=60", p.token()) }
	poll(a)
	poll(a)
	w.awaitPolls(2)
	poll(a) // too many of hers
	poll(b)
	w.awaitPolls(3)
	poll(b) // too many of the network
	if got := m.read(2); got[5] != http.StatusTooManyRequests || got[9] != http.StatusTooManyRequests {
		t.Errorf("answers %v", got)
	}
	m.must(m.f.WriteRSTStream(1, http2.ErrCodeCancel))
	w.awaitPolls(2)
	m.must(m.conn.Close())
	w.awaitPolls(0)
}

// TestHTTP2SlowBodies: bodies that do not end are counted by network where nobody
// has signed in, and cut off where somebody has.
func TestHTTP2SlowBodies(t *testing.T) {
	w, config := secureWorld(t, func(*keyserver.Limits, *http.Server) {})
	m := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
	p := w.person("slow")
	for range 64 {
		stream := m.begin(false, "POST", "/v1/auth/params", "", "content-type", "application/json", "content-length", "100")
		m.must(m.f.WriteData(stream, false, []byte("{")))
	}
	for w.Handler.OpenBodies() < 64 {
		time.Sleep(5 * time.Millisecond)
	}
	m.begin(false, "POST", "/v1/auth/params", "", "content-type", "application/json", "content-length", "100")
	if got := m.read(1); got[129] != http.StatusTooManyRequests {
		t.Errorf("body 65 of a network: %v", got)
	}
	if _, err := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "anna"}); err != nil {
		t.Errorf("another network: %v", err)
	}
	signedIn := dialMuxed(t, w, config, "127.0.8.1", 1<<16)
	for _, length := range []string{"60000000", ""} {
		more := []string{"content-type", "application/json"}
		if length != "" {
			more = append(more, "content-length", length)
		}
		stream := signedIn.begin(false, "POST", "/v1/tx", p.token(), more...)
		signedIn.must(signedIn.f.WriteData(stream, false, []byte("{")))
	}
	if got := tally(signedIn.read(2)); got[http.StatusTooManyRequests] != 2 {
		t.Errorf("slow transactions: %v", got)
	}
}

// TestHTTP2EndlessHeaders: what is too long is answered, what does not end is cut
// off, and what stops in the middle keeps its connection no longer than an idle
// one does.
func TestHTTP2EndlessHeaders(t *testing.T) {
	w, config := secureWorld(t, func(_ *keyserver.Limits, h *http.Server) { h.IdleTimeout = time.Second })
	long := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
	long.begin(true, "GET", "/v1/server", "", "x-long", strings.Repeat("x", 15<<10), "x-longer", strings.Repeat("y", 3<<10))
	if got := long.read(1); got[1] != http.StatusRequestHeaderFieldsTooLarge && got[0] != -1 {
		t.Errorf("a header of 18 KiB: %v", got)
	}

	endless := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
	endless.must(endless.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: slices.Clone(endless.block("GET", "/v1/server", ""))}))
	sent := 0
	for err := error(nil); err == nil && sent < 64<<20; {
		endless.headers.Reset()
		endless.must(endless.encoder.WriteField(hpack.HeaderField{Name: fmt.Sprint("x-", sent), Value: strings.Repeat("x", 4<<10)}))
		err = endless.f.WriteContinuation(1, false, endless.headers.Bytes())
		sent += endless.headers.Len()
	}
	if got := endless.read(1); got[0] != -1 || sent >= 64<<20 {
		t.Errorf("a header of %d octets that goes on: %v", sent, got)
	}

	stopped := dialMuxed(t, w, config, "127.0.7.1", 1<<16)
	stopped.must(stopped.f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: slices.Clone(stopped.block("GET", "/v1/server", ""))}))
	for {
		_, err := stopped.f.ReadFrame()
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("half a header keeps its connection")
		}
		if err != nil {
			break
		}
	}
	if _, err := w.c.Server(t.Context()); err != nil {
		t.Errorf("others: %v", err)
	}
}
