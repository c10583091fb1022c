package proxy

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

// scripted is a provider that says a fixed text and listens to nothing.
type scripted struct {
	net.Conn
	said  *bytes.Reader
	heard bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.said.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.heard.Write(p) }
func (s *scripted) Close() error                { return nil }

func appendTo(t testing.TB, said []byte) (heard string, err error) {
	t.Helper()
	conn := &scripted{said: bytes.NewReader(said)}
	c := &appender{conn: conn, r: bufio.NewReaderSize(conn, maxProviderLine), stop: func() bool { return true }}
	if err = c.begin(t.Context(), IMAPUpstream{Username: "alice"}); err == nil {
		err = c.append("INBOX", &imapd.SealedUpload{Content: strings.NewReader("sealed"), Size: 6})
	}
	return conn.heard.String(), err
}

func TestAppender(t *testing.T) {
	heard, err := appendTo(t, []byte("* OK hello\r\n+ \r\n* CAPABILITY x\r\ng1 OK in\r\n+ go\r\n* 1 EXISTS\r\ng2 OK done\r\n"))
	if err != nil || !strings.HasSuffix(heard, "APPEND INBOX {6}\r\nsealed\r\n") {
		t.Errorf("%v: %q", err, heard)
	}
	for _, said := range []string{
		"", "* BYE\r\n", "* PREAUTH\r\n", "* OK\r\ng1 NO\r\n", "* OK\r\n+\r\ng1 NO\r\n", "* OK\r\n+\r\ng1 OK\r\ng2 NO\r\n",
		"* OK\r\n+\r\ng1 OK\r\n+\r\ng2 NO quota\r\n", "* OK\r\n+\r\ng1 OK\r\n+\r\n" + strings.Repeat("* x\r\n", maxProviderLines+1),
		"* OK " + strings.Repeat("x", maxProviderLine) + "\r\n",
	} {
		if _, err := appendTo(t, []byte(said)); err == nil {
			t.Errorf("no error after %.60q", said)
		}
	}
}

// FuzzAppender: whatever a provider says, the answer is an error or a stored
// message, in bounded time and memory.
func FuzzAppender(f *testing.F) {
	f.Add([]byte("* OK hello\r\n+ \r\ng1 OK in\r\n+ go\r\ng2 OK done\r\n"))
	f.Add([]byte("* OK\r\n+\r\ng1 NO\r\n"))
	f.Add([]byte("g1 OK\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		if heard, err := appendTo(t, said); err == nil && !strings.Contains(heard, "sealed") {
			t.Error("stored without the message")
		}
	})
}
