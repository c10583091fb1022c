package imapd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/imapd"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestSignInForms(t *testing.T) {
	w := newWorld(t, nil)
	plain := b64("\x00" + userName + "\x00" + clientPass)
	for name, lines := range map[string][]string{
		"LOGIN quoted":         {`a LOGIN "` + userName + `" "` + clientPass + `"`},
		"LOGIN atoms":          {"a LOGIN " + userName + ` "client secret"`},
		"LOGIN literals":       {fmt.Sprintf("a LOGIN {%d}", len(userName)), userName + fmt.Sprintf(" {%d}", len(clientPass)), clientPass},
		"LOGIN literal+":       {fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s", len(userName), userName, len(clientPass), clientPass)},
		"PLAIN":                {"a AUTHENTICATE PLAIN", plain},
		"PLAIN initial":        {"a authenticate plain " + plain},
		"AUTHENTICATE LOGIN":   {"a AUTHENTICATE LOGIN", b64(userName), b64(clientPass)},
		"LOGIN initial":        {"a AUTHENTICATE LOGIN " + b64(userName), b64(clientPass)},
		"after ID and CAPABIL": {"x ID NIL\r\ny CAPABILITY\r\na AUTHENTICATE PLAIN " + plain},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, w.addr)
			if g := c.line(); !strings.HasPrefix(g, "* OK [CAPABILITY IMAP4rev1 ") || !strings.Contains(g, "AUTH=PLAIN") {
				t.Errorf("greeting %q", g)
			}
			for i, l := range lines {
				if i > 0 {
					if p := c.line(); !strings.HasPrefix(p, "+") {
						t.Fatalf("no continuation request: %q", p)
					}
				}
				c.send(l + "\r\n")
			}
			_, tagged := c.until("a")
			if !strings.HasPrefix(tagged, "OK [CAPABILITY ") || !strings.Contains(tagged, "LITERAL+") {
				t.Errorf("got %q", tagged)
			}
			for _, hidden := range []string{"AUTH=", "STARTTLS", "BINARY", "UTF8", "LITERAL-", "SASL-IR"} {
				if strings.Contains(tagged, hidden) {
					t.Errorf("%s is shown after sign-in: %q", hidden, tagged)
				}
			}
			c.ok("NOOP")
		})
	}
}

func TestThreat80_WrongPasswordIsRefusedAndSlowedDown(t *testing.T) {
	const delay = 2 * time.Second // long enough that a loaded machine is not taken for it
	w := newWorld(t, func(_ *backend, o *imapd.Options) {
		o.Limits.MaxFailures = 3
		o.Limits.FailureDelay = delay
	})
	c := dial(t, w.addr)
	c.line()
	for range 3 {
		c.expect("LOGIN "+userName+" wrong", "NO [AUTHENTICATIONFAILED]")
	}
	if rest := c.closed(); !strings.HasPrefix(rest, "* BYE") {
		t.Errorf("after three failures: %q", rest)
	}
	start := time.Now()
	w.login()
	if d := time.Since(start); d < delay {
		t.Errorf("sign-in after %v, want a delay of %v", d, delay)
	}
	start = time.Now()
	w.login()
	if d := time.Since(start); d >= delay {
		t.Errorf("sign-in is still slow after a success: %v", d)
	}
}

func TestThreat80_NothingBeforeSignIn(t *testing.T) {
	w := newWorld(t, nil)
	c := dial(t, w.addr)
	c.line()
	c.expect("SELECT INBOX", "BAD")
	c.expect("STARTTLS", "BAD")
	c.n++
	c.send(fmt.Sprintf("T%d FETCH 1 BODY[]\r\n", c.n))
	if rest := c.closed(); !strings.Contains(rest, "BAD") || !strings.Contains(rest, "* BYE") {
		t.Errorf("third bad command: %q", rest)
	}
}

func TestThreat80_PreAuthLimits(t *testing.T) {
	for name, send := range map[string]string{
		"long line":    "a LOGIN " + strings.Repeat("x", 20_000) + "\r\n",
		"no line end":  strings.Repeat("y", 20_000),
		"big literal":  "a LOGIN {99999999}\r\n",
		"big literal+": "a LOGIN {99999999+}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			c := dial(t, w.addr)
			c.line()
			c.send(send)
			if rest := c.closed(); !strings.HasPrefix(rest, "* BYE") {
				t.Errorf("got %q", rest)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.LoginTimeout = 50 * time.Millisecond })
		c := dial(t, w.addr)
		c.line()
		if rest := c.closed(); !strings.HasPrefix(rest, "* BYE") {
			t.Errorf("got %q", rest)
		}
	})
	t.Run("connections", func(t *testing.T) {
		w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.MaxPreAuth = 2 })
		a, b := dial(t, w.addr), dial(t, w.addr)
		a.line()
		b.line()
		if rest := dial(t, w.addr).closed(); rest != "" {
			t.Errorf("third connection got %q", rest)
		}
		a.ok(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
		dial(t, w.addr).line()
	})
}

