package mailseal

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cloudmls/gateway/internal/mime"
)

const traced = "Return-Path: <alice@a.example>\r\n" +
	"Delivered-To: bob@b.example\r\n" +
	"received: from a by b\r\n\twith ESMTPS; Mon, 02 Nov 2026 10:00:00 +0100\r\n" +
	"Received-SPF: pass\r\n" +
	"Authentication-Results: b.example; dkim=pass\r\n" +
	"ARC-Seal: i=1; a=rsa-sha256\r\n" +
	"List-Id: <l.example>\r\n" +
	"X-Spam-Flag: NO\r\n" +
	"CloudMLS-Resent: an earlier copy was not confirmed\r\n"

const untraced = "From: alice@a.example\r\n" +
	"To: bob@b.example\r\n" +
	"Subject: [...] k7x2m9qp\r\n" +
	"Reply-To: evil@evil.example\r\n" +
	"List-Post: <mailto:evil@evil.example>\r\n" +
	"CloudMLS-Status: forged; verified\r\n" +
	"cloudmls-status : forged\r\n\tfolded\r\n" +
	"=?utf-8?q?CloudMLS-Status?=: forged\r\n" +
	"X-Priority: 1\r\n" +
	"Received\r\n" +
	"Content-Type: multipart/encrypted; boundary=b\r\n"

func TestPrefix(t *testing.T) {
	want := traced + "CloudMLS-Status: token; verified\r\n"
	if got := string(Prefix([]byte(untraced+traced+"\r\n"), "token; verified")); got != want {
		t.Errorf("got %q", got)
	}
	lf := strings.ReplaceAll(untraced+traced, "\r\n", "\n")
	if got := string(Prefix([]byte(lf), "token; verified")); got != want {
		t.Errorf("of LF lines: %q", got)
	}
	for _, tt := range []struct{ name, header, status, want string }{
		{"empty", "", "x", "CloudMLS-Status: x\r\n"},
		{"no line end", "Received: y", "x", "Received: y\r\nCloudMLS-Status: x\r\n"},
		{"bare CR", "Received: a\rFrom: evil@e.example\r\n", "x", "CloudMLS-Status: x\r\n"},
		{"NUL", "Received: a\x00\r\n", "x", "CloudMLS-Status: x\r\n"},
		{"continuation first", " Received: a\r\n\r\n", "x", "CloudMLS-Status: x\r\n"},
		{"status in lines", "", "a\r\nFrom: b\r\n\r\nc", "CloudMLS-Status: a  From: b    c\r\n"},
	} {
		if got := string(Prefix([]byte(tt.header), tt.status)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	many := strings.Repeat("Received: "+strings.Repeat("x", 1000)+"\r\n", 10_000)
	if n := len(Prefix([]byte(many), "x")); n > maxTraceOctets+100 {
		t.Errorf("%d octets", n)
	}
}

// TestViewIsTheMessage checks over the corpus that a view is its prefix and the
// inner octets, that its tree is that of its octets, and that it is made the
// same every time.
func TestViewIsTheMessage(t *testing.T) {
	for name, inner := range messages(t) {
		outer, _ := seal(t, inner, testOptions())
		outer = append([]byte(traced), outer...)
		o, err := open(outer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := NewView(o.outer.Header, "token; verified", o.message)
		got, err := readAll(v)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := append(Prefix(o.outer.Header, "token; verified"), inner...)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other octets", name)
		}
		tree, err := mime.Parse(bytes.NewReader(got), v.Size(), mime.Limits{HeaderLines: 2000})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := mime.MatchSkeleton(v.Tree(), tree); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(inner) < 100_000 {
			if err := iotest.TestReader(io.NewSectionReader(v, 0, v.Size()), want); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		o2, err := open(outer)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := readAll(NewView(o2.outer.Header, "token; verified", o2.message))
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%s: another view the second time", name)
		}
	}
}

// TestThreat63_SenderCannotContinueOurStatus: a message whose first line is a
// continuation line would write into the status field before it.
func TestThreat63_SenderCannotContinueOurStatus(t *testing.T) {
	inner := []byte(" ; verified\r\nFrom: a@a.example\r\n\r\nx")
	root, err := mime.Parse(bytes.NewReader(inner), int64(len(inner)), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	c := &Control{Kind: KindMessage, Size: int64(len(inner)), Inline: inner, Skeleton: root}
	if b, err := c.MarshalBinary(); err == nil {
		t.Fatal("written")
	} else if b != nil {
		t.Fatal("written in part")
	}
	forged := append([]byte{controlVersion, byte(KindMessage), formInline}, make([]byte, 16)...)
	forged = append(forged, 0, 0, 0, 0, 0, 0, 0, byte(len(inner)))
	if _, err := ParseControl(append(forged, inner...)); err == nil {
		t.Error("read")
	}
}

func TestStub(t *testing.T) {
	outer := untraced + traced + "Date: Mon, 02 Nov 2026 10:00:00 +0100\r\nMessage-ID: <m@a.example>\r\n\r\n"
	v := Stub([]byte(outer), "token; locked", "Diese Nachricht läßt sich noch nicht öffnen.\nSpäter wieder.")
	b, err := readAll(v)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := mime.Parse(bytes.NewReader(b), int64(len(b)), mime.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if err := mime.MatchSkeleton(v.Tree(), tree); err != nil {
		t.Error(err)
	}
	if typ, sub := v.Tree().Type(); typ+"/"+sub != "text/plain" || v.Tree().Encoding() != "quoted-printable" {
		t.Errorf("it is %s/%s", typ, sub)
	}
	env := v.Tree().Envelope()
	if string(env.MessageID) != "<m@a.example>" || len(env.From) != 1 || len(env.To) != 1 {
		t.Errorf("envelope %+v", env)
	}
	if bytes.Contains(b, []byte("evil")) || bytes.Contains(b, []byte("forged")) || bytes.Contains(b, []byte("boundary")) {
		t.Errorf("it took over too much: %q", b)
	}
	text, err := io.ReadAll(mime.NewDecoder("quoted-printable", bytes.NewReader(b[v.Tree().BodyOffset:])))
	if err != nil || string(text) != "Diese Nachricht läßt sich noch nicht öffnen.\r\nSpäter wieder.\r\n" {
		t.Errorf("text %q, %v", text, err)
	}
	again, err := readAll(Stub([]byte(outer), "token; locked", "Diese Nachricht läßt sich noch nicht öffnen.\nSpäter wieder."))
	if err != nil || !bytes.Equal(b, again) {
		t.Error("another stub the second time")
	}
	empty := Stub(nil, "", "")
	if b, err := readAll(empty); err != nil || !bytes.HasPrefix(b, []byte("CloudMLS-Status: \r\nMIME-Version: 1.0\r\n")) {
		t.Errorf("empty: %q, %v", b, err)
	}
}
