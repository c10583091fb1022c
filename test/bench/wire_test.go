package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// wire is an IMAP client that does next to nothing with what it reads, so that
// the servers are measured and not it.
type wire struct {
	b    *testing.B
	conn *tls.Conn
	n    int
	buf  []byte
	last string // the end of the last answer, up to 4 KiB
}

func dial(b *testing.B, addr, caFile, user, password string) *wire {
	b.Helper()
	pool, err := roots(caFile)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	w := &wire{b: b, conn: conn, buf: make([]byte, 256<<10)}
	if _, err := conn.Read(w.buf); err != nil { // the greeting
		b.Fatal(err)
	}
	w.do("LOGIN " + user + " " + password)
	return w
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return pool, nil
}

// through connects through a gateway, past connects to the provider itself.
func through(b *testing.B, g *stack.Gateway, user string) *wire {
	return dial(b, g.IMAP, g.CA, user, g.Password)
}

func past(b *testing.B, user string) *wire {
	p := lab.Of(b, user)
	return dial(b, fmt.Sprintf("%s:%d", p.Host, p.IMAP.TLSPort), lab.CA, user, stack.Password(user))
}

// do sends a command and reads to its end; it returns how much that was.
func (w *wire) do(command string) int {
	w.b.Helper()
	return w.send(fmt.Appendf(nil, "T%d %s\r\n", w.n+1, command), 1)
}

// pipeline sends n commands at once and reads the answers of all.
func (w *wire) pipeline(n int, command func(i int) string) int {
	w.b.Helper()
	var all bytes.Buffer
	for i := range n {
		fmt.Fprintf(&all, "T%d %s\r\n", w.n+1+i, command(i))
	}
	return w.send(all.Bytes(), n)
}

// send writes octets and reads until the last of n commands is answered with OK.
func (w *wire) send(octets []byte, n int) int {
	w.b.Helper()
	w.n += n
	failed := make(chan error, 1)
	go func() { // a pipeline may be larger than what the server takes before it answers
		_, err := w.conn.Write(octets)
		failed <- err
	}()
	end := fmt.Appendf(nil, "\r\nT%d ", w.n)
	tail := []byte("\r\n")
	total := 0
	for {
		k, err := w.conn.Read(w.buf)
		if err != nil {
			w.b.Fatalf("read: %v", err)
		}
		total += k
		tail = append(tail, w.buf[:k]...)
		if i := bytes.LastIndex(tail, end); i >= 0 && bytes.HasSuffix(tail, []byte("\r\n")) {
			if !bytes.HasPrefix(tail[i+len(end):], []byte("OK")) {
				w.b.Fatalf("answer: %q", tail[i:])
			}
			if err := <-failed; err != nil {
				w.b.Fatal(err)
			}
			w.last = string(tail)
			return total
		}
		if keep := 4096; len(tail) > keep {
			tail = append(tail[:0], tail[len(tail)-keep:]...)
		}
	}
}

// fill appends n messages to a new mailbox, past the gateway.
func fill(b *testing.B, user, mailbox string, n int, message func(i int) []byte) {
	b.Helper()
	w := past(b, user)
	w.do("CREATE " + mailbox)
	for from := 0; from < n; from += 100 {
		var all bytes.Buffer
		k := min(100, n-from)
		for i := range k {
			m := message(from + i)
			fmt.Fprintf(&all, "T%d APPEND %s {%d+}\r\n%s\r\n", w.n+1+i, mailbox, len(m), m)
		}
		w.send(all.Bytes(), k)
	}
}

// octetsOf reads one section of one message into memory.
func octetsOf(b *testing.B, w *wire, uid int, section string) []byte {
	b.Helper()
	w.n++
	if _, err := fmt.Fprintf(w.conn, "T%d UID FETCH %d (BODY.PEEK[%s])\r\n", w.n, uid, section); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(w.conn)
	line, err := r.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	var size int
	if _, err := fmt.Sscanf(line[bytes.LastIndexByte([]byte(line), '{'):], "{%d}", &size); err != nil {
		b.Fatalf("%q: %v", line, err)
	}
	octets := make([]byte, size)
	if _, err := io.ReadFull(r, octets); err != nil {
		b.Fatal(err)
	}
	for {
		if line, err = r.ReadString('\n'); err != nil {
			b.Fatal(err)
		}
		if bytes.HasPrefix([]byte(line), fmt.Appendf(nil, "T%d ", w.n)) {
			return octets
		}
	}
}
