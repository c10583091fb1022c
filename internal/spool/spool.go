// Package spool holds one message while it is received or served: in memory while
// it is small, in a temporary file once it is not. The file is encrypted under a key
// that exists in memory only, so nothing in clear reaches a disk, and what a
// crash leaves behind cannot be read by anyone.
//
// The file consists of chunks of 64 KiB, each sealed by AES-256-GCM with its
// number as the nonce; the key is fresh for every spool and a chunk is written once,
// so no nonce repeats.
package spool

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

const (
	// DefaultMemory is how much a spool keeps in memory, in octets.
	DefaultMemory = 1 << 20

	chunkSize = 64 << 10
	tagSize   = 16
)

// Spool is written from start to end, and read at random as far as it is written.
// It is safe for concurrent use.
type Spool struct {
	dir    string
	memory int64

	mu     sync.Mutex
	size   int64
	buf    []byte // everything, or the chunk under way once file is set
	file   *os.File
	named  bool // the file still has a name
	aead   cipher.AEAD
	sealed int64  // chunks in the file
	cache  []byte // one opened chunk
	cached int64  // its number, -1 for none
	err    error  // of a write that failed, for all calls after it; os.ErrClosed after Close
}

// New returns an empty spool. dir is where a file may be made (empty means the
// system's directory for temporary files); memory is how many octets stay in
// memory before that, 0 meaning DefaultMemory.
func New(dir string, memory int64) *Spool {
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Spool{dir: dir, memory: memory, cached: -1}
}

// Write appends to the content.
func (s *Spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.file == nil && s.size+int64(len(p)) <= s.memory {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.err = s.toFile(); s.err == nil {
		s.err = s.fill(p)
	}
	if s.err != nil {
		return 0, s.err
	}
	s.size += int64(len(p))
	return len(p), nil
}

// toFile moves what is in memory into a new file, if there is none yet.
func (s *Spool) toFile() error {
	if s.file != nil {
		return nil
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("spool: make key: %w", err)
	}
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if s.file, err = os.CreateTemp(s.dir, "cloudmls-spool-*"); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	// Where the system allows it the file loses its name at once, so that it
	// cannot stay behind; elsewhere Close removes it.
	s.named = os.Remove(s.file.Name()) != nil
	whole := s.buf
	s.buf = make([]byte, 0, chunkSize)
	defer clear(whole)
	return s.fill(whole)
}

// fill takes octets into chunks, and seals those that are full.
func (s *Spool) fill(p []byte) error {
	for len(p) > 0 {
		n := min(len(p), chunkSize-len(s.buf))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		if len(s.buf) < chunkSize {
			continue
		}
		if _, err := s.file.WriteAt(s.aead.Seal(nil, nonce(s.sealed), s.buf, nil), offset(s.sealed)); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
		s.sealed++
		clear(s.buf)
		s.buf = s.buf[:0]
	}
	return nil
}

func offset(chunk int64) int64 { return chunk * (chunkSize + tagSize) }

func nonce(chunk int64) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[4:], uint64(chunk))
	return b
}

// Size returns the number of octets written.
func (s *Spool) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// OnDisk says whether the content is in a file.
func (s *Spool) OnDisk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file != nil
}

// ReadAt implements io.ReaderAt. It reports an altered file as an error.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	read := 0
	for len(p) > 0 && off < s.size {
		from, err := s.at(off)
		if err != nil {
			return read, err
		}
		n := copy(p, from)
		p, off, read = p[n:], off+int64(n), read+n
	}
	if len(p) > 0 {
		return read, io.EOF
	}
	return read, nil
}

// at returns what is at an offset before the end, as far as it lies together.
func (s *Spool) at(off int64) ([]byte, error) {
	n := off / chunkSize
	switch {
	case s.file == nil:
		return s.buf[off:], nil
	case n == s.sealed:
		return s.buf[off%chunkSize:], nil
	case n != s.cached:
		sealed := make([]byte, chunkSize+tagSize)
		if _, err := s.file.ReadAt(sealed, offset(n)); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		chunk, err := s.aead.Open(sealed[:0], nonce(n), sealed, nil)
		if err != nil {
			return nil, errors.New("spool: the temporary file was altered")
		}
		s.cache, s.cached = chunk, n
	}
	return s.cache[off%chunkSize:], nil
}

// Close frees the content. Reading and writing fail afterwards with os.ErrClosed.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.buf)
	clear(s.cache)
	file := s.file
	s.buf, s.cache, s.cached, s.file, s.err = nil, nil, -1, nil, os.ErrClosed
	if file == nil {
		return nil
	}
	err := file.Close()
	if s.named {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	if err != nil {
		return fmt.Errorf("spool: close: %w", err)
	}
	return nil
}
