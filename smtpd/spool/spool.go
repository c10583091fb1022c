// Package spool holds one message while it is received: in memory while it is
// small, in a temporary file once it is not. The file is encrypted under a key
// that exists in memory only, so nothing in clear reaches a disk, and what a
// crash leaves behind cannot be read by anyone.
//
// The file consists of chunks of 64 KiB, each sealed by AES-256-GCM with its
// number as the nonce; the key is fresh for every spool, so no nonce repeats.
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
	// DefaultMemory is how much a spool keeps in memory.
	DefaultMemory = 1 << 20

	chunkSize = 64 << 10
	tagSize   = 16
)

var errSealed = errors.New("spool: written after Finish")

// Spool is written once from start to end, then finished, then read at random.
// Writing is for one goroutine; reading is safe for several.
type Spool struct {
	dir    string
	memory int

	size     int64
	buf      []byte // everything, or the chunk under way once file is set
	file     *os.File
	aead     cipher.AEAD
	finished bool

	mu     sync.Mutex // guards what follows, and the file against Close
	cache  []byte     // one opened chunk
	cached int64
	closed bool
}

// New returns an empty spool. dir is where a file may be made (empty means the
// system's directory for temporary files); memory is how many octets stay in
// memory before that, 0 meaning DefaultMemory.
func New(dir string, memory int) *Spool {
	if memory <= 0 {
		memory = DefaultMemory
	}
	return &Spool{dir: dir, memory: memory, cached: -1}
}

// Write appends to the content.
func (s *Spool) Write(p []byte) (int, error) {
	if s.finished {
		return 0, errSealed
	}
	if s.file == nil && len(s.buf)+len(p) <= s.memory {
		s.buf = append(s.buf, p...)
		s.size += int64(len(p))
		return len(p), nil
	}
	if s.file == nil {
		if err := s.toFile(); err != nil {
			return 0, err
		}
	}
	written := 0
	for len(p) > 0 {
		n := min(len(p), chunkSize-len(s.buf))
		s.buf = append(s.buf, p[:n]...)
		p, written, s.size = p[n:], written+n, s.size+int64(n)
		if len(s.buf) == chunkSize {
			if err := s.flush((s.size - 1) / chunkSize); err != nil {
				return written, err
			}
		}
	}
	return written, nil
}

// toFile moves what is in memory into a new file.
func (s *Spool) toFile() error {
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
	_ = os.Remove(s.file.Name())
	whole := s.buf
	s.buf = make([]byte, 0, chunkSize)
	for n := int64(0); len(whole) > 0; n++ {
		k := min(len(whole), chunkSize)
		s.buf = append(s.buf[:0], whole[:k]...)
		whole = whole[k:]
		if k == chunkSize {
			if err := s.flush(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush seals the chunk under way as number n.
func (s *Spool) flush(n int64) error {
	sealed := s.aead.Seal(nil, nonce(n), s.buf, nil)
	if _, err := s.file.WriteAt(sealed, n*(chunkSize+tagSize)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	clear(s.buf)
	s.buf = s.buf[:0]
	return nil
}

func nonce(n int64) []byte {
	b := make([]byte, 12)
	binary.BigEndian.PutUint64(b[4:], uint64(n))
	return b
}

// Finish ends writing; it must be called before reading.
func (s *Spool) Finish() error {
	if s.finished {
		return nil
	}
	if s.file != nil && len(s.buf) > 0 {
		if err := s.flush((s.size - 1) / chunkSize); err != nil {
			return err
		}
	}
	s.finished = true
	return nil
}

// Size returns the number of octets written.
func (s *Spool) Size() int64 { return s.size }

// OnDisk says whether the content is in a file.
func (s *Spool) OnDisk() bool { return s.file != nil }

// ReadAt implements io.ReaderAt. It reports an altered file as an error.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, os.ErrClosed
	}
	if !s.finished {
		return 0, errors.New("spool: read before Finish")
	}
	read := 0
	for len(p) > 0 && off < s.size {
		var from []byte
		if s.file == nil {
			from = s.buf[off:]
		} else {
			chunk, err := s.open(off / chunkSize)
			if err != nil {
				return read, err
			}
			from = chunk[off%chunkSize:]
		}
		n := copy(p, from)
		p, off, read = p[n:], off+int64(n), read+n
	}
	if len(p) > 0 {
		return read, io.EOF
	}
	return read, nil
}

// open returns chunk number n, from the cache or the file.
func (s *Spool) open(n int64) ([]byte, error) {
	if n == s.cached {
		return s.cache, nil
	}
	size := min(chunkSize, s.size-n*chunkSize)
	sealed := make([]byte, size+tagSize)
	if _, err := s.file.ReadAt(sealed, n*(chunkSize+tagSize)); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	chunk, err := s.aead.Open(sealed[:0], nonce(n), sealed, nil)
	if err != nil {
		return nil, errors.New("spool: the temporary file was altered")
	}
	s.cache, s.cached = chunk, n
	return chunk, nil
}

// Close frees the content. Reading fails afterwards.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	clear(s.buf)
	clear(s.cache)
	s.buf, s.cache = nil, nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if removeErr := os.Remove(s.file.Name()); removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	if err != nil {
		return fmt.Errorf("spool: close: %w", err)
	}
	return nil
}
