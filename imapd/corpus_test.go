package imapd_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// crlf turns a readable literal into a message.
func crlf(s string) []byte {
	return []byte(strings.ReplaceAll(strings.TrimPrefix(s, "\n"), "\n", "\r\n"))
}

// octets returns reproducible binary data.
func octets(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// attachment is a message with a base64 part of n decoded octets.
func attachment(n int) []byte {
	return []byte("From: a@example.org\r\nTo: b@example.org\r\nSubject: file\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\npreamble\r\n--=_b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nsee file\r\n" +
		"--=_b\r\nContent-Type: application/pdf; name=\"f.pdf\"\r\nContent-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"f.pdf\"\r\n\r\n" + lines(octets(n, 7), 76, false) + "\r\n--=_b--\r\nepilogue\r\n")
}

// corpus holds inner messages by name.
func corpus() map[string][]byte {
	c := map[string][]byte{
		"simple": []byte(innerMail),
		"folded": crlf(`
From: "Alice \"A\" Liddell" <alice@example.org>
To: b@example.org,
 "Bob, the builder" <bob@example.org>
Cc: c@example.org
Subject: a long
 subject =?utf-8?q?=C3=A4?=
Date: Wed, 4 Mar 2026 05:06:07 +0100
Message-ID: <1@example.org>
In-Reply-To: <0@example.org>
References: <0@example.org>
Reply-To: reply@example.org

line one
line two
`),
		"no body":    []byte("Subject: only a header\r\n\r\n"),
		"no header":  []byte("\r\nonly a body\r\n"),
		"no end":     []byte("Subject: no final line end\r\n\r\nlast line"),
		"eight bit":  []byte("Subject: gr\xc3\xbc\xc3\x9fe\r\nFrom: \"J\xc3\xbcrgen\" <j@example.org>\r\n\r\n\xff\xfe\r\n"),
		"attachment": attachment(3000),
		"nested": crlf(`
From: a@example.org
Subject: forwarded
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary="inner"

--inner
Content-Type: text/plain

plain
--inner
Content-Type: text/html; charset=utf-8
Content-Language: en, de
Content-ID: <x@y>
Content-Description: html

<b>html</b>
--inner--
--outer
Content-Type: message/rfc822
Content-Disposition: inline

From: deep@example.org
Subject: deep
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=deep

--deep

deep text
--deep
Content-Type: image/png
Content-Transfer-Encoding: base64
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==

iVBORw0KGgo=
--deep--
--outer--
`),
		"rfc822 leaf": crlf(`
Subject: forwarded as a whole
MIME-Version: 1.0
Content-Type: multipart/digest; boundary=d

--d

Subject: one

first
--d

Subject: two

second
--d--
`),
	}
	var many strings.Builder
	many.WriteString("Subject: many parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n")
	for i := range 20 {
		fmt.Fprintf(&many, "--m\r\nContent-Type: text/plain; name=p%d\r\n\r\npart %d\r\n", i, i)
	}
	many.WriteString("--m--\r\n")
	c["many parts"] = []byte(many.String())
	return c
}

// sealings are the ways in which a message may be stored.
var sealings = map[string]sealOptions{
	"inline":      {},
	"bulk":        {bulk: true},
	"mangled":     {mangled: true},
	"long lines":  {bulk: true, line: 996},
	"ragged bulk": {bulk: true, ragged: true},
}
