package proxy

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/groupid"
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

// scriptedInquiry asks a provider that says a fixed text.
func scriptedInquiry(said []byte) (heard string, found bool, err error) {
	conn := &scripted{said: bytes.NewReader(said)}
	c := &appender{conn: conn, r: bufio.NewReaderSize(conn, maxProviderLine), stop: func() bool { return true }}
	found, err = c.holds(sealedCriteria([]string{"<1@example.org>", "<2@example.org>"}, groupid.ID{1}))
	return conn.heard.String(), found, err
}

func TestInquiry(t *testing.T) {
	const inbox = "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
	for _, c := range []struct {
		said  string
		found bool
		want  string // the last thing heard of it
	}{
		{inbox + "g1 OK\r\ng2 OK\r\n* SEARCH\r\ng3 OK\r\n", false, "EXAMINE INBOX\r\n"},
		{inbox + "g1 OK\r\ng2 OK\r\n* SEARCH 4 5\r\ng3 OK\r\n", true, "HEADER Message-ID \"<2@example.org>\"\r\n"},
		{inbox + "* LIST (\\All \\HasNoChildren) \"/\" \"[x]/All Mail\"\r\ng1 OK\r\ng2 OK\r\n* SEARCH 4\r\ng3 OK\r\n", true, "EXAMINE \"[x]/All Mail\"\r\n"},
		{"* LIST (\\Noselect) \"/\" x\r\n* LIST () \"\\\\\" a\\b\r\n* LIST () NIL {3}\r\nabc\r\ng1 OK\r\ng2 NO\r\n", false, "EXAMINE a\\b\r\n"},
	} {
		heard, found, err := scriptedInquiry([]byte(c.said))
		if err != nil || found != c.found || !strings.Contains(heard, c.want) || strings.Count(heard, "EXAMINE") != 1 {
			t.Errorf("%q: %v, %v, heard %q", c.said, found, err, heard)
		}
	}
	for _, said := range []string{
		"", "g1 NO\r\n", inbox + "g1 OK\r\n", inbox + "g1 OK\r\ng2 NO\r\n", inbox + "g1 OK\r\ng2 OK\r\ng3 BAD\r\n",
		inbox + "g1 OK\r\ng2 OK\r\n* SEARCH\r\n", strings.Repeat("* x\r\n", inquiryLines+1),
	} {
		if _, _, err := scriptedInquiry([]byte(said)); err == nil {
			t.Errorf("no error after %.60q", said)
		}
	}
}

// TestLoginWithoutPlain: providers without the mechanism get LOGIN.
func TestLoginWithoutPlain(t *testing.T) {
	heard, err := appendTo(t, []byte("* OK hello\r\ng1 NO no such mechanism\r\n+\r\n+\r\ng2 OK in\r\n+\r\ng3 OK done\r\n"))
	if err != nil || !strings.Contains(heard, "g2 LOGIN {5}\r\nalice {0}\r\n\r\n") {
		t.Errorf("%v: %q", err, heard)
	}
}

// FuzzInquiry: whatever a provider says, nothing is sent to it but the three
// commands, and what names a mailbox stays one argument.
func FuzzInquiry(f *testing.F) {
	f.Add([]byte("* LIST () \"/\" INBOX\r\ng1 OK\r\ng2 OK\r\n* SEARCH 1\r\ng3 OK\r\n"))
	f.Add([]byte("* LIST () NIL \"a\" b\"\r\ng1 OK\r\ng2 NO\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		heard, _, _ := scriptedInquiry(said)
		for line := range strings.SplitSeq(strings.TrimSuffix(heard, "\r\n"), "\r\n") {
			_, command, _ := strings.Cut(line, " ")
			word, _, _ := strings.Cut(command, " ")
			if word != "LIST" && word != "EXAMINE" && word != "SEARCH" || strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("sent %q", line)
			}
		}
	})
}
