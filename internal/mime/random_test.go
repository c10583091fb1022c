package mime

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
)

var randomRounds = flag.Int("rounds", 2000, "messages that TestDovecotRandom makes")

// messageMaker makes odd messages out of pieces that parsers disagree about.
type messageMaker struct {
	*rand.Rand
	marks []string
	// starred messages have parameters like name*, the others like name*0:
	// the server takes the former for continued if the latter come before.
	starred bool
}

func (m *messageMaker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m *messageMaker) chance(percent int) bool { return m.IntN(100) < percent }

func (m *messageMaker) space() string {
	return m.pick("", "", "", " ", "  ", "\t", "\r\n ", " (c) ", "(a(b)c)", " (\\)) ", "\r\n\t")
}

func (m *messageMaker) word() string {
	return m.pick("a", "b.c", "Bob", "x-y", "\"q r\"", "\"a\\\"b\"", "=?utf-8?q?=C3=BC?=", "\xc3\xbc", "a/b", "1", ".", "..", "\"\"", "é", "\"un", "foo.", ".bar")
}

func (m *messageMaker) address() string {
	s := ""
	if m.chance(50) {
		for range m.IntN(4) {
			s += m.word() + m.space() + m.pick(" ", " ", "")
		}
	}
	spec := m.word() + m.space() + m.pick("@", "@", "@", "@", "", "@@", ",") + m.space() +
		m.pick("a.example", "b", "[192.0.2.1]", "[x", "c . d", "d..e", "", ".f", "g.", "\"h\"")
	switch m.IntN(6) {
	case 0:
		return s + "<" + m.space() + spec + m.space() + ">" + m.space()
	case 1:
		return s + "<" + m.pick("@r:", "@r,@s:", "@r", "@:", "@") + spec + ">"
	case 2:
		return s + "<" + spec
	case 3:
		return m.word() + m.space() + ":" + m.space() + spec + m.pick(";", "", ",", "; x@y")
	default:
		return spec + m.space() + m.pick("", "", "(Name)", "junk", ";", ">")
	}
}

func (m *messageMaker) addresses() string {
	n := m.IntN(4)
	list := make([]string, n)
	for i := range list {
		list[i] = m.address()
	}
	// not folded at the end: the server has an own view of an unclosed quote there
	return m.space() + strings.TrimRight(strings.Join(list, m.space()+","+m.space()), " \t\r\n")
}

func (m *messageMaker) value() string {
	s := ""
	for range m.IntN(6) {
		s += m.word() + m.space()
	}
	return s
}

func (m *messageMaker) params() string {
	s := ""
	for range m.IntN(4) {
		name := m.pick("charset", "name", "title", "NAME", "x", "")
		if m.starred {
			name += m.pick("", "", "*", "*x")
		} else {
			name += m.pick("", "", "", "*0", "*1", "*0*", "*1*", "*2", "*x", "*00")
		}
		val := m.pick("a", "\"b c\"", "utf-8''%C3%BC", "", "\"", "a b", "=?x?=", "us-ascii", "\"x\\\"y\"", "x(", "%", "(c)d")
		s += m.space() + m.pick(";", ";", ";", "", ";;") + m.space() + name + m.space() + m.pick("=", "=", "=", "") + m.space() + val
	}
	return s
}

func (m *messageMaker) contentHeader() string {
	h := ""
	if m.chance(60) {
		h += "Content-Type:" + m.space() + m.pick("text/plain", "text/html", "TEXT", "image/png", "text/", "/", "", "a/b/c", "x", "message/partial", "message/delivery-status", "multipart", "(c)text/(d)x") + m.params() + "\r\n"
	}
	if m.chance(30) {
		h += "Content-Transfer-Encoding:" + m.space() + m.pick("base64", "7BIT", "quoted-printable", "x y", "", "\"base64\"", "8bit;") + m.space() + "\r\n"
	}
	if m.chance(30) {
		h += "Content-Disposition:" + m.space() + m.pick("attachment", "Inline", "", "\"x\"", "a/b") + m.params() + "\r\n"
	}
	if m.chance(20) {
		h += m.pick("Content-ID", "Content-MD5", "Content-Description", "Content-Location", "content-id") + ":" + m.space() + m.value() + "\r\n"
	}
	if m.chance(20) {
		h += "Content-Language:" + m.space() + m.pick("en", "en,de", "en , , de", "", ",", "\"en\"", "e/n, x;y", "en de") + m.space() + "\r\n"
	}
	return h
}

