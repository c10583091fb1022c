package stack

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// IMAP is a client that adds nothing and hides nothing: it sends command
// lines and returns the octets of the answer.
type IMAP struct {
	t    testing.TB
	conn io.ReadWriteCloser
	r    *bufio.Reader
	n    int
}

func DialIMAP(t testing.TB, addr, caFile, user, password string) *IMAP {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: Authority(t, caFile), ServerName: "localhost"})
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * Deadline)); err != nil {
		t.Fatal(err)
	}
	c := &IMAP{t: t, conn: conn, r: bufio.NewReader(conn)}
	if greeting := c.Line(); !bytes.HasPrefix(greeting, []byte("* OK")) {
		t.Fatalf("greeting: %q", greeting)
	}
	c.OK("LOGIN " + user + " " + password)
	return c
}

// Line reads one line with its literals, the line breaks of the protocol included.
func (c *IMAP) Line() []byte {
	c.t.Helper()
	var out []byte
	for {
		l, err := c.r.ReadBytes('\n')
		if err != nil {
			c.t.Fatalf("read: %v (after %q)", err, out)
		}
		out = append(out, l...)
		n, ok := literalSize(l)
		if !ok {
			return out
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(c.r, lit); err != nil {
			c.t.Fatalf("read literal: %v", err)
		}
		out = append(out, lit...)
	}
}

func literalSize(line []byte) (int, bool) {
	s := strings.TrimRight(string(line), "\r\n")
	if !strings.HasSuffix(s, "}") {
		return 0, false
	}
	i := strings.LastIndexByte(s, '{')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.Atoi(s[i+1 : len(s)-1])
	return n, err == nil
}

// Do sends a command and returns the untagged responses and the tagged one.
func (c *IMAP) Do(command string) (untagged [][]byte, tagged string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("T%d", c.n)
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	for {
		l := c.Line()
		if rest, ok := bytes.CutPrefix(l, []byte(tag+" ")); ok {
			return untagged, strings.TrimRight(string(rest), "\r\n")
		}
		untagged = append(untagged, l)
	}
}

// Write sends octets as they are, for commands that a test does not finish.
func (c *IMAP) Write(octets []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(octets); err != nil {
		c.t.Fatal(err)
	}
}

// OK is do for commands that must succeed.
func (c *IMAP) OK(command string) [][]byte {
	c.t.Helper()
	untagged, tagged := c.Do(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%s: %s", command, tagged)
	}
	return untagged
}

// Append uploads one message with a synchronising literal and returns its UID.
func (c *IMAP) Append(mailbox, flags string, msg []byte) int {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("T%d", c.n)
	fmt.Fprintf(c.conn, "%s APPEND %s %s {%d}\r\n", tag, mailbox, flags, len(msg))
	if l := c.Line(); !bytes.HasPrefix(l, []byte("+")) {
		c.t.Fatalf("APPEND: %q", l)
	}
	if _, err := c.conn.Write(append(bytes.Clone(msg), "\r\n"...)); err != nil {
		c.t.Fatal(err)
	}
	for {
		l := string(c.Line())
		if !strings.HasPrefix(l, tag+" ") {
			continue
		}
		var validity, uid int
		if _, err := fmt.Sscanf(l, tag+" OK [APPENDUID %d %d]", &validity, &uid); err != nil {
			c.t.Fatalf("APPEND: %q", l)
		}
		return uid
	}
}

// Fetch returns the value of one item of one message.
func (c *IMAP) Fetch(uid int, item string) Value {
	c.t.Helper()
	for _, l := range c.OK(fmt.Sprintf("UID FETCH %d (%s)", uid, item)) {
		v, err := ParseFetch(l)
		if err != nil {
			c.t.Fatalf("UID FETCH %d (%s): %v in %q", uid, item, err, l)
		}
		if v == nil || v["UID"].Text() != strconv.Itoa(uid) {
			continue
		}
		name := strings.Replace(strings.ToUpper(item), ".PEEK", "", 1)
		if i := strings.LastIndexByte(name, '<'); i >= 0 && strings.Contains(name[i:], ".") {
			name = name[:i+strings.IndexByte(name[i:], '.')] + ">" // the answer tells the origin only
		}
		got, ok := v[name]
		if !ok {
			c.t.Fatalf("UID FETCH %d (%s): no %s in %q", uid, item, name, l)
		}
		return got
	}
	c.t.Fatalf("UID FETCH %d (%s): no answer", uid, item)
	return Value{}
}

// Search returns the UIDs that UID SEARCH gives.
func (c *IMAP) Search(criteria string) []int {
	c.t.Helper()
	var uids []int
	for _, l := range c.OK("UID SEARCH " + criteria) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(string(l)), "* SEARCH")
		if !ok {
			continue
		}
		for _, f := range strings.Fields(rest) {
			n, err := strconv.Atoi(f)
			if err != nil {
				c.t.Fatalf("UID SEARCH: %q", l)
			}
			uids = append(uids, n)
		}
	}
	return uids
}
