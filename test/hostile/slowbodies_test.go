package hostile

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

// slowTransaction announces a long body and sends the beginning of it.
func slowTransaction(t *testing.T, server *process.Process, p *person, network, announced, sent int) net.Conn {
	t.Helper()
	c := mustDial(t, server, network, 1)
	if _, err := fmt.Fprint(c, head("POST", "/v1/tx", p.token, fmt.Sprintf("Content-Length: %d\r\n", announced)), strings.Repeat(" ", sent)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestHostileSlowLargeBodies: users who begin many long transactions and do not
// go on keep nobody from carrying out long ones; what they hold is what they have
// sent, and they are cut off.
func TestHostileSlowLargeBodies(t *testing.T) {
	server := start(t)
	c := client(t, server)
	honest := newPerson(t, c, "honest")
	before := memory(t, server)
	done := neighbours(t, server)
	const users, each = 8, 8
	var slow []net.Conn
	for u := range users {
		p := newPerson(t, c, fmt.Sprintf("slow%d", u))
		for i := range each {
			slow = append(slow, slowTransaction(t, server, p, 1+u, 60<<20, 1+i%2*300<<10))
		}
	}
	for n := range uint64(4) {
		put := keyapi.Object{ID: honest.object, Counter: n + 1, Data: make([]byte, 8<<20)}
		if _, err := c.Tx(t.Context(), honest.token, keyapi.Tx{Put: []keyapi.Object{put}}); err != nil {
			t.Fatalf("long transaction %d of somebody else: %v", n, err)
		}
	}
	// Beside what they have sent, for which buffers have room twice: copies of the
	// honest user's long transactions.
	bounded(t, fmt.Sprintf("%d slow bodies of 60 MiB each", len(slow)), server, before, int64(len(slow))*600<<10+4*8<<20)
	for i, conn := range slow {
		status, problem, err := answer(t, conn, bufio.NewReader(conn))
		if err != nil || status != http.StatusTooManyRequests || problem.Code != keyapi.CodeRateLimited || !strings.Contains(problem.Detail, "slowly") {
			t.Fatalf("slow body %d: %d %+v, %v", i, status, problem, err)
		}
	}
	bounded(t, "after they were cut off", server, before, 16<<20)
	done()
}
