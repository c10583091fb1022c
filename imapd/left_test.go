package imapd_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/imapd"
)

// partingConn is a provider that answers the end of the connection with its
// own before the gateway's read notices that it was the gateway's doing.
type partingConn struct {
	net.Conn
	closed atomic.Bool
}

func (c *partingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.closed.Load() {
		err = io.EOF
	}
	return n, err
}

func (c *partingConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// watched is a backend that passes on what a Watcher is told.
type watched struct {
	*backend
	results chan error
}

func (w *watched) Login(ctx context.Context, user, pass string) (imapd.Account, error) {
	if _, err := w.backend.Login(ctx, user, pass); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *watched) ProviderResult(err error) { w.results <- err }
func (w *watched) UploadResult(error)       {}

// TestClientThatLeavesIsNoFault: a mail program that drops its connection
// without LOGOUT says nothing about the provider; one that the provider drops
// does.
func TestClientThatLeavesIsNoFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		leave func(client net.Conn, provider *partingConn) error
		fault bool
	}{
		{"the client leaves", func(client net.Conn, _ *partingConn) error { return client.Close() }, false},
		{"the provider leaves", func(_ net.Conn, provider *partingConn) error { return provider.Close() }, true},
	} {
		var provider *partingConn
		results := make(chan error, 4)
		w := newWorld(t, func(b *backend, o *imapd.Options) {
			o.Backend = &watched{backend: b, results: results}
			b.dial = func(ctx context.Context) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.provider)
				if err != nil {
					return nil, err
				}
				provider = &partingConn{Conn: conn}
				return provider, nil
			}
		})
		client := w.login()
		if err := <-results; err != nil {
			t.Fatal(c.name, err)
		}
		if err := c.leave(client.conn, provider); err != nil {
			t.Fatal(c.name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), testWait)
		for w.server.Sessions(func(imapd.Account) bool { return true }) > 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		err := ctx.Err()
		cancel()
		if err != nil {
			t.Fatal(c.name, "the session goes on")
		}
		select {
		case err := <-results:
			if !c.fault || err == nil {
				t.Errorf("%s: told %v", c.name, err)
			}
		default:
			if c.fault {
				t.Errorf("%s: nothing was told", c.name)
			}
		}
	}
}
