package hostile

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// many is 10,000, or as many as this system lets one process have: the limit of
// descriptors is raised by the Go runtime to what is allowed.
func many(t *testing.T) int {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	n := 10_000
	if l.Cur < uint64(n)+500 {
		n = max(int(l.Cur)-500, 100)
		t.Logf("only %d connections: the limit of open files is %d and cannot be raised", n, l.Cur)
	}
	return n
}

// TestHostileSlowConnections: connections that send headers and bodies octet by
// octet, from forty networks, cost some memory each and time of nobody; those
// with headers are closed after a while.
func TestHostileSlowConnections(t *testing.T) {
	server := start(t)
	before := memory(t, server)
	done := neighbours(t, server)
	n := many(t)
	const networks = 40
	header := "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Slow: "
	body := "POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 16000\r\n\r\n" + fmt.Sprintf("%15000s", "{")
	refused := 0
	for i := range n {
		c, err := dial(t, server, i%networks, i/networks)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		text := header
		if i/networks%2 == 1 {
			text = body
		}
		if _, err := c.Write([]byte(text)); err != nil {
			refused++ // what came before it was closed already
			continue
		}
	}
	// Bodies of one network beyond 64 are refused, so what is held are buffers of
	// connections, and 16 KiB for each of the bodies that are waited for.
	bounded(t, fmt.Sprintf("%d slow connections, %d closed early", n, refused), server, before, int64(n)*36<<10)
	first := mustDial(t, server, networks, 1)
	if _, err := first.Write([]byte(header)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := answer(t, first, bufio.NewReader(first)); err == nil {
		t.Error("half a header was answered")
	} // the server has closed it, or the deadline would have passed
	done()
}

// TestHostileOneNetwork: whoever opens connections without end from one network
// has a thousand; the next ones are told so, or closed, and others are served.
func TestHostileOneNetwork(t *testing.T) {
	server := start(t)
	done := neighbours(t, server)
	told, closed, held := 0, 0, 0
	for i := range 1_200 {
		c, err := dial(t, server, 7, i)
		if err != nil {
			closed++
			continue
		}
		_, err = c.Write([]byte("GET /v1/server HTTP/1.1\r\nHost: x\r\n\r\n"))
		if err != nil {
			closed++
			continue
		}
		status, p, err := answer(t, c, bufio.NewReader(c))
		switch {
		case err != nil:
			closed++
		case status == http.StatusOK:
			held++
		case status == http.StatusTooManyRequests && p.Code == keyapi.CodeRateLimited:
			told++
		default:
			t.Fatalf("status %d %+v", status, p)
		}
	}
	t.Logf("%d connections held, %d told to come again, %d closed", held, told, closed)
	if held != 1_000 || told == 0 {
		t.Errorf("%d connections of one network are open, %d were refused with a problem", held, told)
	}
	done()
}

func poll(t *testing.T, c net.Conn, p *person) {
	t.Helper()
	_, err := fmt.Fprintf(c, "GET /v1/delivery/email/%s?wait=60 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", p.account.ID, p.token)
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostileIdleLongPolls: long-polls that nothing is delivered to.
func TestHostileIdleLongPolls(t *testing.T) {
	server := start(t)
	c := client(t, server)
	const users, each = 32, 60
	people := make([]*person, users)
	for i := range people {
		people[i] = newPerson(t, c, fmt.Sprintf("idle%d", i))
	}
	before := memory(t, server)
	done := neighbours(t, server)
	for i := range users * each {
		p := people[i%users]
		conn := mustDial(t, server, i%8, i)
		poll(t, conn, p)
	}
	waiting := func(n int) { // each has a goroutine that serves and one that looks whether the client is there
		t.Helper()
		for end := time.Now().Add(patience); memory(t, server).Goroutines < before.Goroutines+2*n; {
			if time.Now().After(end) {
				t.Fatal("not all long-polls are waiting")
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	waiting(users * each)
	bounded(t, fmt.Sprintf("%d long-polls", users*each), server, before, users*each*60<<10)
	var last net.Conn
	for i := range 5 { // one beyond the 64 of one user
		if i == 4 {
			waiting(users*each + 4)
		}
		last = mustDial(t, server, 9, 1)
		poll(t, last, people[0])
	}
	wantProblem(t, last, http.StatusTooManyRequests, keyapi.CodeRateLimited)
	done()
}
