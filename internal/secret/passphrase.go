package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/text/secure/precis"
)

// Argon2id (RFC 9106): what is written, and what is accepted of a file.
const (
	sealTime, sealMemory, sealThreads = 3, 64 << 10, 4 // memory in KiB
	maxSealTime, maxSealMemory        = 10, 1 << 20
	maxSealThreads                    = 16
	// MinPassphrase is the least number of characters of a new passphrase.
	MinPassphrase = 8
)

// A sealed key: magic, version, time, memory in KiB, threads, salt, vault id,
// key commitment, ciphertext, SHA-256 of all before. The checksum tells a
// damaged file from a wrong passphrase; what is authenticated is the rest.
const (
	sealMagic   = "CMVK"
	sealVersion = 1

	sealHeader = len(sealMagic) + 1 + 4 + 4 + 1 + 16 + 16
	sealCommit = 32
	sealBody   = VaultKeySize + chacha20poly1305.Overhead
	sealSize   = sealHeader + sealCommit + sealBody + sha256.Size
)

type sealedKey struct {
	time, memory uint32
	threads      uint8
	salt         [16]byte
	id           vaultID
	commit       [sealCommit]byte
	body         [sealBody]byte
}

// sealKey seals a vault key under a passphrase.
func sealKey(id vaultID, key, passphrase Secret) (*sealedKey, error) {
	s := &sealedKey{time: sealTime, memory: sealMemory, threads: sealThreads, id: id}
	if _, err := rand.Read(s.salt[:]); err != nil {
		return nil, err
	}
	k, commit, err := s.derive(passphrase)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return nil, err
	}
	copy(s.commit[:], commit)
	// The salt makes k unique, so the nonce need not be.
	aead.Seal(s.body[:0], make([]byte, aead.NonceSize()), key.Reveal(), s.header())
	return s, nil
}

// open returns the vault key. With another passphrase the error wraps
// ErrVaultKeyWrong.
func (s *sealedKey) open(passphrase Secret) (Secret, error) {
	k, commit, err := s.derive(passphrase)
	if err != nil {
		return Secret{}, err
	}
	defer clear(k)
	if !EqualBytes(commit, s.commit[:]) {
		return Secret{}, fmt.Errorf("%w: the passphrase is not the one the key was sealed with; try again", ErrVaultKeyWrong)
	}
	aead, err := chacha20poly1305.New(k)
	if err != nil {
		return Secret{}, err
	}
	key, err := aead.Open(nil, make([]byte, aead.NonceSize()), s.body[:], s.header())
	if err != nil {
		return Secret{}, fmt.Errorf("%w: its content does not authenticate", ErrVaultKey)
	}
	defer clear(key)
	return New(key), nil
}

// derive makes the AEAD key and its commitment from a passphrase.
func (s *sealedKey) derive(passphrase Secret) (k, commit []byte, err error) {
	text, err := precis.OpaqueString.Bytes(passphrase.Reveal())
	if err != nil {
		return nil, nil, errors.New("the passphrase is empty or has characters that a password cannot have")
	}
	defer clear(text)
	stretched := argon2.IDKey(text, s.salt[:], s.time, s.memory, s.threads, 32)
	defer clear(stretched)
	both, err := hkdf.Key(sha256.New, stretched, nil, "cloudmls/1 sealed vault key"+string(s.header()), chacha20poly1305.KeySize+sealCommit)
	if err != nil {
		return nil, nil, err
	}
	return both[:chacha20poly1305.KeySize:chacha20poly1305.KeySize], both[chacha20poly1305.KeySize:], nil
}

func (s *sealedKey) header() []byte {
	b := append(make([]byte, 0, sealSize), sealMagic...)
	b = append(b, sealVersion)
	b = binary.BigEndian.AppendUint32(b, s.time)
	b = binary.BigEndian.AppendUint32(b, s.memory)
	b = append(b, s.threads)
	b = append(b, s.salt[:]...)
	return append(b, s.id[:]...)
}

