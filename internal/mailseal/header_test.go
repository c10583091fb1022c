package mailseal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func TestParseHeaderAddresses(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        string // "name|address, ..."
	}{
		{"one", "bob@b.example", "|bob@b.example"},
		{"name", "Bob Example <bob@b.example>", "Bob Example|bob@b.example"},
		{"quoted", "\"Example, Bob\" <bob@b.example>, carol@c.example", "Example, Bob|bob@b.example, |carol@c.example"},
		{"comment", "bob@b.example (Bob (the) builder)", "Bob (the) builder|bob@b.example"},
		{"comments everywhere", "(a) Bob (b) <(c) bob (d) @ (e) b.example (f)> (g)", "Bob|bob@b.example"},
		{"encoded", "=?utf-8?q?J=C3=BCrgen?= =?iso-8859-1?q?_M=FCller?= <j@a.example>", "Jürgen Müller|j@a.example"},
		{"windows-1252", "=?windows-1252?Q?caf=E9?= <c@a.example>", "café|c@a.example"},
		{"encoded in quotes", "\"=?utf-8?b?5pel5pys?=\" <t@a.example>", "日本|t@a.example"},
		{"undecodable", "=?x-unknown?q?=FF?= <t@a.example>", "=?x-unknown?q?=FF?=|t@a.example"},
		{"folded", "Bob\n Example\n\t<bob\n @b.example>,\n carol@c.example", "Bob Example|bob@b.example, |carol@c.example"},
		{"group", "Friends: bob@b.example, C <carol@c.example>;", "|bob@b.example, C|carol@c.example"},
		{"empty group", "undisclosed-recipients:;", ""},
		{"groups and more", "a@a.example, G:;, H: b@b.example; , c@c.example", "|a@a.example, |b@b.example, |c@c.example"},
		{"route", "<@r1.example,@r2.example:bob@b.example>", "|bob@b.example"},
		{"obsolete dots", "Joe Q. Public <joe . q@b . example>", ""},
		{"literal", "bob@[192.0.2.1]", "|bob@[192.0.2.1]"},
		{"quoted local part", "\"bob smith\"@b.example", "|\"bob smith\"@b.example"},
		{"needlessly quoted", "\"bob\"@b.example", "|bob@b.example"},
		{"escapes", "\"a\\\"b\\\\c\"@b.example", "|\"a\\\"b\\\\c\"@b.example"},
		{"dots", "a..b@b.example", "|a..b@b.example"},
		{"utf-8", "Jürgen <jürgen@bücher.example>", "Jürgen|jürgen@bücher.example"},
		{"case is kept", "Bob@B.Example", "|Bob@B.Example"},
		{"empty", "", ""},
		{"comment alone", "(nobody)", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ParseHeader(crlf("To: " + tt.value + "\n\n"))
			if tt.name == "obsolete dots" {
				if err == nil {
					t.Errorf("got %v", h.To) // an own server of ours would not take it for an address
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range h.To {
				got = append(got, m.Name+"|"+m.Address)
			}
			if s := strings.Join(got, ", "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

// TestParseHeaderRefuses: whom a message goes to is not guessed.
func TestParseHeaderRefuses(t *testing.T) {
	for _, value := range []string{
		"bob", "bob@", "@b.example", "<>", "Bob <bob>", "Bob <bob@b.example", "bob@b.example carol@c.example",
		"a@a.example; b@b.example", "\"unclosed@b.example", "(unclosed bob@b.example", "bob@b.example (unclosed",
		"G: bob@b.example", "=?utf-8?q?bob=40b.example?=", "bob@@b.example", "bob@b..example", "bob@b.example,,x", "\xff@b.example",
		"\"a\x01b\"@b.example", "<bob@b.example>>", "bob@b.example>", "a@a.example,\x00b@b.example",
	} {
		for _, name := range []string{"From", "To", "Cc", "Bcc", "Reply-To", "Sender"} {
			if h, err := ParseHeader(crlf(name + ": " + value + "\n\n")); !errors.Is(err, ErrHeader) {
				t.Errorf("%s: %q gives %+v, %v", name, value, h, err)
			} else if strings.Contains(err.Error(), "bob") {
				t.Errorf("the error shows an address: %v", err)
			}
		}
	}
	if _, err := ParseHeader([]byte("To: " + strings.Repeat("a@b.example,", 5000) + "a@b.example\r\n\r\n")); !errors.Is(err, ErrHeader) {
		t.Errorf("very many: %v", err)
	}
}

func TestParseHeaderRest(t *testing.T) {
	h, err := ParseHeader(crlf(`From: a@a.example
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
 again
Date: Mon, 02 Nov 2026 10:00:00 +0100 (CET)
Message-ID: <m@a.example>
In-Reply-To: "Your message" of Monday <x@b.example> (<not@this>)
References: <a@a.example>
	<b@b.example><c@c.example>
 <broken d@d.example> <e
List-Unsubscribe: <mailto:x@l.example>
Auto-Submitted: Auto-Replied (vacation); x=y
Resent-From: r@r.example

To: not@header.example
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Header{
		From: []Mailbox{{Address: "a@a.example"}}, Subject: "Grüße again", Date: "Mon, 02 Nov 2026 10:00:00 +0100",
		MessageID: "<m@a.example>", InReplyTo: []string{"<x@b.example>"},
		References: []string{"<a@a.example>", "<b@b.example>", "<c@c.example>"},
		ListFields: true, AutoSubmitted: "auto-replied", Resent: true,
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %+v\nwant %+v", h, want)
	}
	if h, err := ParseHeader(nil); err != nil || !reflect.DeepEqual(h, &Header{}) {
		t.Errorf("nothing gives %+v, %v", h, err)
	}
}

func TestParseHeaderDuplicates(t *testing.T) {
	h, err := ParseHeader(crlf("From: a@a.example\nTo: b@b.example\nfrom : c@c.example\nTO: d@d.example\nCc: e@e.example\nSubject: x\nSubject: y\nReceived: x\nReceived: y\nDate: x\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(h.Duplicates, " "); got != "From Subject To" {
		t.Errorf("duplicates %q", got)
	}
	if len(h.From) != 2 || len(h.To) != 2 {
		t.Errorf("addresses of a field were lost: %+v", h)
	}
}

func TestReferencesAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, " <%d@x>", i)
	}
	h, err := ParseHeader([]byte("References:" + b.String() + "\r\n\r\n"))
	if err != nil || len(h.References) != maxReferences || h.References[0] != "<0@x>" || h.References[maxReferences-1] != "<2999@x>" {
		t.Errorf("%d references, %v", len(h.References), err)
	}
	o := testOptions()
	o.Outer.References = strings.Join(h.References, " ")
	outer, s := seal(t, []byte("From: a@a.example\r\n\r\nx"), o)
	checkOuter(t, outer, s)
}

func TestReadHeader(t *testing.T) {
	long := "X: " + strings.Repeat("x", 100_000) + "\r\n"
	for _, tt := range []struct{ name, message, want string }{
		{"usual", "A: b\r\n\r\nbody\r\n\r\n", "A: b\r\n\r\n"},
		{"LF", "A: b\n\nbody", "A: b\n\n"},
		{"none", "\r\nbody", "\r\n"},
		{"no body", "A: b\r\n", "A: b\r\n"},
		{"no line end", "A: b", "A: b"},
		{"empty", "", ""},
		{"long", long + "\r\nbody", long + "\r\n"},
		{"mixed", "A: b\r\n\nbody", "A: b\r\n\n"},
		{"CR", "A: b\r\r\n\r\n", "A: b\r\r\n\r\n"},
	} {
		got, err := ReadHeader(strings.NewReader(tt.message), int64(len(tt.message)))
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %.80q, %v", tt.name, got, err)
		}
	}
	var limit *mime.LimitError
	for _, n := range []int{1 << 20, 64 << 20} {
		big := "X: " + strings.Repeat("x", n)
		if _, err := ReadHeader(strings.NewReader(big), int64(len(big))); !errors.As(err, &limit) {
			t.Errorf("%d octets: %v", n, err)
		}
	}
}

func TestStripBcc(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"none", "From: a\n\nBcc: body\n", "From: a\n\nBcc: body\n"},
		{"one", "From: a\nBcc: x\nTo: b\n\nbody\n", "From: a\nTo: b\n\nbody\n"},
		{"folded", "Bcc: x,\n y,\n\tz\nTo: b\n\nbody\n", "To: b\n\nbody\n"},
		{"several", "bcc: x\nA: b\nBCC : y\nC: d\nResent-Bcc: z\n\nbody", "A: b\nC: d\n\nbody"},
		{"last", "A: b\nBcc: x\n\nbody", "A: b\n\nbody"},
		{"only", "Bcc: x\n\nbody", "\nbody"},
		{"no blank line", "A: b\nBcc: x", "A: b\n"},
		{"not quite", "X-Bcc: x\nBccc: y\nBcc\n\nBcc: z\n", "X-Bcc: x\nBccc: y\nBcc\n\nBcc: z\n"},
		{"odd octets stay", "A:  b \t \nno colon\nBcc: x\n: y\n \n\n\n\n", "A:  b \t \nno colon\n: y\n \n\n\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, eol := range []string{"\n", "\r\n"} {
				in, want := strings.ReplaceAll(tt.in, "\n", eol), strings.ReplaceAll(tt.want, "\n", eol)
				r, n, err := StripBcc(strings.NewReader(in), int64(len(in)))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(r, 0, n))
				if err != nil || string(got) != want || n != int64(len(want)) {
					t.Errorf("got %q, %d, %v", got, n, err)
				}
				for off := range len(want) {
					one := make([]byte, 2)
					if k, err := r.ReadAt(one, int64(off)); !bytes.Equal(one[:k], []byte(want)[off:min(off+2, len(want))]) {
						t.Errorf("at %d: %q, %v", off, one[:k], err)
					}
				}
			}
		})
	}
}

// TestThreat65_BccSealed: what is sealed for the people of a group has no trace
// of blind recipients, nor has its size.
func TestThreat65_BccSealed(t *testing.T) {
	with := crlf("From: a@a.example\nTo: b@b.example\nBcc: hidden@h.example,\n other@h.example\nSubject: x\n\nbody\n")
	without := crlf("From: a@a.example\nTo: b@b.example\nSubject: x\n\nbody\n")
	r, n, err := StripBcc(bytes.NewReader(with), int64(len(with)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var record []byte
	o := testOptions()
	o.Control = func(b []byte) ([]byte, error) { record = bytes.Clone(b); return sealControl(b) }
	s, err := Seal(&out, r, n, o)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(record, []byte("hidden")) || bytes.Contains(record, []byte("h.example")) {
		t.Error("a blind recipient is in the control record")
	}
	if _, s2 := seal(t, without, testOptions()); s.Size != s2.Size {
		t.Errorf("%d octets with, %d without blind recipients", s.Size, s2.Size)
	}
}

func TestConversation(t *testing.T) {
	id := [16]byte{0xab, 15: 0xcd}
	text := "ab0000000000000000000000000000cd"
	for _, tt := range []struct {
		header string
		ok     bool
	}{
		{"CloudMLS-Conversation: " + text, true},
		{"X: y\r\ncloudmls-conversation :\r\n " + text + " ", true},
		{"CloudMLS-Conversation: " + text + "00", false},
		{"CloudMLS-Conversation: " + text[2:], false},
		{"CloudMLS-Conversation: xyz", false},
		{"X: y", false},
	} {
		if got, ok := Conversation([]byte(tt.header + "\r\n\r\n")); ok != tt.ok || ok && got != id {
			t.Errorf("%q: %x %v", tt.header, got, ok)
		}
	}
}
