package keyserver_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// dialFrom connects from an address of loopback, each /24 of which is a network.
func dialFrom(t *testing.T, url, ip string) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// askOn asks for the server's description; 0: the connection was closed.
func askOn(t *testing.T, c net.Conn) (status int, p keyapi.Problem) {
	t.Helper()
	if _, err := fmt.Fprint(c, "GET /v1/server HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return 0, p
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, p
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		if media := resp.Header.Get("Content-Type"); media != "application/problem+json" || !resp.Close || resp.Header.Get("Retry-After") == "" {
			t.Errorf("refused with %s, close %v, Retry-After %q", media, resp.Close, resp.Header.Get("Retry-After"))
		}
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
			t.Error(err)
		}
	}
	return resp.StatusCode, p
}

// eventually asks until the server has noticed what happened before; want is the status.
func eventually(t *testing.T, url, ip string, want int) {
	t.Helper()
	got := 0
	for range 600 {
		c := dialFrom(t, url, ip)
		got, _ = askOn(t, c)
		_ = c.Close()
		if got == want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("status %d, want %d", got, want)
}

func limited(o keyserver.Options, connections, from int) keyservertest.Options {
	o.Limits = keyservertest.Unlimited()
	o.Limits.Connections, o.Limits.ConnectionsFrom = connections, from
	return keyservertest.Options{Server: o}
}

// TestConnectionsFromOneNetwork: one network has so many and no more, whatever
// they do; others are served, and what was closed counts no longer.
func TestConnectionsFromOneNetwork(t *testing.T) {
	ks := keyservertest.NewServer(t, limited(keyserver.Options{}, 100, 3))
	var held []net.Conn
	for i := range 3 {
		c := dialFrom(t, ks.URL, fmt.Sprintf("127.0.7.%d", i+1))
		if status, _ := askOn(t, c); status != http.StatusOK {
			t.Fatalf("connection %d: status %d", i, status)
		}
		held = append(held, c)
	}
	status, p := askOn(t, dialFrom(t, ks.URL, "127.0.7.200"))
	if status != http.StatusTooManyRequests || p.Code != keyapi.CodeRateLimited || !strings.Contains(p.Detail, "connections") {
		t.Fatalf("one too many: %d %+v", status, p)
	}
	if status, _ := askOn(t, dialFrom(t, ks.URL, "127.0.8.1")); status != http.StatusOK {
		t.Fatalf("another network: %d", status)
	}
	_ = held[0].Close()
	eventually(t, ks.URL, "127.0.7.9", http.StatusOK)
}

// TestConnectionsTooMany: there is a share for the next network until all are
// taken, and beyond some that are told so connections are closed.
func TestConnectionsTooMany(t *testing.T) {
	ks := keyservertest.NewServer(t, limited(keyserver.Options{}, 16, 16))
	open := func(ip string, most int) (n int) {
		for n < most {
			c := dialFrom(t, ks.URL, ip)
			if status, _ := askOn(t, c); status != http.StatusOK {
				return n
			}
			n++
		}
		return n
	}
	if n := open("127.0.1.1", 16); n != 4 {
		t.Errorf("the first network has %d connections of 16", n)
	}
	if n := open("127.0.2.1", 16); n != 3 {
		t.Errorf("the second network has %d of the 12 left", n)
	}
	for i := range 9 { // one is for everybody who is new
		if n := open(fmt.Sprintf("127.0.%d.1", 3+i), 1); n != 1 {
			t.Fatalf("network %d: no connection", 3+i)
		}
	}
	if status, _ := askOn(t, dialFrom(t, ks.URL, "127.0.99.1")); status != http.StatusTooManyRequests {
		t.Errorf("connection 17: status %d", status)
	}
	last := -1
	for range 10 { // silent ones have five seconds, which may be over before all are there
		for range 64 {
			dialFrom(t, ks.URL, "127.0.98.1")
		}
		if last, _ = askOn(t, dialFrom(t, ks.URL, "127.0.97.1")); last == 0 {
			break
		}
	}
	if last != 0 {
		t.Errorf("with 64 refused ones open, another one got %d", last)
	}
	eventually(t, ks.URL, "127.0.96.1", http.StatusTooManyRequests) // the silent ones are gone
}

// TestConnectionsOfProxy: a trusted proxy has those of many networks.
func TestConnectionsOfProxy(t *testing.T) {
	o := keyserver.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.7.0/24")}}
	ks := keyservertest.NewServer(t, limited(o, 100, 2))
	for i := range 5 {
		if status, _ := askOn(t, dialFrom(t, ks.URL, "127.0.7.1")); status != http.StatusOK {
			t.Fatalf("connection %d of the proxy: %d", i, status)
		}
	}
}

// TestLongPollsFromOneNetwork: so many and no more, of any number of users.
func TestLongPollsFromOneNetwork(t *testing.T) {
	l := keyservertest.Unlimited()
	l.LongPollsFrom = 2
	w := newWorld(t, keyserver.Options{Limits: l})
	ask := func(p *person, wait int, ip string) net.Conn {
		c := dialFrom(t, w.URL, ip)
		_, err := fmt.Fprintf(c, "GET /v1/delivery/%s/%s?wait=%d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n",
			p.account.Platform, p.account.ID, wait, p.token())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	status := func(c net.Conn) int {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	first := ask(w.person("anna"), 60, "127.0.7.1")
	second := ask(w.person("berta"), 60, "127.0.7.2")
	for w.Handler.Waiting() < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	clara := w.person("clara")
	if got := status(ask(clara, 60, "127.0.7.3")); got != http.StatusTooManyRequests {
		t.Errorf("third long-poll of a network: status %d", got)
	}
	if got := status(ask(clara, 0, "127.0.7.3")); got != http.StatusOK {
		t.Errorf("a question that does not wait: status %d", got)
	}
	if got := status(ask(clara, 1, "127.0.8.3")); got != http.StatusOK {
		t.Errorf("long-poll of another network: status %d", got)
	}
	_, _ = first.Close(), second.Close()
	for w.Handler.Waiting() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	if got := status(ask(clara, 1, "127.0.7.3")); got != http.StatusOK {
		t.Errorf("after the others have gone: status %d", got)
	}
}

// TestOpenBodiesFromOneNetwork: who sends the body of a sign-in and never ends it
// keeps nobody but the own network from signing in.
func TestOpenBodiesFromOneNetwork(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	begin := func(ip, body string) net.Conn {
		c := dialFrom(t, w.URL, ip)
		_, err := fmt.Fprintf(c, "POST /v1/auth/params HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n%-99s", body)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	end := func(c net.Conn) (status int, p keyapi.Problem) {
		if _, err := fmt.Fprint(c, " "); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Error(err)
			}
		}
		return resp.StatusCode, p
	}
	const question = `{"username":"anna"}`
	for range 64 {
		begin("127.0.7.1", question)
	}
	for w.Handler.OpenBodies() < 64 {
		time.Sleep(5 * time.Millisecond)
	}
	if status, p := end(begin("127.0.7.2", question)); status != http.StatusTooManyRequests || p.Code != keyapi.CodeRateLimited {
		t.Errorf("body 65 of a network: %d %+v", status, p)
	}
	if status, p := end(begin("127.0.8.1", question)); status != http.StatusOK {
		t.Errorf("another network: %d %+v", status, p)
	}
}
