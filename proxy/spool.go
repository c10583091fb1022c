package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how many octets of a ciphertext stay in memory; what is
// larger waits in a file. Only ciphertext is ever spooled.
const spoolMemory = 1 << 20

// errSpoolClosed: the content was freed already.
var errSpoolClosed = errors.New("ciphertext was released already")

// spool holds the octets of a sealed message until it was sent. It is written
// by one goroutine and read by any number after that.
type spool struct {
	dir  string
	buf  bytes.Buffer
	file *os.File
	size int64
	done bool
}

// Write implements io.Writer.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.buf.Len()+len(p) > spoolMemory {
		f, err := os.CreateTemp(s.dir, "sealed-*")
		if err != nil {
			return 0, fmt.Errorf("spool ciphertext: %w", err)
		}
		s.file = f
		if _, err := f.Write(s.buf.Bytes()); err != nil {
			return 0, fmt.Errorf("spool ciphertext: %w", err)
		}
		s.buf = bytes.Buffer{}
	}
	var w io.Writer = &s.buf
	if s.file != nil {
		w = s.file
	}
	n, err := w.Write(p)
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("spool ciphertext: %w", err)
	}
	return n, nil
}

// open returns the content from its first octet.
func (s *spool) open() (io.ReadCloser, error) {
	switch {
	case s.done:
		return nil, errSpoolClosed
	case s.file != nil:
		return io.NopCloser(io.NewSectionReader(s.file, 0, s.size)), nil
	}
	return io.NopCloser(bytes.NewReader(s.buf.Bytes())), nil
}

// close frees the content. A second call does nothing.
func (s *spool) close() error {
	if s.done {
		return nil
	}
	s.done = true
	s.buf = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}
