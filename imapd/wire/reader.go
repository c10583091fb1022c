package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrTooLong is returned for a text that exceeds the caller's limit. The rest
// of the line has not been read.
var ErrTooLong = errors.New("imap line too long")

const readBuffer = 64 << 10

// Segment is the text of a command or response from where reading stood to the
// end of the line or to a literal. Its slices are valid until the next read.
type Segment struct {
	// Raw is the text with its line end, which is CRLF even if the peer sent a
	// bare LF.
	Raw []byte
	// Text is Raw without the line end and, where the line announces a
	// literal, without the announcement.
	Text []byte
	// Literal tells that Size octets follow, announced as {n}, {n+} (NonSync)
	// or ~{n} (Binary); RFC 9051 section 4.3, RFC 7888, RFC 3516.
	Literal bool
	Size    int64
	NonSync bool
	Binary  bool
	// BareLF tells that the line ended in LF alone.
	BareLF bool
}

// Line returns the whole text without the line end, for places where what
// looks like a literal is none (the human-readable text of a status response).
func (s *Segment) Line() []byte { return s.Raw[:len(s.Raw)-2] }

// Reader reads segments and literals. Not safe for concurrent use.
type Reader struct {
	// Strict makes lines end in CRLF only: a bare LF is an octet of the line,
	// for the caller to refuse. What is one line to the sender can then never
	// be two to the receiver. Otherwise a bare LF ends the line.
	Strict bool

	br  *bufio.Reader
	buf []byte
	// cut is what was read of a line that was too long; see Cut.
	cut []byte
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader {
	return &Reader{br: bufio.NewReaderSize(r, readBuffer)}
}

// Buffered returns the number of octets received but not yet read.
func (r *Reader) Buffered() int { return r.br.Buffered() }

// Read reads the octets of a literal. The caller reads as many as the literal
// has, no more.
func (r *Reader) Read(p []byte) (int, error) { return r.br.Read(p) }

// Discard skips n octets of a literal.
func (r *Reader) Discard(n int64) error {
	for n > 0 {
		k, err := r.br.Discard(int(min(n, 1<<20)))
		n -= int64(k)
		if err != nil {
			return fmt.Errorf("skip literal: %w", noEOF(err))
		}
	}
	return nil
}

// CopyLiteral copies n octets of a literal to w in pieces as they arrive.
func (r *Reader) CopyLiteral(w io.Writer, n int64) error {
	for n > 0 {
		if r.br.Buffered() == 0 {
			if _, err := r.br.Peek(1); err != nil {
				return fmt.Errorf("read literal: %w", noEOF(err))
			}
		}
		k := int(min(n, int64(r.br.Buffered())))
		b, err := r.br.Peek(k)
		if err != nil {
			return fmt.Errorf("read literal: %w", noEOF(err))
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if _, err := r.br.Discard(k); err != nil {
			return fmt.Errorf("read literal: %w", noEOF(err))
		}
		n -= int64(k)
	}
	return nil
}

// ReadSegment reads the next segment of at most limit octets. io.EOF means
// that the peer closed between lines; in the middle of one it is
// io.ErrUnexpectedEOF. After ErrTooLong, SkipLine goes on.
func (r *Reader) ReadSegment(limit int) (Segment, error) {
	r.buf = r.buf[:0]
	for {
		if err := r.fill(limit - len(r.buf)); err != nil {
			r.cut = r.buf
			if len(r.buf)+r.br.Buffered() > 0 {
				err = noEOF(err)
			}
			return Segment{}, err
		}
		b, err := r.br.ReadSlice('\n')
		if len(r.buf)+len(b) > limit {
			r.buf = append(r.buf, b...)
			r.cut = r.buf
			return Segment{}, ErrTooLong
		}
		if err == nil && len(r.buf) == 0 && len(b) >= 2 && b[len(b)-2] == '\r' {
			return parseSegment(b, false), nil // the usual case, no copy
		}
		r.buf = append(r.buf, b...)
		if err == nil && r.Strict && (len(r.buf) < 2 || r.buf[len(r.buf)-2] != '\r') {
			continue
		}
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if len(r.buf) > 0 {
			err = noEOF(err)
		}
		return Segment{}, err
	}
	bare := len(r.buf) < 2 || r.buf[len(r.buf)-2] != '\r'
	if bare {
		r.buf = append(r.buf[:len(r.buf)-1], '\r', '\n')
	}
	return parseSegment(r.buf, bare), nil
}

// Cut returns the beginning of the line that was too long, as far as it was
// read; it may be empty. It is valid until the next read.
func (r *Reader) Cut() []byte { return r.cut }

// SkipLine reads on after ErrTooLong to the end of the line, which is not kept.
// The Segment tells only whether a literal follows, and its size.
func (r *Reader) SkipLine() (Segment, error) {
	const longest = len("~{123456789012345678+}\r\n")
	tail := bytes.Clone(r.cut[max(0, len(r.cut)-longest):])
	for !bytes.HasSuffix(tail, []byte{'\n'}) {
		b, err := r.br.ReadSlice('\n')
		tail = append(tail, b...)
		tail = append(tail[:0], tail[max(0, len(tail)-longest):]...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return Segment{}, fmt.Errorf("skip line: %w", noEOF(err))
		}
	}
	if !bytes.HasSuffix(tail, []byte("\r\n")) {
		tail = append(tail[:len(tail)-1], '\r', '\n')
	}
	return parseSegment(tail, false), nil
}

// fill reads until the buffer holds a line end or is full. It does not wait for
// more than limit octets.
func (r *Reader) fill(limit int) error {
	for scanned := 0; ; {
		n := r.br.Buffered()
		b, err := r.br.Peek(n)
		if err != nil {
			return err
		}
		switch {
		case bytes.IndexByte(b[scanned:], '\n') >= 0, n == r.br.Size():
			return nil
		case n > limit:
			return ErrTooLong
		}
		scanned = n
		if _, err := r.br.Peek(n + 1); err != nil {
			return err
		}
	}
}

// parseSegment recognises the announcement of a literal at the end of a line.
func parseSegment(raw []byte, bare bool) Segment {
	s := Segment{Raw: raw, Text: raw[:len(raw)-2], BareLF: bare}
	t := s.Text
	if len(t) < 3 || t[len(t)-1] != '}' {
		return s
	}
	open := bytes.LastIndexByte(t, '{')
	if open < 0 {
		return s
	}
	digits := t[open+1 : len(t)-1]
	nonSync := len(digits) > 0 && digits[len(digits)-1] == '+'
	if nonSync {
		digits = digits[:len(digits)-1]
	}
	n, ok := parseSize(digits)
	if !ok {
		return s
	}
	s.Literal, s.Size, s.NonSync = true, n, nonSync
	if open > 0 && t[open-1] == '~' {
		s.Binary = true
		open--
	}
	s.Text = t[:open]
	return s
}

// parseSize reads a literal's size; 63 bits, as in RFC 9051 number64.
func parseSize(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Wait blocks until there is something to read and returns its first octet.
func (r *Reader) Wait() (byte, error) {
	b, err := r.br.Peek(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}
