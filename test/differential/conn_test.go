package differential

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// deadline bounds every wait for a server.
const deadline = 20 * time.Second

// conn is a client that notes every octet that it reads.
type conn struct {
	net.Conn
	r *bufio.Reader
	n int
	// validity of the prepared mailboxes by name, for QRESYNC.
	validity map[string]string
}

// dialTLS connects to a server whose certificate is for name.
func dialTLS(addr, caFile, name string) (*conn, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", caFile)
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return newConn(c)
}

// newConn reads the greeting.
func newConn(c net.Conn) (*conn, error) {
	x := &conn{Conn: c, r: bufio.NewReader(c)}
	greeting, err := x.response()
	if err == nil && !strings.HasPrefix(greeting, "* OK") {
		err = fmt.Errorf("greeting: %q", greeting)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return x, nil
}

// response reads one response with its literals.
func (c *conn) response() (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		return "", err
	}
	var out bytes.Buffer
	for {
		line, err := c.r.ReadBytes('\n')
		out.Write(line)
		if err != nil {
			return out.String(), err
		}
		if b := out.Bytes(); bytes.HasPrefix(b, []byte("* OK")) || b[0] != '*' {
			return out.String(), nil
		}
		n, ok := literalSize(line)
		if !ok {
			return out.String(), nil
		}
		if _, err := io.CopyN(&out, c.r, n); err != nil {
			return out.String(), err
		}
	}
}

func literalSize(line []byte) (int64, bool) {
	s := strings.TrimSuffix(string(line), "}\r\n")
	i := strings.LastIndexByte(s, '{')
	if i < 0 || len(s) == len(line) {
		return 0, false
	}
	n, err := strconv.ParseInt(s[i+1:], 10, 64)
	return n, err == nil
}

// do runs one command and returns the untagged responses and the tagged one.
func (c *conn) do(text string) ([]string, string, error) {
	c.n++
	tag := fmt.Sprintf("other%d", c.n)
	if _, err := io.WriteString(c, tag+" "+text+"\r\n"); err != nil {
		return nil, "", err
	}
	var untagged []string
	for {
		l, err := c.response()
		if err != nil {
			return untagged, "", fmt.Errorf("%s: %w (after %q)", text, err, l)
		}
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			return untagged, rest, nil
		}
		untagged = append(untagged, l)
	}
}

// ok is do for a command that must succeed.
func (c *conn) ok(t testing.TB, text string) []string {
	t.Helper()
	untagged, tagged, err := c.do(text)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(tagged, "OK") {
		t.Fatalf("%s: %s", text, tagged)
	}
	return untagged
}

// send writes text in segments of the given sizes, over and over.
func (c *conn) send(text string, cuts []int) error {
	for i := 0; len(text) > 0; i++ {
		k := min(len(text), cuts[i%len(cuts)])
		if _, err := io.WriteString(c, text[:k]); err != nil {
			return err
		}
		text = text[k:]
	}
	return nil
}

// run does one step and returns the responses in their order.
func (c *conn) run(s *step) ([]string, error) {
	if s.idle {
		return nil, errors.New("IDLE takes two halves")
	}
	var got []string
	waiting := map[string]bool{}
	read := func() error {
		l, err := c.response()
		if err != nil {
			return fmt.Errorf("%w (after %q)", err, l)
		}
		got = append(got, l)
		tag, _, _ := strings.Cut(l, " ")
		delete(waiting, tag)
		return nil
	}
	var out strings.Builder
	for _, cmd := range s.burst {
		waiting[cmd.tag] = true
		for i, p := range cmd.pieces {
			if i > 0 {
				// A synchronising literal: the server asks for it, or answers.
				if err := c.send(out.String(), s.cuts); err != nil {
					return got, err
				}
				out.Reset()
				for waiting[cmd.tag] {
					if err := read(); err != nil {
						return got, err
					}
					if strings.HasPrefix(got[len(got)-1], "+") {
						break
					}
				}
				if !waiting[cmd.tag] {
					break
				}
			}
			out.WriteString(c.expand(p))
		}
	}
	if err := c.send(out.String(), s.cuts); err != nil {
		return got, err
	}
	for len(waiting) > 0 {
		if err := read(); err != nil {
			return got, err
		}
	}
	return got, nil
}

// expand puts the UIDVALIDITY of prepared mailboxes into a command.
func (c *conn) expand(text string) string {
	for name, v := range c.validity {
		text = strings.ReplaceAll(text, "(QRESYNC (%"+name+"% ", "(QRESYNC ("+v+" ")
	}
	return text
}

// idleBegin sends IDLE and reads the continuation request.
func (c *conn) idleBegin(cuts []int) ([]string, error) {
	if err := c.send("idle IDLE\r\n", cuts); err != nil {
		return nil, err
	}
	return c.until(func(l string) bool { return strings.HasPrefix(l, "+") || strings.HasPrefix(l, "idle ") })
}

// idleEnd reads until a response with the word, "" for none, says DONE, and
// reads to the tagged response.
func (c *conn) idleEnd(word string, cuts []int) ([]string, error) {
	var got []string
	if word != "" {
		var err error
		if got, err = c.until(func(l string) bool { return strings.Contains(l, word) }); err != nil {
			return got, err
		}
	}
	if err := c.send("DONE\r\n", cuts); err != nil {
		return got, err
	}
	rest, err := c.until(func(l string) bool { return strings.HasPrefix(l, "idle ") })
	return append(got, rest...), err
}

func (c *conn) until(last func(string) bool) ([]string, error) {
	var got []string
	for {
		l, err := c.response()
		if err != nil {
			return got, fmt.Errorf("%w (after %q)", err, l)
		}
		got = append(got, l)
		if last(l) {
			return got, nil
		}
	}
}
