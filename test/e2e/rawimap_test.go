package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawIMAP is a client that adds nothing and hides nothing: it sends command
// lines and returns the octets of the answer.
type rawIMAP struct {
	t    *testing.T
	conn io.ReadWriteCloser
	r    *bufio.Reader
	n    int
}

// ioDeadline bounds every wait for a server in these tests.
const ioDeadline = 30 * time.Second

func dialIMAP(t *testing.T, addr, caFile, user, password string) *rawIMAP {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s: no certificate", caFile)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatalf("connect to %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * ioDeadline)); err != nil {
		t.Fatal(err)
	}
	c := &rawIMAP{t: t, conn: conn, r: bufio.NewReader(conn)}
	if greeting := c.line(); !bytes.HasPrefix(greeting, []byte("* OK")) {
		t.Fatalf("greeting: %q", greeting)
	}
	c.ok("LOGIN " + user + " " + password)
	return c
}

// line reads one line with its literals, the line breaks of the protocol included.
func (c *rawIMAP) line() []byte {
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

// do sends a command and returns the untagged responses and the tagged one.
func (c *rawIMAP) do(command string) (untagged [][]byte, tagged string) {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("T%d", c.n)
	if _, err := io.WriteString(c.conn, tag+" "+command+"\r\n"); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	for {
		l := c.line()
		if rest, ok := bytes.CutPrefix(l, []byte(tag+" ")); ok {
			return untagged, strings.TrimRight(string(rest), "\r\n")
		}
		untagged = append(untagged, l)
	}
}

// ok is do for commands that must succeed.
func (c *rawIMAP) ok(command string) [][]byte {
	c.t.Helper()
	untagged, tagged := c.do(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%s: %s", command, tagged)
	}
	return untagged
}

// append uploads one message with a synchronising literal and returns its UID.
func (c *rawIMAP) append(mailbox, flags string, msg []byte) int {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("T%d", c.n)
	fmt.Fprintf(c.conn, "%s APPEND %s %s {%d}\r\n", tag, mailbox, flags, len(msg))
	if l := c.line(); !bytes.HasPrefix(l, []byte("+")) {
		c.t.Fatalf("APPEND: %q", l)
	}
	if _, err := c.conn.Write(append(bytes.Clone(msg), "\r\n"...)); err != nil {
		c.t.Fatal(err)
	}
	for {
		l := string(c.line())
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

// fetch returns the value of one item of one message.
func (c *rawIMAP) fetch(uid int, item string) value {
	c.t.Helper()
	for _, l := range c.ok(fmt.Sprintf("UID FETCH %d (%s)", uid, item)) {
		v, err := parseFetch(l)
		if err != nil {
			c.t.Fatalf("UID FETCH %d (%s): %v in %q", uid, item, err, l)
		}
		if v == nil || v["UID"].text() != strconv.Itoa(uid) {
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
	return value{}
}

// search returns the UIDs that UID SEARCH gives.
func (c *rawIMAP) search(criteria string) []int {
	c.t.Helper()
	var uids []int
	for _, l := range c.ok("UID SEARCH " + criteria) {
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

// value is a parsed item: NIL, a string (quoted, literal or atom) or a list.
type value struct {
	str  []byte
	list []value
	kind byte // 'n', 's', 'l'
}

func (v value) text() string { return string(v.str) }

// String gives one form for all encodings of the same value.
func (v value) String() string {
	switch v.kind {
	case 'l':
		parts := make([]string, len(v.list))
		for i, e := range v.list {
			parts[i] = e.String()
		}
		return "(" + strings.Join(parts, " ") + ")"
	case 's':
		return strconv.Quote(string(v.str))
	}
	return "NIL"
}

// parseFetch gives the items of an untagged FETCH response, or nil for others.
func parseFetch(l []byte) (map[string]value, error) {
	i := bytes.Index(l, []byte(" FETCH ("))
	if i < 0 || !bytes.HasPrefix(l, []byte("* ")) {
		return nil, nil
	}
	p := &parser{b: l[i+len(" FETCH "):]}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if len(v.list)%2 != 0 {
		return nil, fmt.Errorf("odd number of elements")
	}
	items := map[string]value{}
	for i := 0; i < len(v.list); i += 2 {
		items[strings.ToUpper(v.list[i].text())] = v.list[i+1]
	}
	return items, nil
}

type parser struct {
	b []byte
	i int
}

func (p *parser) value() (value, error) {
	if p.i >= len(p.b) {
		return value{}, io.ErrUnexpectedEOF
	}
	switch c := p.b[p.i]; c {
	case '(':
		p.i++
		v := value{kind: 'l'}
		for {
			for p.i < len(p.b) && p.b[p.i] == ' ' {
				p.i++
			}
			if p.i < len(p.b) && p.b[p.i] == ')' {
				p.i++
				return v, nil
			}
			e, err := p.value()
			if err != nil {
				return v, err
			}
			v.list = append(v.list, e)
		}
	case '"':
		v := value{kind: 's'}
		for p.i++; p.i < len(p.b); p.i++ {
			switch p.b[p.i] {
			case '\\':
				p.i++
				if p.i < len(p.b) {
					v.str = append(v.str, p.b[p.i])
				}
			case '"':
				p.i++
				return v, nil
			default:
				v.str = append(v.str, p.b[p.i])
			}
		}
		return v, io.ErrUnexpectedEOF
	case '{':
		end := bytes.Index(p.b[p.i:], []byte("}\r\n"))
		if end < 0 {
			return value{}, io.ErrUnexpectedEOF
		}
		n, err := strconv.Atoi(string(p.b[p.i+1 : p.i+end]))
		start := p.i + end + 3
		if err != nil || start+n > len(p.b) {
			return value{}, fmt.Errorf("bad literal")
		}
		p.i = start + n
		return value{kind: 's', str: p.b[start:p.i]}, nil
	default:
		start, depth := p.i, 0
		for ; p.i < len(p.b); p.i++ {
			c := p.b[p.i]
			if c == '[' {
				depth++
			} else if c == ']' {
				depth--
			} else if depth == 0 && (c == ' ' || c == '(' || c == ')' || c == '\r') {
				break
			}
		}
		if start == p.i {
			return value{}, fmt.Errorf("unexpected %q at %d", p.b[p.i], p.i)
		}
		s := p.b[start:p.i]
		if strings.EqualFold(string(s), "NIL") {
			return value{kind: 'n'}, nil
		}
		return value{kind: 's', str: s}, nil
	}
}
