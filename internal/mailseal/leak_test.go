package mailseal

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mime"
)

// canaries is a message with a secret in every place that has none outside.
func canaries(fill int) (message []byte, secrets []string) {
	n := 0
	c := func() string {
		n++
		s := fmt.Sprintf("CANARY%02dSECRET", n)
		secrets = append(secrets, s)
		return s
	}
	var b strings.Builder
	fmt.Fprintf(&b, "From: \"%s\" <alice@a.example> (%s)\r\n", c(), c())
	fmt.Fprintf(&b, "Sender: %s@a.example\r\n", c())
	fmt.Fprintf(&b, "Reply-To: %s <%s@a.example>\r\n", c(), c())
	fmt.Fprintf(&b, "To: %s: %s <bob@b.example>;\r\n", c(), c())
	fmt.Fprintf(&b, "Cc: carol@c.example (%s)\r\n", c())
	fmt.Fprintf(&b, "Bcc: %s@d.example\r\n", c())
	fmt.Fprintf(&b, "Date: Mon, 02 Nov 2026 10:00:00 +0100 (%s)\r\n", c())
	fmt.Fprintf(&b, "Message-ID: <m1@a.example> (%s)\r\n", c())
	fmt.Fprintf(&b, "In-Reply-To: \"%s of Monday\" <b@b.example>\r\n", c())
	fmt.Fprintf(&b, "References: <a@a.example> %s <b@b.example>\r\n", c())
	for _, name := range []string{
		"Subject", "Comments", "Keywords", "User-Agent", "X-Mailer", "X-Originating-IP", "Organization", "Importance",
		"Autocrypt", "Disposition-Notification-To", "Return-Receipt-To", "Thread-Topic", "Thread-Index", "X-Unknown",
		"List-Id", "DKIM-Signature", "Received", "Resent-To", "CloudMLS-Status", "CloudMLS-Conversation",
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", name, c())
	}
	fmt.Fprintf(&b, "MIME-Version: 1.0 (%s)\r\n", c())
	fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"%s\"\r\n\r\n%s\r\n", c(), c())
	fmt.Fprintf(&b, "--%s\r\nContent-Type: application/pdf; name=\"%s.pdf\"\r\n", secrets[len(secrets)-2], c())
	fmt.Fprintf(&b, "Content-Disposition: attachment; filename=\"%s\"\r\nContent-ID: <%s>\r\nContent-Description: %s\r\n\r\n%s\r\n",
		c(), c(), c(), c())
	b.WriteString(strings.Repeat("0123456789abcdef\r\n", fill/18))
	return []byte(b.String()), secrets
}

// TestThreat64_NothingLeaksOutside: Subject, Comments, Keywords, display names,
// User-Agent, Reply-To, attachment names and all the rest are in no octet
// outside, encoded or not.
func TestThreat64_NothingLeaksOutside(t *testing.T) {
	for _, fill := range []int{0, 100_000} {
		inner, secrets := canaries(fill)
		header, err := ReadHeader(bytes.NewReader(inner), int64(len(inner)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := ParseHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		o := testOptions()
		o.Outer = h.Outer()
		o.Outer.SubjectToken = "k7x2m9qp"
		outer, _ := seal(t, inner, o)
		root, err := mime.Parse(bytes.NewReader(outer), int64(len(outer)), mime.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		views := map[string][]byte{"outer": outer}
		for i, c := range root.Children {
			content, err := base64.StdEncoding.DecodeString(string(outer[c.BodyOffset : c.BodyOffset+c.BodyLength]))
			if err != nil {
				t.Fatal(err)
			}
			views[fmt.Sprint("part ", i+1)] = content
		}
		for name, b := range views {
			for _, s := range append(secrets, "SECRET") {
				if bytes.Contains(bytes.ToUpper(b), []byte(s)) || bytes.Contains(b, []byte(base64.RawStdEncoding.EncodeToString([]byte(s)))) {
					t.Errorf("%s shows %q", name, s)
				}
			}
		}
		checkOuterFields(t, root.Header)
	}
}

// checkOuterFields compares the outer header with the only one there may be.
func checkOuterFields(t *testing.T, header []byte) {
	t.Helper()
	want := []string{
		"From: alice@a.example", "To: bob@b.example", "Cc: carol@c.example",
		"Date: Mon, 02 Nov 2026 10:00:00 +0100", "Message-ID: <m1@a.example>",
		"In-Reply-To: <b@b.example>", "References: <a@a.example> <b@b.example>",
		"Subject: [...] k7x2m9qp", "CloudMLS-Conversation: 01020300000000000000000000000000",
		"MIME-Version: 1.0",
	}
	lines := strings.Split(string(header), "\r\n")
	for i, w := range want {
		if i >= len(lines) || lines[i] != w {
			t.Errorf("line %d of the outer header is %q, want %q", i+1, lines[min(i, len(lines)-1)], w)
		}
	}
	rest := strings.Join(lines[len(want):], "\n")
	if !strings.HasPrefix(rest, "Content-Type: multipart/encrypted;\n protocol=\""+ControlType+"\";\n boundary=\"cloudmls-") ||
		strings.Count(rest, "\n") != 4 {
		t.Errorf("the outer header ends with %q", rest)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	key := FileKey{0xca, 0xfe, 0xba, 0xbe}
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%v %s %#v %+v", key, key, key, struct{ K FileKey }{key})} {
		if !strings.Contains(s, "[redacted]") || strings.Contains(strings.ToLower(s), "cafe") || strings.Contains(s, "202") {
			t.Errorf("prints %q", s)
		}
	}
}
