package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/mailtest"
)

// hostileProvider answers as it likes and records what it hears.
type hostileProvider struct {
	addr  string
	mu    sync.Mutex
	heard bytes.Buffer
}

func newHostileProvider(t *testing.T, script func(conn net.Conn, hear func() string)) *hostileProvider {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &hostileProvider{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				buf := make([]byte, 4096)
				script(conn, func() string {
					n, err := conn.Read(buf)
					if err != nil {
						return ""
					}
					p.mu.Lock()
					p.heard.Write(buf[:n])
					p.mu.Unlock()
					return string(buf[:n])
				})
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return p
}

func (p *hostileProvider) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard.String()
}

func TestThreat76_StartTLS(t *testing.T) {
	authority, err := mailtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Issue()
	if err != nil {
		t.Fatal(err)
	}
	serverTLS := &tls.Config{Certificates: []tls.Certificate{cert}}
	say := func(conn net.Conn, s string) { _, _ = conn.Write([]byte(s)) }
	for name, script := range map[string]func(net.Conn, func() string){
		"capability stripped": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n")
			hear()
			say(conn, "250-hi\r\n250 AUTH PLAIN LOGIN\r\n")
			hear()
		},
		"refused": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n")
			hear()
			say(conn, "250-hi\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
			hear()
			say(conn, "454 not now\r\n")
			hear()
		},
		"data behind the 220": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n")
			hear()
			say(conn, "250-hi\r\n250 STARTTLS\r\n")
			hear()
			say(conn, "220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n")
			secure := tls.Server(conn, serverTLS)
			if secure.Handshake() == nil {
				_, _ = secure.Write([]byte("250 ok\r\n"))
			}
			hear()
		},
		"greeting with more": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n250-hi\r\n250 AUTH PLAIN\r\n220 go\r\n")
			hear()
			hear()
		},
		"wrong certificate": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n")
			hear()
			say(conn, "250-hi\r\n250 STARTTLS\r\n")
			hear()
			say(conn, "220 go\r\n")
			other, err := mailtest.NewAuthority()
			if err != nil {
				return
			}
			wrong, err := other.Issue()
			if err != nil {
				return
			}
			secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{wrong}})
			_ = secure.Handshake()
		},
		"endless reply": func(conn net.Conn, hear func() string) {
			say(conn, "220 hi\r\n")
			hear()
			for range 100_000 {
				if _, err := conn.Write([]byte("250-X\r\n")); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newHostileProvider(t, script)
			_, err := dial(t.Context(), Upstream{
				Addr: p.addr, Mode: TLSStartTLS, TLSConfig: &tls.Config{RootCAs: authority.Pool()},
				Username: alice, Password: func(context.Context) (string, error) { return "provider-secret", nil },
			}, Timeouts{Dial: 5 * time.Second}.withDefaults())
			if err == nil {
				t.Fatal("the connection was accepted")
			}
			if heard := p.all(); strings.Contains(heard, "AUTH") || strings.Contains(heard, "MAIL") {
				t.Errorf("the provider heard %q", heard)
			}
		})
	}
}

// Without TLS nothing is said to a host that is not this machine; here the
// check itself, since no such host is at hand.
func TestThreat76_PlainOnlyOnLoopback(t *testing.T) {
	for addr, ok := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.1": false, "0.0.0.0": false, "::": false} {
		if got := checkAddress(&net.TCPAddr{IP: net.ParseIP(addr), Port: 25}) == nil; got != ok {
			t.Errorf("%s accepted: %v, want %v", addr, got, ok)
		}
	}
}

// Providers that know AUTH LOGIN alone.
func TestLoginAtProvider(t *testing.T) {
	p := newHostileProvider(t, func(conn net.Conn, hear func() string) {
		for _, say := range []string{
			"220 hi\r\n", "250-hi\r\n250 AUTH LOGIN\r\n", "334 VXNlciBOYW1l\r\n", "334 UGFzc3dvcmQ=\r\n", "235 fine\r\n", "221 bye\r\n",
		} {
			if _, err := conn.Write([]byte(say)); err != nil {
				return
			}
			hear()
		}
	})
	l, err := dial(t.Context(), Upstream{
		Addr: p.addr, Mode: TLSNone, Username: alice,
		Password: func(context.Context) (string, error) { return "provider-secret", nil },
	}, Timeouts{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	l.close()
	want := "EHLO localhost\r\nAUTH LOGIN\r\nYWxpY2VAZXhhbXBsZS5vcmc=\r\ncHJvdmlkZXItc2VjcmV0\r\nQUIT\r\n"
	if got := p.all(); got != want {
		t.Errorf("the provider heard %q, want %q", got, want)
	}
}
