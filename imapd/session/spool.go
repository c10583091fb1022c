package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolChunk is the unit in which a spool file is encrypted.
const spoolChunk = 64 << 10

// spool holds an uploaded message, or one that is served: in memory up to a limit, above it in a
// temporary file, encrypted with a key that exists in memory only. The file
// has no name from the start where the system allows it, and is removed by
// close. Written once, then read at random.
type spool struct {
	limit int64
	dir   string

	size   int64
	mem    []byte // all of it, or the chunk being filled
	file   *os.File
	linked bool // the file still has a name
	aead   cipher.AEAD
	chunks int64
	cached int64 // chunk in cache, -1 for none
	cache  []byte
}

func newSpool(limit int64, dir string) *spool {
	return &spool{limit: limit, dir: dir, cached: -1}
}

// Write implements io.Writer.
func (p *spool) Write(b []byte) (int, error) {
	n := len(b)
	p.size += int64(n)
	if p.file == nil && p.size <= p.limit {
		p.mem = append(p.mem, b...)
		return n, nil
	}
	if p.file == nil {
		if err := p.open(); err != nil {
			return 0, err
		}
		all := p.mem
		p.mem = make([]byte, 0, spoolChunk)
		if err := p.fill(all); err != nil {
			return 0, err
		}
		clear(all)
	}
	if err := p.fill(b); err != nil {
		return 0, err
	}
	return n, nil
}

func (p *spool) open() error {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return fmt.Errorf("spool cipher: %w", err)
	}
	if p.aead, err = cipher.NewGCM(block); err != nil {
		return fmt.Errorf("spool cipher: %w", err)
	}
	if p.file, err = os.CreateTemp(p.dir, "cloudmls-spool-*"); err != nil {
		return fmt.Errorf("create spool file: %w", err)
	}
	p.linked = os.Remove(p.file.Name()) != nil
	return nil
}

func (p *spool) fill(b []byte) error {
	for len(b) > 0 {
		k := min(len(b), spoolChunk-len(p.mem))
		p.mem = append(p.mem, b[:k]...)
		b = b[k:]
		if len(p.mem) == spoolChunk {
			if err := p.writeChunk(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *spool) writeChunk() error {
	sealed := p.aead.Seal(nil, p.nonce(p.chunks), p.mem, nil)
	if _, err := p.file.WriteAt(sealed, p.offset(p.chunks)); err != nil {
		return fmt.Errorf("write spool file: %w", err)
	}
	p.chunks++
	clear(p.mem)
	p.mem = p.mem[:0]
	return nil
}

func (p *spool) offset(chunk int64) int64 { return chunk * int64(spoolChunk+p.aead.Overhead()) }

func (p *spool) nonce(chunk int64) []byte {
	n := make([]byte, p.aead.NonceSize())
	binary.BigEndian.PutUint64(n, uint64(chunk))
	return n
}

// ReadAt implements io.ReaderAt. Not safe for concurrent use.
func (p *spool) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset in spool")
	}
	n := 0
	for n < len(b) && off < p.size {
		data, start, err := p.at(off)
		if err != nil {
			return n, err
		}
		k := copy(b[n:], data[off-start:])
		n, off = n+k, off+int64(k)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// at returns the piece that holds off, and where it begins.
func (p *spool) at(off int64) ([]byte, int64, error) {
	chunk := off / spoolChunk
	switch {
	case p.file == nil:
		return p.mem, 0, nil
	case chunk == p.chunks:
		return p.mem, chunk * spoolChunk, nil
	case chunk == p.cached:
		return p.cache, chunk * spoolChunk, nil
	}
	sealed := make([]byte, spoolChunk+p.aead.Overhead())
	if _, err := p.file.ReadAt(sealed, p.offset(chunk)); err != nil {
		return nil, 0, fmt.Errorf("read spool file: %w", err)
	}
	plain, err := p.aead.Open(sealed[:0], p.nonce(chunk), sealed, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("read spool file: %w", err)
	}
	p.cache, p.cached = plain, chunk
	return plain, chunk * spoolChunk, nil
}

// close forgets the content.
func (p *spool) close() error {
	clear(p.mem)
	clear(p.cache)
	if p.file == nil {
		return nil
	}
	name := p.file.Name()
	err := p.file.Close()
	if p.linked {
		err = errors.Join(err, os.Remove(name))
	}
	p.file = nil
	return err
}
