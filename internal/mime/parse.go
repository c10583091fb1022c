package mime

import (
	"fmt"
	"io"
)

// readSize is the number of octets that Parse reads at once.
const readSize = 64 << 10

// Parse reads the message of size octets in r and returns its root. It reads
// every octet once and in order, with a bounded buffer. It never fails for odd
// or broken messages, only for those beyond the limits (a *LimitError) and for
// errors of r.
func Parse(r io.ReaderAt, size int64, l Limits) (*Part, error) {
	p := NewParser(l)
	buf := make([]byte, min(readSize, max(size, 1)))
	for off := int64(0); off < size; {
		b := buf[:min(int64(len(buf)), size-off)]
		n, err := r.ReadAt(b, off)
		if n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read message at octet %d: %w", off+int64(n), err)
		}
		if _, err := p.Write(b); err != nil {
			return nil, err
		}
		off += int64(n)
	}
	return p.Finish()
}