// certificate returns a TLS configuration for 127.0.0.1 and the pool that
// trusts it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// TestThreat78_BrowsersGetNothing: HTTP requests and TLS with HTTP's ALPN
// names end the connection.
func TestThreat78_BrowsersGetNothing(t *testing.T) {
	w := newWorld(t, nil)
	for _, req := range []string{"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /x HTTP/1.1\r\nContent-Length: 40\r\n\r\na LOGIN x y\r\n",
		"OPTIONS * HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		c := dial(t, w.addr)
		c.line()
		c.send(req)
		if rest := c.closed(); rest != "" {
			t.Errorf("%.20q was answered: %q", req, rest)
		}
	}

	config, pool := certificate(t)
	w = newWorld(t, func(_ *backend, o *imapd.Options) { o.TLSConfig = config })
	for _, alpn := range [][]string{{"h2"}, {"http/1.1"}, {"h2", "http/1.1"}} {
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: pool, NextProtos: alpn})
		if err == nil {
			conn.Close()
			t.Errorf("TLS with ALPN %v was accepted", alpn)
		}
	}
	for _, alpn := range [][]string{nil, {"imap"}} {
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: pool, NextProtos: alpn})
		if err != nil {
			t.Fatalf("ALPN %v: %v", alpn, err)
		}
		c := newClient(t, conn)
		c.line()
		c.ok(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
		c.ok("LOGOUT")
	}
}

// TestThreat80_OnlyLoopback: the server refuses to listen for other machines.
func TestThreat80_OnlyLoopback(t *testing.T) {
	s, err := imapd.New(imapd.Options{Backend: &backend{}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err == nil || errors.Is(err, imapd.ErrServerClosed) {
		t.Errorf("served on %s: %v", ln.Addr(), err)
	}
}

// fakeProvider answers one connection by a script.
func fakeProvider(t *testing.T, serve func(conn net.Conn)) string {
	ln := listen(t)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(testWait))
			serve(conn)
			conn.Close()
		}
	}()
	return ln.Addr().String()
}

// TestThreat76_StartTLS: STARTTLS is done or the connection is refused; what
// was said in clear does not count.
func TestThreat76_StartTLS(t *testing.T) {
	config, pool := certificate(t)
	var mu sync.Mutex
	var secretInClear string
	startTLS := func(greeting, answer string) func(net.Conn) {
		return func(conn net.Conn) {
			c := &client{t: t, conn: conn, r: newClient(t, conn).r}
			fmt.Fprint(conn, greeting)
			for {
				line, err := c.r.ReadString('\n')
				if err != nil {
					return
				}
				mu.Lock()
				secretInClear += line
				mu.Unlock()
				f := strings.Fields(line)
				if len(f) < 2 || !strings.EqualFold(f[1], "STARTTLS") {
					fmt.Fprintf(conn, "%s BAD no\r\n", f[0])
					continue
				}
				fmt.Fprintf(conn, "%s %s", f[0], answer)
				if !strings.HasPrefix(answer, "OK") {
					continue
				}
				tc := tls.Server(conn, config)
				if tc.Handshake() != nil {
					return
				}
				serveScript(tc)
				return
			}
		}
	}
	for name, tt := range map[string]struct {
		greeting, answer string
		ok               bool
	}{
		"good":            {"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n", "OK begin\r\n", true},
		"stripped":        {"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n", "BAD unknown\r\n", false},
		"refused":         {"* OK hi\r\n", "NO later\r\n", false},
		"preauth":         {"* PREAUTH [CAPABILITY IMAP4rev1] hi\r\n", "OK begin\r\n", false},
		"injected after":  {"* OK hi\r\n", "OK begin\r\n* OK [CAPABILITY IMAP4rev1 AUTH=EVIL] x\r\n", false},
		"injected before": {"* OK hi\r\n* BYE [ALERT] x\r\n", "OK begin\r\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			mu.Lock()
			secretInClear = ""
			mu.Unlock()
			addr := fakeProvider(t, startTLS(tt.greeting, tt.answer))
			w := newWorld(t, func(b *backend, _ *imapd.Options) {
				b.provider = addr
				b.upstream = &imapd.Upstream{StartTLS: true, TLSConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"},
					Username: userName, Password: func(context.Context) (string, error) { return mailPass, nil }}
			})
			c := dial(t, w.addr)
			c.line()
			_, tagged := c.do(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
			if tt.ok != strings.HasPrefix(tagged, "OK") {
				t.Errorf("got %q", tagged)
			}
			if !tt.ok && !strings.HasPrefix(tagged, "NO [UNAVAILABLE] ") {
				t.Errorf("no readable reason: %q", tagged)
			}
			if strings.Contains(tagged, "LOGINDISABLED") || strings.Contains(tagged, "EVIL") {
				t.Errorf("capabilities learnt in clear are kept: %q", tagged)
			}
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(secretInClear, b64("\x00"+userName+"\x00"+mailPass)) || strings.Contains(secretInClear, mailPass) {
				t.Error("the password was sent in clear")
			}
		})
	}
	t.Run("untrusted certificate", func(t *testing.T) {
		addr := fakeProvider(t, startTLS("* OK hi\r\n", "OK begin\r\n"))
		w := newWorld(t, func(b *backend, _ *imapd.Options) {
			b.provider = addr
			b.upstream = &imapd.Upstream{StartTLS: true, ServerName: "127.0.0.1", Username: userName,
				Password: func(context.Context) (string, error) { return mailPass, nil }}
		})
		c := dial(t, w.addr)
		c.line()
		c.expect(fmt.Sprintf("LOGIN %s %q", userName, clientPass), "NO [UNAVAILABLE] The mail provider's certificate")
	})
}

