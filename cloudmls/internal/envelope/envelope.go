package envelope

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes in octets.
const (
	KeySize = 32
	// MaxSize bounds an envelope; it equals the key server's limit per object.
	MaxSize = 16 << 20
	// MaxOrigin bounds Context.Origin.
	MaxOrigin = 1024

	saltSize   = 32
	commitSize = 32
	headerSize = len(magic) + 1 + 4 + 8 + 32 + 2 // without salt and commitment
	lengthSize = 4
	overhead   = headerSize + saltSize + commitSize + lengthSize + chacha20poly1305.Overhead
)

const (
	magic   = "CMS1"
	version = 1
	label   = "cloudmls/1 blob"
)

// ErrOpen is the single answer to every envelope that does not open, whatever
// the reason, so that a writer of bad envelopes learns nothing from it.
var ErrOpen = errors.New("sealed object does not open")

// Context is what the reader knows before it sees an envelope.
type Context struct {
	Origin  string   // configured name of the key server
	User    [16]byte // user id
	Account [32]byte // hash of the account the object belongs to; zero: the user's own
	Type    uint8    // what the object holds
	Object  [32]byte // object id
}

// Header travels in clear, authenticated.
type Header struct {
	KeyVersion uint32   // which key sealed: root version, or number of an archive key
	Counter    uint64   // of the object; 0 where it has none
	Previous   [32]byte // SHA-256 of the envelope that this one replaces; zero: none
	Slot       uint16   // the writer's device slot
}

// Expect is what the reader knows of the header. Nil fields are not compared.
type Expect struct {
	Counter  *uint64
	Previous *[32]byte
}

// Seal returns the envelope of plaintext under a key of KeySize octets.
func Seal(key []byte, c Context, h Header, plaintext []byte) ([]byte, error) {
	var salt [saltSize]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return seal(key, c, h, plaintext, salt)
}

func seal(key []byte, c Context, h Header, plaintext []byte, salt [saltSize]byte) ([]byte, error) {
	if len(plaintext) > MaxSize-overhead || Size(len(plaintext)) > MaxSize {
		return nil, fmt.Errorf("seal: %d octets exceed the limit of an envelope", len(plaintext))
	}
	size := Size(len(plaintext))
	b := make([]byte, 0, size)
	b = h.append(b)
	bound, err := c.bind(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	k, commit, err := derive(key, salt[:], bound)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	b = append(b, salt[:]...)
	b = append(b, commit...)
	// Plaintext, its length and the padding are laid out where the ciphertext
	// goes, and sealed in place.
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(plaintext)))
	b = append(b, plaintext...)
	b = b[:size-aead.Overhead()] // fresh memory: zeros
	var nonce [chacha20poly1305.NonceSize]byte
	aead.Seal(b[start:start], nonce[:], b[start:], bound)
	return b[:size], nil
}

// Open returns header and plaintext. Every failure is ErrOpen.
func Open(key []byte, c Context, want Expect, b []byte) (Header, []byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, nil, ErrOpen
	}
	bound, err := c.bind(b[:headerSize])
	if err != nil {
		return Header{}, nil, ErrOpen
	}
	rest := b[headerSize:]
	salt, commit, ct := rest[:saltSize], rest[saltSize:saltSize+commitSize], rest[saltSize+commitSize:]
	k, expected, err := derive(key, salt, bound)
	if err != nil {
		return Header{}, nil, ErrOpen
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return Header{}, nil, ErrOpen
	}
	var nonce [chacha20poly1305.NonceSize]byte
	pt, err := aead.Open(nil, nonce[:], ct, bound)
	ok := subtle.ConstantTimeCompare(commit, expected) == 1
	if err != nil || !ok || !want.matches(h) {
		return Header{}, nil, ErrOpen
	}
	n := binary.BigEndian.Uint32(pt)
	if uint64(n) > uint64(len(pt)-lengthSize) || Size(int(n)) != len(b) {
		return Header{}, nil, ErrOpen
	}
	pt = pt[lengthSize:]
	for _, z := range pt[n:] {
		if z != 0 {
			return Header{}, nil, ErrOpen
		}
	}
	return h, pt[:n:n], nil
}

// ParseHeader reads the header without a key. Its content is a claim of
// whoever served the envelope until Open succeeds.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < MinSize || len(b) > MaxSize || Padme(len(b)) != len(b) ||
		string(b[:len(magic)]) != magic || b[len(magic)] != version {
		return Header{}, ErrOpen
	}
	var h Header
	b = b[len(magic)+1:]
	h.KeyVersion = binary.BigEndian.Uint32(b)
	h.Counter = binary.BigEndian.Uint64(b[4:])
	copy(h.Previous[:], b[12:])
	h.Slot = binary.BigEndian.Uint16(b[44:])
	return h, nil
}

func (h Header) append(b []byte) []byte {
	b = append(b, magic...)
	b = append(b, version)
	b = binary.BigEndian.AppendUint32(b, h.KeyVersion)
	b = binary.BigEndian.AppendUint64(b, h.Counter)
	b = append(b, h.Previous[:]...)
	return binary.BigEndian.AppendUint16(b, h.Slot)
}

// bind joins the header and the reader's context; the result enters the key
// derivation and the AEAD's associated data.
func (c Context) bind(header []byte) ([]byte, error) {
	if len(c.Origin) > MaxOrigin {
		return nil, fmt.Errorf("origin of %d octets", len(c.Origin))
	}
	b := make([]byte, 0, len(header)+2+len(c.Origin)+len(c.User)+len(c.Account)+1+len(c.Object))
	b = append(b, header...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Origin)))
	b = append(b, c.Origin...)
	b = append(b, c.User[:]...)
	b = append(b, c.Account[:]...)
	b = append(b, c.Type)
	return append(b, c.Object[:]...), nil
}

func (e Expect) matches(h Header) bool {
	if e.Counter != nil && *e.Counter != h.Counter {
		return false
	}
	return e.Previous == nil || *e.Previous == h.Previous
}

// derive gives the AEAD key and the commitment to it.
func derive(key, salt, bound []byte) (k, commit []byte, err error) {
	if len(key) != KeySize {
		return nil, nil, fmt.Errorf("sealing key of %d octets, want %d", len(key), KeySize)
	}
	prk, err := hkdf.Extract(sha256.New, key, salt)
	if err != nil {
		return nil, nil, err
	}
	out, err := hkdf.Expand(sha256.New, prk, label+string(bound), KeySize+commitSize)
	clear(prk)
	if err != nil {
		return nil, nil, err
	}
	return out[:KeySize], out[KeySize:], nil
}

// Hash is SHA-256 of an envelope, as Header.Previous and the key server have it.
func Hash(b []byte) [32]byte { return sha256.Sum256(b) }
