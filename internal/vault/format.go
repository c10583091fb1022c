package vault

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloudmls/gateway/internal/secret"
)

// A vault file: magic, version, file id (random, also the salt of the key), key
// commitment, ciphertext, SHA-256 of all before. The checksum tells a damaged
// file from a wrong key; what is authenticated is the rest.
//
// Plaintext: number of secrets (32 bits), then for each, in ascending order of
// names, length (16 bits) and octets of the name, length (32 bits) and octets
// of the secret; then zeros up to a multiple of padding, so that the size does
// not tell the length of a password.
const (
	magic   = "CMVT"
	version = 1

	headSize   = len(magic) + 1 + len(fileID{})
	commitSize = 32
	padding    = 1 << 10
	overhead   = headSize + commitSize + chacha20poly1305.Overhead + sha256.Size
)

// fileID is random in each file that is written.
type fileID [32]byte

func parseHead(b []byte) (id fileID, err error) {
	if string(b[:len(magic)]) != magic {
		return id, errors.New("it is something else")
	}
	if v := b[len(magic)]; v != version {
		return id, fmt.Errorf("it has version %d, known is %d", v, version)
	}
	copy(id[:], b[len(magic)+1:])
	if id == (fileID{}) {
		return id, errors.New("its id is zero")
	}
	return id, nil
}

// seal returns a file with these secrets and its id.
func seal(key secret.Secret, secrets map[string][]byte) ([]byte, fileID, error) {
	var id fileID
	if _, err := rand.Read(id[:]); err != nil {
		return nil, id, err
	}
	plain, err := encode(secrets)
	if err != nil {
		return nil, id, err
	}
	defer clear(plain)
	if len(plain)+overhead > MaxFile {
		return nil, id, fmt.Errorf("a vault has at most %d octets", MaxFile)
	}
	b := make([]byte, 0, len(plain)+overhead)
	b = append(append(b, magic...), version)
	b = append(b, id[:]...)
	k, commit, err := derive(key, b)
	if err != nil {
		return nil, id, err
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, id, err
	}
	b = append(b, commit...)
	// The id makes k unique, so the nonce need not be.
	b = aead.Seal(b, make([]byte, aead.NonceSize()), plain, b[:headSize])
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), id, nil
}

// open returns the secrets of a file. The error is ErrKey if it was sealed under
// another key.
func open(key secret.Secret, b []byte) (map[string][]byte, error) {
	if len(b) < overhead || len(b) > MaxFile {
		return nil, fmt.Errorf("it has %d octets", len(b))
	}
	if _, err := parseHead(b); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b[:len(b)-sha256.Size]); string(sum[:]) != string(b[len(b)-sha256.Size:]) {
		return nil, errors.New("its checksum is wrong")
	}
	k, commit, err := derive(key, b[:headSize])
	if err != nil {
		return nil, err
	}
	defer clear(k)
	if !secret.EqualBytes(commit, b[headSize:headSize+commitSize]) {
		return nil, ErrKey
	}
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), b[headSize+commitSize:len(b)-sha256.Size], b[:headSize])
	if err != nil {
		return nil, errors.New("its content does not authenticate")
	}
	defer clear(plain)
	return decode(plain)
}

// derive makes the AEAD key of a file and its commitment.
func derive(key secret.Secret, head []byte) (k, commit []byte, err error) {
	both, err := hkdf.Key(sha256.New, key.Reveal(), head, "cloudmls/1 vault file", chacha20poly1305.KeySize+commitSize)
	if err != nil {
		return nil, nil, err
	}
	return both[:chacha20poly1305.KeySize:chacha20poly1305.KeySize], both[chacha20poly1305.KeySize:], nil
}

func encode(secrets map[string][]byte) ([]byte, error) {
	if len(secrets) > MaxSecrets {
		return nil, fmt.Errorf("a vault has at most %d secrets", MaxSecrets)
	}
	size := 4
	for name, s := range secrets {
		size += 2 + len(name) + 4 + len(s)
	}
	size = (size + padding - 1) / padding * padding
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, uint32(len(secrets)))
	for _, name := range names(secrets, "") {
		b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
		b = binary.BigEndian.AppendUint32(b, uint32(len(secrets[name])))
		b = append(b, secrets[name]...)
	}
	return b[:size], nil // fresh memory: zeros
}

// decode reads exactly what encode writes.
func decode(b []byte) (map[string][]byte, error) {
	size := len(b)
	if size > MaxFile {
		return nil, fmt.Errorf("its content has %d octets", size)
	}
	count, b, err := number(b, 4)
	if err != nil {
		return nil, err
	}
	if count > MaxSecrets {
		return nil, fmt.Errorf("it holds %d secrets", count)
	}
	secrets := map[string][]byte{}
	last := ""
	for range count {
		var name, s []byte
		if name, b, err = field(b, 2); err != nil {
			return nil, err
		}
		if s, b, err = field(b, 4); err != nil {
			return nil, err
		}
		if err := checkName(string(name)); err != nil {
			return nil, err
		}
		if err := checkSize(s); err != nil {
			return nil, err
		}
		if string(name) <= last {
			return nil, errors.New("its names are not in order")
		}
		last = string(name)
		secrets[last] = append([]byte(nil), s...)
	}
	if len(b) >= padding || size%padding != 0 {
		return nil, errors.New("its padding has the wrong size")
	}
	for _, z := range b {
		if z != 0 {
			return nil, errors.New("its padding is not zeros")
		}
	}
	return secrets, nil
}

var errShort = errors.New("its content ends early")

// number reads a big-endian number of n octets, at most 4.
func number(b []byte, n int) (uint32, []byte, error) {
	if len(b) < n {
		return 0, nil, errShort
	}
	var v uint32
	for _, c := range b[:n] {
		v = v<<8 | uint32(c)
	}
	return v, b[n:], nil
}

// field reads octets after their length of n octets.
func field(b []byte, n int) (value, rest []byte, err error) {
	size, b, err := number(b, n)
	if err != nil {
		return nil, nil, err
	}
	if uint64(size) > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:size], b[size:], nil
}
