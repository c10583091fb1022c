package mailseal

import (
	"encoding/base64"
	"io"
)

// Lines of base64 have 76 columns (RFC 2045 section 6.8): 57 octets make 78
// with the line end.
const (
	rawLine  = 57
	wireLine = 78
	// linesAtOnce is the number of lines encoded in one go.
	linesAtOnce = 1024
)

// base64Size returns the number of octets that n octets have in base64 lines.
func base64Size(n int64) int64 {
	full, rest := n/rawLine, n%rawLine
	size := full * wireLine
	if rest > 0 {
		size += (rest+2)/3*4 + 2
	}
	return size
}

// base64Reader encodes what r holds into base64 lines, in blocks of whole
// lines.
type base64Reader struct {
	r   io.Reader
	raw []byte
	buf []byte
	pos int
	err error
}

// newBase64Reader returns an encoder of the n octets of r.
func newBase64Reader(r io.Reader, n int64) *base64Reader {
	lines := min((n+rawLine-1)/rawLine, linesAtOnce)
	return &base64Reader{r: r, raw: make([]byte, rawLine*max(1, lines))}
}

func (e *base64Reader) Read(p []byte) (int, error) {
	if e.pos == len(e.buf) {
		if e.err == nil {
			e.fill()
		}
		if e.pos == len(e.buf) {
			return 0, e.err
		}
	}
	n := copy(p, e.buf[e.pos:])
	e.pos += n
	return n, nil
}

func (e *base64Reader) fill() {
	n, err := io.ReadFull(e.r, e.raw)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	e.buf, e.pos, e.err = e.buf[:0], 0, err
	for raw := e.raw[:n]; len(raw) > 0; {
		line := raw[:min(rawLine, len(raw))]
		raw = raw[len(line):]
		e.buf = base64.StdEncoding.AppendEncode(e.buf, line)
		e.buf = append(e.buf, '\r', '\n')
	}
}
