package keyserver_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// withBigObject is secureWorld with a person who has an object of 16 MiB, and the
// body that asks for it.
func withBigObject(t *testing.T, window time.Duration, change func(*http.Server)) (*world, *tls.Config, *person, string) {
	t.Helper()
	w, config := secureWorld(t, func(_ *keyserver.Limits, h *http.Server) { change(h) })
	w.Handler.SetSendWindow(window)
	p := w.person("anna")
	o := keyapi.Object{ID: objectID("big"), Counter: 1, Data: make([]byte, 16<<20)}
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{o}}); err != nil {
		t.Fatal(err)
	}
	return w, config, p, fmt.Sprintf(`{"ids":["%x"]}`, o.ID)
}

// slowClient is a connection of HTTP/1 over TLS with little room for what it does
// not read.
func slowClient(t *testing.T, w *world, config *tls.Config) net.Conn {
	t.Helper()
	raw := dialFrom(t, strings.Replace(w.URL, "https", "http", 1), "127.0.7.1")
	if err := raw.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	config = config.Clone()
	config.NextProtos, config.ServerName = []string{"http/1.1"}, "example.com"
	c := tls.Client(raw, config)
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func askForBig(t *testing.T, c net.Conn, p *person, body string) (*bufio.Reader, *http.Response) {
	t.Helper()
	_, err := fmt.Fprintf(c, "POST /v1/objects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		p.token(), len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 16)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	return r, resp
}

// awaitHeld waits until some octets, or none, are in memory.
func (w *world) awaitHeld(some bool) {
	w.t.Helper()
	for range 3000 {
		if (w.Handler.HeldOctets() > 0) == some {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("%d octets are in memory after half a minute, some are due: %v", w.Handler.HeldOctets(), some)
}

// TestSlowReadersAreCutOff: who takes an answer by the octet, or not at all, keeps
// it in memory no longer than a part of it may take.
func TestSlowReadersAreCutOff(t *testing.T) {
	w, config, p, body := withBigObject(t, time.Second, func(*http.Server) {})
	c := slowClient(t, w, config)
	_, resp := askForBig(t, c, p, body)
	defer resp.Body.Close()
	w.awaitHeld(true)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				return
			}
		}
	}()
	w.awaitHeld(false)
	close(stop)
	<-stopped
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n > 16<<20 {
		t.Errorf("the rest of the answer: %d octets, %v", n, err)
	}
	if counter, _ := p.object(objectID("big")); counter != 1 {
		t.Error("others are not served")
	}
}

// TestSlowReadersAreServed: an answer that is taken at the least rate lasts longer
// than a request may.
func TestSlowReadersAreServed(t *testing.T) {
	w, config, p, body := withBigObject(t, time.Minute, func(h *http.Server) { h.WriteTimeout = 8 * time.Second })
	_, resp := askForBig(t, slowClient(t, w, config), p, body)
	defer resp.Body.Close()
	total := int64(0)
	for range 3 { // the server waits meanwhile: 22 MiB do not fit into any buffer
		n, err := io.CopyN(io.Discard, resp.Body, 1<<20)
		if total += n; err != nil {
			t.Fatal(err)
		}
		time.Sleep(2800 * time.Millisecond)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if total += n; err != nil || total < 16<<20 {
		t.Errorf("%d octets, %v", total, err)
	}
	w.awaitHeld(false)
}

// TestDeadlineOfAnAnswerEndsWithIt, on servers too that give requests no time of
// their own.
func TestDeadlineOfAnAnswerEndsWithIt(t *testing.T) {
	w, config, p, body := withBigObject(t, time.Second, func(h *http.Server) { h.WriteTimeout = 0 })
	c := slowClient(t, w, config)
	r, resp := askForBig(t, c, p, body)
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < 16<<20 {
		t.Fatalf("%d octets, %v", n, err)
	}
	time.Sleep(1500 * time.Millisecond)
	if _, err := fmt.Fprintf(c, "DELETE /v1/sessions/%x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", random(16), p.token()); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("the next request on the connection: %v, %v", resp, err)
	}
}

// TestHTTP2SlowReaders: neither a stream that lets the server send little, nor a
// connection of which nothing is read, keeps answers in memory.
func TestHTTP2SlowReaders(t *testing.T) {
	for name, row := range map[string]struct {
		window uint32
		reads  bool
	}{
		"a stream with little room":             {1 << 10, true},
		"a connection of which nothing is read": {1 << 30, false},
	} {
		t.Run(name, func(t *testing.T) {
			w, config, p, body := withBigObject(t, time.Second, func(h *http.Server) { h.HTTP2.WriteByteTimeout /= 10 })
			m := dialMuxed(t, w, config, "127.0.7.1", row.window)
			m.must(m.f.WriteWindowUpdate(0, 1<<30))
			const streams = 4
			for range streams {
				stream := m.begin(false, "POST", "/v1/objects", p.token(), "content-type", "application/json", "content-length", fmt.Sprint(len(body)))
				m.must(m.f.WriteData(stream, true, []byte(body)))
			}
			small := m.begin(true, "GET", "/v1/server", "")
			w.awaitHeld(true)
			if !row.reads {
				w.awaitHeld(false)
				return
			}
			reset := map[uint32]bool{}
			for len(reset) < streams { // the last one is short, and waits for nothing
				f, err := m.f.ReadFrame()
				if err != nil {
					t.Fatalf("after %d streams were reset: %v", len(reset), err)
				}
				if r, ok := f.(*http2.RSTStreamFrame); ok && r.StreamID != small {
					reset[r.StreamID] = true
				}
			}
			w.awaitHeld(false)
		})
	}
}

// TestHTTP2SmallAnswersThatNobodyTakes: a stream without any room is reset.
func TestHTTP2SmallAnswersThatNobodyTakes(t *testing.T) {
	w, config := secureWorld(t, func(*keyserver.Limits, *http.Server) {})
	w.Handler.SetSendWindow(time.Second)
	m := dialMuxed(t, w, config, "127.0.7.1", 0)
	m.begin(true, "GET", "/v1/server", "")
	for {
		f, err := m.f.ReadFrame()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the answer is kept for a minute")
		}
		m.must(err)
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			return
		}
	}
}
