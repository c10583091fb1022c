package smtpd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/spool"
)

// clean reports by other means whether content is acceptable.
func clean(b []byte) bool {
	rest := bytes.ReplaceAll(b, []byte("\r\n"), nil)
	// Taking the line ends out must not join halves of others.
	return !bytes.ContainsAny(rest, "\r\n\x00") && !regexp.MustCompile(`\r\r\n|\r\n\n`).Match(b)
}

func FuzzChecker(f *testing.F) {
	for _, v := range endOfData {
		f.Add([]byte("Subject: x\r\n\r\nfirst"+v+"second\r\n"), uint8(3))
	}
	f.Add([]byte("a\r\nb\r\n"), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		c := &checker{}
		var err error
		for rest := b; len(rest) > 0 && err == nil; {
			n := min(int(step)+1, len(rest))
			_, err = c.Write(rest[:n])
			rest = rest[n:]
		}
		if err == nil {
			err = c.finish()
		}
		if (err == nil) != clean(b) {
			t.Fatalf("checker says %v about %q", err, b)
		}
		if err != nil {
			return
		}
		longest := 0
		for line := range bytes.SplitSeq(b, []byte("\r\n")) {
			longest = max(longest, len(line))
		}
		if c.longest != longest {
			t.Errorf("longest line %d, want %d", c.longest, longest)
		}
	})
}

// bytesConn is a connection from which some octets can be read.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(p []byte) (int, error)     { return c.r.Read(p) }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }
func (bytesConn) Close() error                     { return nil }

// FuzzData runs octets through the guard and the reception of a message: what
// comes out is what went in, or an error.
func FuzzData(f *testing.F) {
	for _, v := range endOfData {
		f.Add([]byte("Subject: x\r\n\r\nfirst" + v + "second\r\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g := newGuard(bytesConn{r: bytes.NewReader(b)}, Timeouts{}.withDefaults(), func(*guard) {})
		if err := g.enterData(true); err != nil {
			t.Fatal(err)
		}
		content := spool.New(t.TempDir(), 64)
		defer content.Close()
		var e Envelope
		err := receive(readerOnly{g}, content, &e)
		if err == nil && !clean(b) {
			t.Fatalf("accepted %q", b)
		}
		var said *smtp.SMTPError
		if err != nil && clean(b) && !speaksHTTP(b) {
			t.Fatalf("refused %q: %v", b, err)
		}
		if err != nil && !errors.As(err, &said) && !errors.As(err, new(*Refusal)) {
			t.Fatalf("error %v is no reply", err)
		}
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.NewSectionReader(content, 0, content.Size()))
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("content %q, %v; want %q", got, err, b)
		}
	})
}

type readerOnly struct{ io.Reader }

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b.c", `a b@c.d`, "a\r\nb@c.d", `a"\b@c`, "\u00fc@\u00e4.example", "x@[127.0.0.1]", "a> SIZE=1@b.c"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8 bool) {
		wire, err := wireAddress(s, utf8)
		if err != nil {
			return
		}
		// Outside of quotes nothing may end the path, and nowhere a line.
		bare := regexp.MustCompile(`"(?:[^"\\]|\\.)*"`).ReplaceAllString(wire, "")
		if strings.ContainsAny(bare, "<> \t,;") || strings.ContainsAny(wire, "\r\n\x00") {
			t.Fatalf("%q became %q", s, wire)
		}
		if again, err := recheckAddress(wire, utf8); err != nil || again != wire {
			t.Fatalf("%q became %q, then %q, %v", s, wire, again, err)
		}
	})
}
