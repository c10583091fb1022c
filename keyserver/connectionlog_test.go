package keyserver_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
)

// TestConnectionsAreNotNamed: what net/http says of a connection has the
// client's address, which is for the debug level alone.
func TestConnectionsAreNotNamed(t *testing.T) {
	for _, c := range []struct {
		level slog.Level
		named bool
	}{{slog.LevelInfo, false}, {slog.LevelDebug, true}} {
		var said lockedBuffer
		h := httptest.NewUnstartedServer(nil)
		served := keyserver.HTTPServer(http.NotFoundHandler(), slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: c.level})))
		h.Config = served
		h.StartTLS()
		conn, err := net.Dial("tcp", h.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		client := conn.LocalAddr().String()
		if _, err := io.WriteString(conn, "this is not TLS\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		// The server's last word: the handshake has failed.
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Logf("the connection ended with %v", err)
		}
		conn.Close()
		h.Close()
		if got := strings.Contains(said.String(), client); got != c.named {
			t.Errorf("level %v: address in the log: %t, want %t: %s", c.level, got, c.named, said.String())
		}
	}
}

// lockedBuffer is for writers of several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
