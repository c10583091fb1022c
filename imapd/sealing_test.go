package imapd_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

type sealOptions struct {
	bulk    bool
	mangled bool // multipart/mixed in another one, quoted-printable control part
	line    int  // base64 line length, 76 by default
	ragged  bool // irregular base64 lines in the bulk part
}

// seal makes a sealed message.
func seal(inner []byte, o sealOptions) []byte {
	if o.line == 0 {
		o.line = 76
	}
	control, bulk := append([]byte{'I'}, inner...), []byte(nil)
	if o.bulk {
		control = fmt.Appendf(nil, "B%d", len(inner))
		bulk = bytes.Clone(inner)
		for i := range bulk {
			bulk[i] ^= 0xff
		}
	}
	var m strings.Builder
	m.WriteString("Received: by mx.example.org; Mon, 2 Mar 2026 10:00:00 +0000\r\n" +
		"From: a@example.org\r\nTo: b@example.org\r\nSubject: [...] outer0000\r\n" +
		"CloudMLS-Conversation: 00\r\nMIME-Version: 1.0\r\n")
	parts := "--sep\r\nContent-Type: application/vnd.cloudmls.control\r\n"
	if o.mangled {
		parts += "Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoteAll(control)
	} else {
		parts += "Content-Transfer-Encoding: base64\r\n\r\n" + lines(control, o.line, false)
	}
	parts += "\r\n--sep\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		lines(bulk, o.line, o.ragged) + "\r\n--sep--\r\n"
	if o.mangled {
		m.WriteString("Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: multipart/mixed; boundary=sep\r\n\r\n" +
			parts + "--out\r\nContent-Type: text/plain\r\n\r\nfooter of a list\r\n--out--\r\n")
	} else {
		m.WriteString("Content-Type: multipart/encrypted; protocol=\"application/vnd.cloudmls.control\"; boundary=sep\r\n\r\n" + parts)
	}
	return []byte(m.String())
}

func lines(b []byte, n int, ragged bool) string {
	enc := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for i := 0; len(enc) > 0; i++ {
		k := min(n, len(enc))
		if ragged && i%3 == 1 {
			k = min(n-8, len(enc))
		}
		out.WriteString(enc[:k] + "\r\n")
		enc = enc[k:]
	}
	return out.String()
}

func quoteAll(b []byte) string {
	var out strings.Builder
	for i, c := range b {
		fmt.Fprintf(&out, "=%02X", c)
		if i%20 == 19 {
			out.WriteString("=\r\n")
		}
	}
	return out.String()
}
