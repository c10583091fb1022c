package mime

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"
)

// decodeBuffer is the size of the window that decoders look at.
const decodeBuffer = 64 << 10

// NewDecoder returns a reader of what r holds in a transfer encoding (RFC 2045
// section 6): "base64" and "quoted-printable" are decoded, every other name
// passes octets through. Case and surrounding space of the name do not count.
//
// Decoding is lenient, as section 6 asks: line lengths do not matter, octets
// outside the alphabet are skipped, base64 ends at its padding. Errors are
// those of r alone.
func NewDecoder(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return &decoder{r: bufio.NewReaderSize(r, decodeBuffer), enc: &base64Decoder{}}
	case "quoted-printable":
		return &decoder{r: bufio.NewReaderSize(r, decodeBuffer), enc: &quotedDecoder{}}
	}
	return r
}

// textDecoder decodes pieces of encoded text: lines, or parts of long ones.
type textDecoder interface {
	// decode appends what text stands for to dst. It does not keep text.
	decode(dst, text []byte) []byte
	// finish appends what the end of the text completes.
	finish(dst []byte) []byte
	// over says that what follows is not part of the content.
	over() bool
}

type decoder struct {
	r    *bufio.Reader
	enc  textDecoder
	buf  []byte // decoded, not yet read from pos
	pos  int
	done error
}

func (d *decoder) Read(p []byte) (int, error) {
	for d.pos == len(d.buf) {
		if d.done != nil {
			return 0, d.done
		}
		d.buf, d.pos = d.buf[:0], 0
		for len(d.buf) < decodeBuffer/2 && d.done == nil {
			d.fill()
		}
	}
	n := copy(p, d.buf[d.pos:])
	d.pos += n
	return n, nil
}

func (d *decoder) fill() {
	text, err := d.r.ReadSlice('\n')
	d.buf = d.enc.decode(d.buf, text)
	switch {
	case d.enc.over():
		d.done = io.EOF
	case err == io.EOF:
		d.buf = d.enc.finish(d.buf)
		d.done = io.EOF
	case err != nil && err != bufio.ErrBufferFull:
		d.done = err
	}
}

type base64Decoder struct {
	quantum [4]byte // values under way
	n       int
	ended   bool
}

func (d *base64Decoder) over() bool { return d.ended }

func (d *base64Decoder) decode(dst, text []byte) []byte {
	if d.ended {
		return dst
	}
	line := bytes.TrimRight(text, "\r\n")
	if d.n == 0 && len(line)%4 == 0 && len(line) > 0 {
		at := len(dst)
		dst = append(dst, line...) // room, at least
		n, err := base64.StdEncoding.Decode(dst[at:], line)
		dst = dst[:at]
		if err == nil && n >= len(line)/4*3-2 {
			d.ended = line[len(line)-1] == '='
			return dst[:at+n]
		}
	}
	for _, c := range line {
		v := base64Value[c]
		switch {
		case c == '=':
			if d.n >= 2 {
				dst = d.finish(dst)
				d.ended = true
				return dst
			}
		case v != noValue:
			d.quantum[d.n] = v
			if d.n++; d.n == 4 {
				q := d.quantum
				dst = append(dst, q[0]<<2|q[1]>>4, q[1]<<4|q[2]>>2, q[2]<<6|q[3])
				d.n = 0
			}
		}
	}
	return dst
}

func (d *base64Decoder) finish(dst []byte) []byte {
	q := d.quantum
	switch d.n {
	case 2:
		dst = append(dst, q[0]<<2|q[1]>>4)
	case 3:
		dst = append(dst, q[0]<<2|q[1]>>4, q[1]<<4|q[2]>>2)
	}
	d.n = 0
	return dst
}

const noValue = 0xff

var base64Value = func() (t [256]byte) {
	for i := range t {
		t[i] = noValue
	}
	for i := range byte(64) {
		t["ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[i]] = i
	}
	return t
}()

type quotedDecoder struct {
	held []byte // an escape that may go on, and white space that may end the line
}

func (d *quotedDecoder) over() bool { return false }

func (d *quotedDecoder) decode(dst, text []byte) []byte {
	text = append(d.held, text...)
	d.held = nil
	eol := lineEnd(text)
	if eol == 0 {
		// part of a long line: what it ends with may mean something else
		keep := len(text) - len(bytes.TrimRight(text, " \t"))
		if i := bytes.LastIndexByte(text, '='); i >= 0 && i >= len(text)-2 {
			keep = len(text) - i
		}
		if keep < decodeBuffer {
			d.held = bytes.Clone(text[len(text)-keep:])
			text = text[:len(text)-keep]
		}
		return appendQuoted(dst, text)
	}
	end := text[len(text)-eol:]
	line := bytes.TrimRight(text[:len(text)-eol], " \t")
	if soft, ok := bytes.CutSuffix(line, []byte("=")); ok {
		return appendQuoted(dst, soft)
	}
	return append(appendQuoted(dst, line), end...)
}

func (d *quotedDecoder) finish(dst []byte) []byte {
	held := bytes.TrimRight(d.held, " \t")
	held, _ = bytes.CutSuffix(held, []byte("="))
	return appendQuoted(dst, held)
}

// appendQuoted appends text with its escapes decoded; what is no escape stays.
func appendQuoted(dst, text []byte) []byte {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '=' && i+2 < len(text) {
			hi, lo := hexValue(text[i+1]), hexValue(text[i+2])
			if hi != noValue && lo != noValue {
				c = hi<<4 | lo
				i += 2
			}
		}
		dst = append(dst, c)
	}
	return dst
}

func hexValue(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return noValue
}