// lines make a body out of things that look like boundaries.
func (m *messageMaker) lines() string {
	s := ""
	for range m.IntN(5) {
		s += m.pick("", "text", "--", "-- ", "--x", " ", "--b", "---b", "\t") + "\r\n"
	}
	if m.chance(10) {
		s += "no line end"
	}
	return s
}

func (m *messageMaker) entity(depth int) string {
	switch kind := m.IntN(10); {
	case depth > 4 || kind < 5:
		return m.contentHeader() + m.pick("\r\n", "\r\n", "\r\n", "") + m.lines()
	case kind < 7:
		return "Content-Type: message/rfc822" + m.params() + "\r\n" + m.contentHeader() + m.pick("\r\n", "\r\n", "") + m.message(depth+1)
	default:
		return m.multipart(depth)
	}
}

func (m *messageMaker) multipart(depth int) string {
	mark := m.pick("b", "bb", "x", "b--", "", "--", "bb1")
	m.marks = append(m.marks, mark)
	s := "Content-Type: multipart/" + m.pick("mixed", "digest", "", "alternative") + m.params() + m.pick(";", "; ") +
		"boundary=" + m.pick("\""+mark+"\"", "\""+mark+"\"", mark) + "\r\n" + m.contentHeader() + m.pick("\r\n", "\r\n", "\r\n", "")
	if m.chance(30) {
		s += m.lines()
	}
	for range m.IntN(4) {
		s += m.pick("\r\n", "\r\n", "") + "--" + m.someMark(mark) + m.pick("\r\n", "\r\n", " \r\n", "x\r\n") + m.entity(depth+1)
	}
	if m.chance(80) {
		s += m.pick("\r\n", "\r\n", "") + "--" + m.someMark(mark) + "--" + m.pick("\r\n", "\r\n", "x\r\n", "")
	}
	if m.chance(20) {
		s += m.lines()
	}
	return s
}

func (m *messageMaker) someMark(mark string) string {
	if m.chance(85) {
		return mark
	}
	return m.pick(m.marks...)
}

func (m *messageMaker) message(depth int) string {
	h := ""
	for _, name := range []string{"From", "To", "cc", "Bcc", "Sender", "Reply-To"} {
		for m.chance(25) {
			h += name + m.pick("", "", " ") + ":" + m.addresses() + "\r\n"
		}
	}
	for _, name := range []string{"Subject", "Date", "Message-ID", "In-reply-to", "X-Other"} {
		for m.chance(20) {
			h += name + ":" + m.space() + m.value() + "\r\n"
		}
	}
	if m.chance(10) {
		h += m.pick("no colon\r\n", ": x\r\n", "\x01: y\r\n", "Subject\r\n")
	}
	if m.chance(70) {
		h += "MIME-Version: 1.0\r\n"
	}
	return h + m.entity(depth)
}

// TestDovecotRandom compares random messages with a live server.
func TestDovecotRandom(t *testing.T) {
	if *imapServed == "" {
		t.Skip("neither -imap nor CLOUDMLS_IMAP_COMMAND names a server")
	}
	s := startServer(t, *imapServed)
	failed := 0
	for batch := range *randomRounds / 100 {
		var messages [][]byte
		for i := range 100 {
			m := &messageMaker{Rand: rand.New(rand.NewPCG(uint64(batch), uint64(i)))}
			m.starred = m.chance(50)
			text := m.message(0)
			if text == "" || text[0] == ' ' || text[0] == '\t' {
				text = "X: y\r\n" + text
			}
			messages = append(messages, []byte(text))
		}
		if err := s.load(messages); err != nil {
			t.Fatal(err)
		}
		for i, b := range messages {
			if diffs := s.compare(i+1, b); len(diffs) > 0 {
				t.Errorf("%d/%d %.2000q:\n%.2000s", batch, i, b, diffs[0])
				if failed++; failed > 10 {
					return
				}
			}
		}
	}
}
