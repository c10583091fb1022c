package mailseal

import (
	"bytes"
	"errors"
	"io"

	"github.com/cloudmls/gateway/internal/mime"
)

// StripBcc returns the message without its Bcc fields, and its size. Exactly
// the octets of the Bcc and Resent-Bcc fields of the top header are missing,
// all else is as it was; a message without them is returned itself. The result
// reads from inner. It fails as ReadHeader does.
func StripBcc(inner io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
	header, err := ReadHeader(inner, size)
	if err != nil {
		return nil, 0, err
	}
	var kept []byte
	rest := header
	for f := range mime.Fields(header) {
		if !f.Is("Bcc") && !f.Is("Resent-Bcc") {
			kept = append(kept, f.Raw...)
		}
		rest = rest[len(f.Raw):]
	}
	kept = append(kept, rest...)
	if len(kept) == len(header) {
		return inner, size, nil
	}
	m := &spliced{head: kept, rest: inner, skip: int64(len(header)), size: size - int64(len(header)-len(kept))}
	return m, m.size, nil
}

// spliced is a message whose header was replaced.
type spliced struct {
	head []byte
	rest io.ReaderAt
	skip int64 // octets of rest that head stands for
	size int64
}

// ReadAt implements io.ReaderAt.
func (s *spliced) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read message: negative offset")
	}
	if off >= s.size {
		return 0, io.EOF
	}
	n := 0
	if off < int64(len(s.head)) {
		n, _ = bytes.NewReader(s.head).ReadAt(p, off)
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	k, err := io.NewSectionReader(s.rest, 0, s.skip+s.size-int64(len(s.head))).ReadAt(p[n:], off-int64(len(s.head))+s.skip)
	return n + k, err
}
