// Package stream encrypts content of any size in constant memory. What comes
// out is the bulk, which travels as it may, and a Header of fixed size, which
// travels inside an end-to-end encrypted message and vouches for every chunk of
// the bulk.
//
// The bulk is cut into chunks, each under its own nonce and signed with a key
// that exists for this bulk alone and only at its writer: whoever else has the
// Header, other members of a group say, can read the bulk but not put another
// one in its place. A reader gets nothing of a chunk that is not exactly the one
// the writer made for this place, and the last octets only when the whole bulk
// was seen to be what the Header says.
package stream

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// ChunkSize is how many octets of content are in a chunk; the last one may
	// have fewer.
	ChunkSize = 64 << 10
	// HeaderSize is the size of an encoded Header.
	HeaderSize = len(magic) + 8 + keySize + ed25519.PublicKeySize + sha256.Size
	// MaxSize bounds the content: 2^32 chunks, 256 TiB.
	MaxSize = ChunkSize << 32

	magic    = "CMT1"
	keySize  = 32
	overhead = chacha20poly1305.Overhead + ed25519.SignatureSize // of each chunk
	label    = "cloudmls/1 stream"
	signed   = "cloudmls/1 stream chunk"
)

var (
	// ErrHeader: what should be a Header is not one.
	ErrHeader = errors.New("not the header of a stream")
	// ErrCorrupt: the bulk is not the one that the Header vouches for: altered,
	// cut short, longer, or put together differently.
	ErrCorrupt = errors.New("stream is not what was sent")
	// ErrTooLarge: more than MaxSize octets.
	ErrTooLarge = errors.New("stream is too large")
)

// Header is what reading a bulk takes. It is secret.
type Header struct {
	Size   uint64 // of the content, without padding
	Key    [keySize]byte
	Signer [ed25519.PublicKeySize]byte // made for this bulk
	Digest [sha256.Size]byte           // of the hashes of all chunks in order
}

// String keeps the key out of logs.
func (h *Header) String() string { return "[redacted]" }

// MarshalBinary encodes the Header in HeaderSize octets. It never fails.
func (h *Header) MarshalBinary() ([]byte, error) {
	b := binary.BigEndian.AppendUint64([]byte(magic), h.Size)
	b = append(append(b, h.Key[:]...), h.Signer[:]...)
	return append(b, h.Digest[:]...), nil
}

// ParseHeader is the reverse of MarshalBinary.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) != HeaderSize || string(b[:len(magic)]) != magic {
		return nil, ErrHeader
	}
	h := &Header{Size: binary.BigEndian.Uint64(b[len(magic):])}
	if h.Size > MaxSize {
		return nil, ErrHeader
	}
	rest := b[len(magic)+8:]
	rest = rest[copy(h.Key[:], rest):]
	rest = rest[copy(h.Signer[:], rest):]
	copy(h.Digest[:], rest)
	return h, nil
}

// BulkSize gives the size of the bulk for this much content, padding included.
func BulkSize(content, padded uint64) uint64 {
	padded = max(content, padded)
	chunks := max(1, (padded+ChunkSize-1)/ChunkSize)
	return padded + chunks*uint64(overhead)
}

// chunkKey derives the AEAD key, so that the one in the Header serves nothing
// else.
func chunkKey(key []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, key, nil, label, chacha20poly1305.KeySize)
}

// nonce of a chunk: its number, and whether it is the last one.
func nonce(n uint64, last bool) []byte {
	b := make([]byte, chacha20poly1305.NonceSize)
	binary.BigEndian.PutUint64(b[3:], n)
	if last {
		b[11] = 1
	}
	return b
}

// signing is what is signed of a chunk.
func signing(n uint64, last bool, sum [sha256.Size]byte) []byte {
	b := append([]byte(signed), nonce(n, last)...)
	return append(b, sum[:]...)
}

// Encrypt reads content up to its end and writes the bulk. pad, if not nil, says
// to what size content of a size is padded; the padding is zeros after it. Memory
// is some chunks, whatever the size.
func Encrypt(bulk io.Writer, content io.Reader, pad func(uint64) uint64) (*Header, error) {
	h := &Header{}
	if _, err := rand.Read(h.Key[:]); err != nil {
		return nil, fmt.Errorf("make stream key: %w", err)
	}
	_, signer, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make stream key: %w", err)
	}
	return encrypt(bulk, content, pad, h, signer)
}

func encrypt(bulk io.Writer, content io.Reader, pad func(uint64) uint64, h *Header, signer ed25519.PrivateKey) (*Header, error) {
	copy(h.Signer[:], signer.Public().(ed25519.PublicKey))
	w, err := newWriter(bulk, h, signer)
	if err != nil {
		return nil, err
	}
	src := &padded{content: content, pad: pad}
	// One chunk is held back, since only the end tells that it is the last one.
	held, next := make([]byte, 0, ChunkSize+overhead), make([]byte, 0, ChunkSize+overhead)
	if held, err = src.chunk(held); err != nil {
		return nil, err
	}
	for n := uint64(0); ; n++ {
		if n >= MaxSize/ChunkSize {
			return nil, ErrTooLarge
		}
		if next, err = src.chunk(next); err != nil {
			return nil, err
		}
		last := len(next) == 0
		if err := w.write(held, n, last); err != nil {
			return nil, err
		}
		if last {
			h.Size = src.size
			w.digest.Sum(h.Digest[:0])
			return h, nil
		}
		held, next = next, held
	}
}

// padded is content with its padding behind it.
type padded struct {
	content io.Reader
	pad     func(uint64) uint64
	size    uint64
	ended   bool
	zeros   uint64
}

// chunk fills b up to ChunkSize; it is shorter, or empty, at the end only.
func (p *padded) chunk(b []byte) ([]byte, error) {
	b = b[:0]
	if !p.ended {
		n, err := io.ReadFull(p.content, b[:ChunkSize])
		b, p.size = b[:n], p.size+uint64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			p.ended = true
			if p.pad != nil {
				p.zeros = max(p.pad(p.size), p.size) - p.size
			}
		case err != nil:
			return nil, fmt.Errorf("read content: %w", err)
		}
	}
	if p.ended {
		more := min(p.zeros, uint64(ChunkSize-len(b)))
		p.zeros -= more
		n := len(b)
		b = b[:n+int(more)]
		clear(b[n:])
	}
	return b, nil
}

// writer seals and signs chunks.
type writer struct {
	bulk io.Writer
	aead interface {
		Seal(dst, nonce, plaintext, additional []byte) []byte
	}
	signer ed25519.PrivateKey
	digest hash.Hash
}

func newWriter(bulk io.Writer, h *Header, signer ed25519.PrivateKey) (*writer, error) {
	k, err := chunkKey(h.Key[:])
	if err != nil {
		return nil, fmt.Errorf("make stream key: %w", err)
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, fmt.Errorf("make stream key: %w", err)
	}
	return &writer{bulk: bulk, aead: aead, signer: signer, digest: sha256.New()}, nil
}

// write seals a chunk in place, which needs room behind it.
func (w *writer) write(chunk []byte, n uint64, last bool) error {
	sealed := w.aead.Seal(chunk[:0], nonce(n, last), chunk, nil)
	sum := sha256.Sum256(sealed)
	w.digest.Write(sum[:])
	sealed = append(sealed, ed25519.Sign(w.signer, signing(n, last, sum))...)
	if _, err := w.bulk.Write(sealed); err != nil {
		return fmt.Errorf("write stream: %w", err)
	}
	return nil
}
