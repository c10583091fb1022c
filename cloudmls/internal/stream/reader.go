package stream

import (
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

// Decrypt gives the content of a bulk. The reader returns octets of a chunk only
// when it is known to be the writer's for its place, and those of the last chunk
// with content, and the end, only when all of the bulk is; up to then an error
// that matches ErrCorrupt may come, and what was read before is a beginning of
// the content, no more. Errors of the bulk's source are passed on as they are.
// Memory is some chunks, whatever the size.
func Decrypt(bulk io.Reader, h *Header) (io.Reader, error) {
	k, err := chunkKey(h.Key[:])
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	const room = ChunkSize + overhead
	return &reader{
		bulk: bulk, header: h, aead: aead, digest: sha256.New(),
		sealed: make([]byte, 0, room), ahead: make([]byte, 0, room), held: make([]byte, 0, ChunkSize),
	}, nil
}

type reader struct {
	bulk   io.Reader
	header *Header
	aead   cipher.AEAD
	digest hash.Hash

	sealed, ahead []byte // the next chunk, and the one after it, as they came
	started       bool
	n             uint64 // number of the next chunk
	opened        uint64 // octets in the chunks opened, padding included
	held          []byte // the end of the content, until all is known to be right
	ready         []byte // to be handed out
	err           error  // after ready
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if err := r.next(); err != nil {
			r.ready, r.err = nil, err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// next opens a chunk.
func (r *reader) next() error {
	var err error
	if !r.started {
		r.started = true
		if r.sealed, err = r.fetch(r.sealed); err != nil {
			return err
		}
	} else {
		r.sealed, r.ahead = r.ahead, r.sealed
	}
	last := len(r.sealed) < cap(r.sealed)
	r.ahead = r.ahead[:0]
	if !last {
		if r.ahead, err = r.fetch(r.ahead); err != nil {
			return err
		}
		last = len(r.ahead) == 0
	}
	chunk, err := r.open(last)
	if err != nil {
		return err
	}
	before := r.opened
	if r.opened += uint64(len(chunk)); !last && len(chunk) != ChunkSize || r.opened > MaxSize {
		return ErrCorrupt
	}
	content := uint64(0)
	if before < r.header.Size {
		content = min(uint64(len(chunk)), r.header.Size-before)
	}
	for _, o := range chunk[content:] {
		if o != 0 {
			return ErrCorrupt
		}
	}
	if content > 0 && r.opened < r.header.Size {
		if last {
			return ErrCorrupt
		}
		r.ready = chunk
		return nil
	}
	if content > 0 { // the end of the content; padding may follow
		r.held = append(r.held[:0], chunk[:content]...)
	}
	if !last {
		return nil
	}
	if r.opened < r.header.Size || subtle.ConstantTimeCompare(r.digest.Sum(nil), r.header.Digest[:]) != 1 {
		return ErrCorrupt
	}
	r.ready, r.err = r.held, io.EOF
	return nil
}

// open verifies and decrypts the chunk in r.sealed, in place.
func (r *reader) open(last bool) ([]byte, error) {
	if len(r.sealed) < overhead {
		return nil, ErrCorrupt
	}
	at := len(r.sealed) - ed25519.SignatureSize
	sum := sha256.Sum256(r.sealed[:at])
	if !ed25519.Verify(r.header.Signer[:], signing(r.n, last, sum), r.sealed[at:]) {
		return nil, ErrCorrupt
	}
	r.digest.Write(sum[:])
	chunk, err := r.aead.Open(r.sealed[:0], nonce(r.n, last), r.sealed[:at], nil)
	if err != nil {
		return nil, ErrCorrupt
	}
	r.n++
	return chunk, nil
}

// fetch reads a sealed chunk; fewer octets than fit are the end of the bulk.
func (r *reader) fetch(b []byte) ([]byte, error) {
	n, err := io.ReadFull(r.bulk, b[:cap(b)])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err != nil {
		return b[:0], fmt.Errorf("read stream: %w", err)
	}
	return b[:n], nil
}