func (s *sealedKey) encode() []byte {
	b := append(append(s.header(), s.commit[:]...), s.body[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func parseSealed(b []byte) (*sealedKey, error) {
	if len(b) != sealSize {
		return nil, fmt.Errorf("it does not have %d octets", sealSize)
	}
	if sum := sha256.Sum256(b[:sealSize-sha256.Size]); string(sum[:]) != string(b[sealSize-sha256.Size:]) {
		return nil, errors.New("its checksum is wrong")
	}
	if string(b[:len(sealMagic)]) != sealMagic {
		return nil, errors.New("it is something else")
	}
	if v := b[len(sealMagic)]; v != sealVersion {
		return nil, fmt.Errorf("it has version %d, known is %d", v, sealVersion)
	}
	s := &sealedKey{}
	b = b[len(sealMagic)+1:]
	s.time, s.memory, s.threads = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]), b[8]
	b = b[9:]
	if s.time < sealTime || s.time > maxSealTime || s.memory < sealMemory || s.memory > maxSealMemory ||
		s.threads < 1 || s.threads > maxSealThreads {
		return nil, fmt.Errorf("its Argon2id parameters are out of bounds (time %d, memory %d KiB, threads %d)", s.time, s.memory, s.threads)
	}
	for _, field := range [][]byte{s.salt[:], s.id[:], s.commit[:], s.body[:]} {
		b = b[copy(field, b):]
	}
	return s, nil
}

func readSealed(name string) (*sealedKey, error) {
	b, err := readSmall(name, sealSize)
	if err != nil {
		return nil, err
	}
	s, err := parseSealed(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore it from a copy", ErrVaultKey, name, err)
	}
	return s, nil
}

// passphraseKeeper keeps the key in a file sealed under a passphrase.
type passphraseKeeper struct {
	name string
	ask  func(newOne bool) (Secret, error)
}

func (p passphraseKeeper) make(id vaultID) (Secret, error) {
	key, err := newVaultKey()
	if err != nil {
		return Secret{}, err
	}
	return key, p.write(id, key, create)
}

func (p passphraseKeeper) keep(id vaultID, key Secret) error {
	if err := p.ours(id); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.write(id, key, replace)
}

func (p passphraseKeeper) write(id vaultID, key Secret, write func(string, []byte) error) error {
	passphrase, err := p.askFor(true)
	if err != nil {
		return err
	}
	s, err := sealKey(id, key, passphrase)
	if err != nil {
		return err
	}
	if err := write(p.name, s.encode()); err != nil {
		return err
	}
	if s, err = readSealed(p.name); err != nil {
		return err
	}
	again, err := s.open(passphrase)
	if err == nil && !again.Equal(key) {
		err = fmt.Errorf("%w: %s does not hold what was written", ErrVaultKey, p.name)
	}
	return err
}

func (p passphraseKeeper) load(id vaultID) (Secret, error) {
	s, err := readSealed(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, fmt.Errorf("%w: %s is missing; restore it from a copy", ErrNoVaultKey, p.name)
	}
	if err != nil {
		return Secret{}, err
	}
	if s.id != id {
		return Secret{}, fmt.Errorf("%w: %s belongs to another vault; restore it from a copy of this folder", ErrVaultKeyWrong, p.name)
	}
	passphrase, err := p.askFor(false)
	if err != nil {
		return Secret{}, err
	}
	return s.open(passphrase)
}

func (p passphraseKeeper) askFor(newOne bool) (Secret, error) {
	passphrase, err := p.ask(newOne)
	switch {
	case err != nil:
		return Secret{}, fmt.Errorf("%w: passphrase: %w", ErrVaultKeyUnavailable, err)
	case newOne && utf8.RuneCount(passphrase.Reveal()) < MinPassphrase:
		return Secret{}, fmt.Errorf("the passphrase has fewer than %d characters; choose a longer one", MinPassphrase)
	}
	return passphrase, nil
}

func (passphraseKeeper) forget(vaultID) error { return nil }

func (p passphraseKeeper) remove(id vaultID, _ Secret) error {
	err := p.ours(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeFile(p.name)
}

// ours fails if the file is there and belongs to another vault. The error wraps
// fs.ErrNotExist if there is none.
func (p passphraseKeeper) ours(id vaultID) error {
	s, err := readSealed(p.name)
	if err == nil && s.id != id {
		err = fmt.Errorf("%w: %s belongs to another vault; move it away", ErrVaultKeyWrong, p.name)
	}
	return err
}

func (p passphraseKeeper) where(vaultID) string { return p.name }
