package corpus

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Sizes at which the mail format or a buffer changes its ways: what goes inline
// into the control part, the chunks of a bulk part, what a spool keeps in
// memory. Messages lie at and beside them.
const (
	inline = 48 << 10
	chunk  = 64 << 10
	spool  = 1 << 20
)

// built returns the messages that are too big, or too regular, for a file.
func built() []Message {
	all := []Message{
		recipients(), bigHeader(), longLines(), deep(10), manyAttachments(50), bigText(), bigAttachment(10 << 20),
	}
	for _, size := range []int{inline - 1, inline, inline + 1, 2*chunk - 1, 2 * chunk, 2*chunk + 1, spool, spool + 1} {
		all = append(all, ofSize(size))
	}
	return all
}

// canary is unlike every other: it holds the name, and the place in the message.
func canary(name, place string) string { return fmt.Sprintf("CANARY-%s-%s-built", name, place) }

// top is the beginning of a header, with two canaries.
func top(name string) string {
	return fmt.Sprintf("Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nFrom: Alice %s <%s>\r\nTo: Erin <%s>\r\nMessage-ID: <%s@corpus.a.test>\r\nSubject: About %s\r\n",
		canary(name, "name"), Sender, Reader, name, canary(name, "subject"))
}

func message(name, note, octets string, places ...string) Message {
	m := Message{Name: name, Note: note, Octets: []byte(octets)}
	for _, p := range append([]string{"name", "subject"}, places...) {
		m.Canaries = append(m.Canaries, canary(name, p))
	}
	return m
}

// recipients names 500 people and not its reader, as a copy to somebody on a
// long list does.
func recipients() Message {
	const name = "recipients-500"
	var to []string
	for i := range 500 {
		to = append(to, fmt.Sprintf("\"Person %d of %s\" <person%d@c.test>", i, canary(name, "others"), i))
	}
	h := strings.Replace(top(name), "To: Erin <"+Reader+">", "To: "+strings.Join(to, ",\r\n "), 1)
	return message(name, "500 people in To, the reader none of them", h+"\r\n"+canary(name, "text")+"\r\n", "others", "text")
}

func bigHeader() Message {
	const name = "header-60k"
	var b strings.Builder
	b.WriteString(top(name))
	for i := range 60 {
		fmt.Fprintf(&b, "X-Big-%d: %s\r\n", i, strings.Repeat("y", 986))
	}
	fmt.Fprintf(&b, "X-Last: %s\r\n\r\n%s\r\n", canary(name, "last"), canary(name, "text"))
	return message(name, "a header of 60 KB, its lines of 998 octets", b.String(), "last", "text")
}

func longLines() Message {
	const name = "lines-998"
	var b strings.Builder
	b.WriteString(top(name) + "\r\n")
	for i, size := range []int{998, 997, 998, 76, 78, 998} {
		word := canary(name, fmt.Sprintf("line%d", i))
		b.WriteString(word + strings.Repeat("z", size-len(word)) + "\r\n")
	}
	return message(name, "lines of exactly 998 octets", b.String(), "line0", "line2", "line5")
}

// deep nests multiparts, each with a text of its own.
func deep(levels int) Message {
	const name = "nested-10"
	var b strings.Builder
	b.WriteString(top(name) + "MIME-Version: 1.0\r\n")
	var places []string
	for i := range levels {
		place := fmt.Sprintf("level%d", i)
		places = append(places, place)
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"level-%d\"\r\n\r\n--level-%d\r\n\r\n%s\r\n--level-%d\r\n", i, i, canary(name, place), i)
	}
	b.WriteString("Content-Type: text/html\r\n\r\n<p>the bottom</p>\r\n")
	for i := levels - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--level-%d--\r\n", i)
	}
	return message(name, "multiparts nested to depth 10", b.String(), places...)
}

func manyAttachments(n int) Message {
	const name = "attachments-50"
	var b strings.Builder
	b.WriteString(top(name) + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"many\"\r\n\r\n")
	for i := range n {
		fmt.Fprintf(&b, "--many\r\nContent-Type: application/octet-stream; name=\"file%d\"\r\nContent-Disposition: attachment; filename=\"file%d\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%s",
			i, i, wrapped(octets(2000, byte(i))))
	}
	fmt.Fprintf(&b, "--many\r\nContent-Type: text/plain; name=\"%s\"\r\n\r\n%s\r\n--many--\r\n", canary(name, "file"), canary(name, "text"))
	return message(name, "50 attachments and a text behind them", b.String(), "file", "text")
}

func bigText() Message {
	const name = "text-200k"
	var b strings.Builder
	b.WriteString(top(name) + "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "Zeile %d – und noch ein paar Wörter, damit es sich lohnt\r\n", i)
	}
	b.WriteString(canary(name, "end") + "\r\n")
	return message(name, "200 KB of text", b.String(), "end")
}

// bigAttachment is a file of size octets, as base64; canaries stand at its
// beginning, across a 64 KiB boundary of the message, and at its end.
func bigAttachment(size int) Message {
	const name = "attachment-10mb"
	file := octets(size, 77)
	copy(file, canary(name, "first"))
	copy(file[chunk/4*3-400:], canary(name, "middle"))
	copy(file[size-64:], canary(name, "final"))
	return message(name, "an attachment of 10 MB", top(name)+"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"ten\"\r\n\r\n"+
		"--ten\r\n\r\nattached\r\n--ten\r\nContent-Type: application/zip; name=\""+canary(name, "file")+".zip\"\r\nContent-Disposition: attachment;\r\n filename=\""+canary(name, "file")+
		".zip\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+wrapped(file)+"--ten--\r\n", "first", "middle", "final", "file")
}

// ofSize is a message of exactly so many octets.
func ofSize(size int) Message {
	name := fmt.Sprintf("size-%d", size)
	var b bytes.Buffer
	b.WriteString(top(name) + "\r\n")
	end := canary(name, "end") + "\r\n"
	for rest := size - b.Len() - len(end); rest > 0; rest = size - b.Len() - len(end) {
		n := min(rest, 80)
		if rest-n < 2 && rest > n { // no line of one octet can remain
			n -= 2
		}
		b.WriteString(strings.Repeat("s", n-2) + "\r\n")
	}
	b.WriteString(end)
	return message(name, fmt.Sprintf("exactly %d octets", size), b.String(), "end")
}

// octets are reproducible and do not compress.
func octets(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// wrapped is base64 in lines of 76.
func wrapped(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	var out strings.Builder
	for len(s) > 76 {
		out.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	return out.String() + s + "\r\n"
}
