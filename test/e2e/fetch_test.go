package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// odd are messages that are legal and unusual, by what is unusual about them.
// Each lacks its From, To, Date and Message-ID, which the test puts in front.
func odd() map[string]string {
	big := make([]byte, 300<<10)
	source := rand.NewChaCha8([32]byte{7})
	_, _ = source.Read(big)
	return map[string]string{
		"plain":           "Subject: plain\r\n\r\nHello.\r\n",
		"empty body":      "Subject: nothing\r\n\r\n",
		"no subject":      "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nNo subject.\r\n",
		"encoded words":   "Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?B?4Q==?=\r\nReply-To: =?utf-8?B?w4RudG9u?= <anton@c.test>, \"Quoted, Name\" <q@c.test>\r\n\r\nx\r\n",
		"utf-8 header":    "Subject: Grüße aus Köln\r\n\r\n8 bit: äöü\r\n",
		"folded":          "Subject: a\r\n  folded\r\n\tsubject\r\nX-Long: " + strings.Repeat("word ", 150) + "\r\n\r\nx\r\n",
		"html":            "Subject: h\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>=C3=A4</p>\r\n",
		"alternative":     "Subject: alt\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary=\"a b'()+_,-./:=?\"\r\n\r\npreamble\r\n--a b'()+_,-./:=?\r\n\r\nplain\r\n--a b'()+_,-./:=?\r\nContent-Type: text/html\r\nContent-ID: <c1@x>\r\nContent-Description: the page\r\nContent-Language: de, en\r\nContent-Location: http://x.test/\r\n\r\n<b>x</b>\r\n--a b'()+_,-./:=?--\r\nepilogue\r\n",
		"forwarded":       "Subject: fwd\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nsee below\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nFrom: z@c.test\r\nTo: y@c.test\r\nSubject: inner\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\none\r\n--y\r\nContent-Type: image/png; name=p.png\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: inline; filename=p.png\r\n\r\niVBORw0KGgo=\r\n--y--\r\n\r\n--x--\r\n",
		"rfc 2231":        "Subject: names\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"q\"\r\n\r\n--q\r\nContent-Type: application/pdf; name*0*=utf-8''%C3%A4;\r\n name*1*=%C3%B6.pdf\r\nContent-Disposition: attachment; filename*=utf-8''%e2%82%ac%20rates.pdf\r\n\r\n%PDF\r\n--q--\r\n",
		"signed":          "Subject: signed\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512;\r\n protocol=\"application/pgp-signature\"; boundary=\"s\"\r\n\r\n--s\r\nContent-Type: text/plain; format=flowed\r\n\r\nsigned text  \r\nwith trailing space \r\n--s\r\nContent-Type: application/pgp-signature; name=\"signature.asc\"\r\nContent-Description: OpenPGP digital signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\nabc\r\n-----END PGP SIGNATURE-----\r\n--s--\r\n",
		"calendar":        "Subject: invitation\r\nMIME-Version: 1.0\r\nContent-Type: text/calendar; method=REQUEST; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n\r\nBEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n",
		"broken base64":   "Subject: broken\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAA*&^%BBB\r\n=====\r\n",
		"long line":       "Subject: long\r\n\r\n" + strings.Repeat("0123456789", 99) + "12345678\r\n",
		"no closing":      "Subject: open\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\n\r\nnever closed\r\n",
		"group addresses": "Subject: group\r\nReply-To: Friends: a@c.test, \"B\" <b@c.test>;\r\nSender: Alice <alice@a.test>\r\n\r\nx\r\n",
		"big attachment":  "Subject: big\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=big\r\n\r\n--big\r\n\r\nattached\r\n--big\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + wrap76(big) + "--big--\r\n",
	}
}

func wrap76(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}

// items are compared between the gateway and a Dovecot that has the opened
// message as an ordinary one.
var items = []string{
	"RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]",
	"BODY.PEEK[1.MIME]", "BODY.PEEK[2]", "BODY.PEEK[2.MIME]", "BODY.PEEK[2.HEADER]", "BODY.PEEK[2.TEXT]", "BODY.PEEK[2.2]", "BODY.PEEK[2.2.MIME]",
	"BODY.PEEK[HEADER.FIELDS (SUBJECT FROM X-LONG)]", "BODY.PEEK[HEADER.FIELDS.NOT (RECEIVED)]", "BODY.PEEK[2.HEADER.FIELDS (TO)]",
	"BODY.PEEK[]<7.100>", "BODY.PEEK[TEXT]<0.17>", "BODY.PEEK[2]<100000.70000>", "BODY.PEEK[]<9999999.10>", "RFC822.HEADER",
}

// TestFetchAgreesWithDovecot: whatever a client asks of a sealed message, it
// gets what Dovecot would answer for the opened one, and the opened one is what
// was submitted.
func TestFetchAgreesWithDovecot(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("erin", stack.Erin)
	served := b.Mail(stack.Erin)
	plain := lab.Direct(t, stack.Erin)
	plain.Do("CREATE Compare")
	plain.OK("SELECT Compare")
	n, first := 0, 0
	for name, rest := range odd() {
		n++
		id := fmt.Sprintf("<odd%d@a.test>", n)
		msg := []byte(fmt.Sprintf("Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nFrom: Alice <%s>\r\nTo: %s\r\nMessage-ID: %s\r\n%s", stack.Alice, stack.Erin, id, rest))
		if out, err := a.SMTPLib(stack.Alice, []string{stack.Erin}, msg); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		uid := served.Arrives("INBOX", id)
		if first == 0 {
			first = uid
		}
		whole := served.Fetch(uid, "BODY.PEEK[]").Str
		if got := stack.WithoutPrefix(t, whole); !bytes.Equal(got, msg) {
			t.Errorf("%s: opened message differs from the submitted one (%d octets, want %d)", name, len(got), len(msg))
		}
		reference := plain.Append("Compare", "", whole)
		asked := items
		if name == "forwarded" { // elsewhere part 2 has no parts, and Dovecot answers for them all the same
			asked = append([]string{"BODY.PEEK[2.1]", "BODY.PEEK[2.1.MIME]"}, items...)
		}
		for _, item := range asked {
			got, want := served.Fetch(uid, item).String(), plain.Fetch(reference, item).String()
			if got == "NIL" && want == `""` {
				continue // a section that does not exist: RFC 9051 lets a server say either
			}
			if got != want {
				t.Errorf("%s: %s differs\n gateway %.600s\n Dovecot %.600s", name, item, got, want)
			}
		}
	}
	// The fields that Thunderbird asks for, in one command, with FLAGS.
	for _, l := range served.OK("UID FETCH " + strconv.Itoa(first) + ":* (UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To Received)])") {
		if bytes.Contains(l, []byte("[...]")) || bytes.Contains(l, []byte("multipart/encrypted")) {
			t.Errorf("outer header served: %q", l)
		}
	}
}
