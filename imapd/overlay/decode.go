package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/cloudmls/gateway/internal/mime"
)

// sequential decodes a part from its beginning on.
type sequential struct {
	dec io.Reader
	pos int64
}

func (b *Bulk) rewind() io.Reader {
	b.seq = &sequential{dec: mime.NewDecoder(b.encoding, &partReader{bulk: b})}
	return b.seq
}

func (s *sequential) Read(p []byte) (int, error) {
	n, err := s.dec.Read(p)
	s.pos += int64(n)
	return n, err
}

func (b *Bulk) readInOrder(p []byte, off int64) (int, error) {
	if b.seq == nil || b.seq.pos > off {
		b.rewind()
	}
	if skip := off - b.seq.pos; skip > 0 {
		if _, err := io.CopyN(io.Discard, b.seq, skip); err != nil {
			if err == io.EOF {
				b.size, b.seq = b.seq.pos, nil
			}
			return 0, err
		}
	}
	n, err := io.ReadFull(b.seq, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		b.size, b.seq = b.seq.pos, nil
		return n, io.EOF
	}
	if err != nil {
		b.seq = nil
		return n, fmt.Errorf("decode bulk part: %w", err)
	}
	return n, nil
}

// partReader reads the encoded part window by window. It goes by what the
// provider sends, since announced sizes are estimates at some.
type partReader struct {
	bulk *Bulk
	off  int64
	buf  []byte
	end  bool
}

func (r *partReader) Read(p []byte) (int, error) {
	if len(r.buf) == 0 {
		if r.end {
			return 0, io.EOF
		}
		b, err := r.bulk.fetch(r.off, bulkWindow)
		if err != nil {
			return 0, err
		}
		r.buf, r.end = b, len(b) < bulkWindow
		r.off += int64(len(b))
		if len(b) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// DecodeAll decodes a whole part of at most limit decoded octets.
func DecodeAll(encoding string, part []byte, limit int) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(mime.NewDecoder(encoding, bytes.NewReader(part)), int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("decode part: %w", err)
	}
	if len(out) > limit {
		return nil, errors.New("decode part: too large")
	}
	return out, nil
}

// Encoding returns the Content-Transfer-Encoding of a part's MIME header.
func Encoding(header []byte) string {
	f := mime.HeaderFields(header, []string{"Content-Transfer-Encoding"}, false)
	for i, c := range f {
		if c == ':' {
			v := f[i+1:]
			for j, d := range v {
				if d == '\r' || d == '\n' || d == ';' || d == '(' {
					v = v[:j]
					break
				}
			}
			return normalEncoding(v)
		}
	}
	return "7bit"
}