// TestUpstreamSignIn: each way to sign in that a provider may offer.
func TestUpstreamSignIn(t *testing.T) {
	plain := b64("\x00" + userName + "\x00p\xc3\xa4ss")
	for name, tt := range map[string]struct{ caps, want string }{
		"PLAIN with SASL-IR": {"AUTH=PLAIN SASL-IR", "CMLSGW1 AUTHENTICATE PLAIN " + plain + "\r\n"},
		"PLAIN":              {"AUTH=PLAIN", "CMLSGW1 AUTHENTICATE PLAIN\r\n" + plain + "\r\n"},
		"LOGIN":              {"", "CMLSGW1 LOGIN \"" + userName + "\" {5}\r\np\xc3\xa4ss\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			addr := fakeProvider(t, func(conn net.Conn) {
				fmt.Fprintf(conn, "* OK [CAPABILITY IMAP4rev1 %s] hi\r\n", tt.caps)
				buf := make([]byte, len(tt.want))
				for n := 0; n < len(buf); {
					k, err := conn.Read(buf[n:])
					if err != nil {
						break
					}
					if n += k; n < len(buf) {
						fmt.Fprint(conn, "+ go on\r\n")
					}
				}
				got <- string(buf)
				fmt.Fprint(conn, "* OK [ALERT] your disk is full\r\nCMLSGW1 OK [CAPABILITY IMAP4rev1 X-AFTER APPENDLIMIT=35651584] in\r\n")
				serveScript(conn)
			})
			w := newWorld(t, func(b *backend, _ *imapd.Options) {
				b.provider = addr
				b.upstream = &imapd.Upstream{Username: userName, Password: func(context.Context) (string, error) { return "p\xc3\xa4ss", nil }}
			})
			c := dial(t, w.addr)
			c.line()
			untagged, tagged := c.do(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
			if s := <-got; s != tt.want {
				t.Errorf("provider got %q, want %q", s, tt.want)
			}
			if joined(untagged) != "* OK [ALERT] your disk is full\r\n" {
				t.Errorf("alert is not passed on: %q", untagged)
			}
			if !strings.HasPrefix(tagged, "OK [CAPABILITY IMAP4rev1 X-AFTER APPENDLIMIT=25957287 LITERAL+]") {
				t.Errorf("got %q", tagged)
			}
		})
	}
}

// serveScript is a provider that lets everyone in and knows nothing else.
func serveScript(conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		f := strings.Fields(string(buf[:n]))
		switch {
		case len(f) > 1 && f[1] == "CAPABILITY":
			fmt.Fprintf(conn, "* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR COMPRESS=DEFLATE\r\n%s OK done\r\n", f[0])
		case len(f) > 1:
			fmt.Fprintf(conn, "%s OK done\r\n", f[0])
		}
	}
}
