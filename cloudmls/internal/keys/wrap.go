package keys

import (
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
)

// Kind says what a wrap of ROOT is opened with.
type Kind uint8

// Kinds of wraps.
const (
	KindPassword Kind = 1
	KindRecovery Kind = 2
	KindDevice   Kind = 3
)

// RootSize is the size of ROOT.
const RootSize = 32

// ErrUnwrap is the single answer to every wrap that does not open.
var ErrUnwrap = errors.New("wrapped root key does not open")

// kem is X-Wing (ML-KEM-768 with X25519). A wrap stays at the server for as
// long as ROOT lives and everything hangs on it, so it must hold against those
// who store today and have a quantum computer later; the price, about 1 KiB per
// wrap, is paid once per sign-in. Its private key is the 32-octet seed of the
// X-Wing specification, taken as it is: a change in how HPKE drafts stretch
// input keying material cannot lock anybody out.
func kem() hpke.KEM { return hpke.MLKEM768X25519() }

// PublicSize and EncSize are sizes of an X-Wing public key and encapsulation.
const (
	PublicSize = 1216
	EncSize    = 1120
)

// Recipient is whom ROOT is wrapped to. It holds no private key but is a
// secret all the same, kept in the sealed keyring: HPKE does not say who
// sealed, so whoever knew a recipient could wrap a ROOT of their own making.
// The server, which knows neither field, cannot.
type Recipient struct {
	Kind          Kind     `json:"kind"`
	ID            [16]byte `json:"id"` // of the device; zero for password and recovery code
	Public        []byte   `json:"public"`
	Authenticator []byte   `json:"authenticator"`
}

// Wrapper opens wraps made for its Recipient.
type Wrapper struct {
	private   hpke.PrivateKey
	recipient Recipient
	scope     Scope
}

// Wrap is ROOT sealed to one recipient, as the server stores it.
type Wrap struct {
	Kind   Kind
	ID     [16]byte
	Enc    []byte // EncSize octets
	Sealed []byte // CMS1
}

// NewDeviceSeed returns the secret from which FromDevice makes a key pair.
func NewDeviceSeed() ([]byte, error) {
	b := make([]byte, keySize)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make device seed: %w", err)
	}
	return b, nil
}

// FromDevice derives the key pair of a device.
func FromDevice(seed []byte, id [16]byte, s Scope) (*Wrapper, error) {
	if len(seed) != keySize {
		return nil, fmt.Errorf("device seed of %d octets, want %d", len(seed), keySize)
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return newWrapper(seed, KindDevice, id, s)
}

func newWrapper(secret []byte, kind Kind, id [16]byte, s Scope) (*Wrapper, error) {
	seed, err := s.expand(secret, "cloudmls/1 wrap key", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive wrap key: %w", err)
	}
	defer clear(seed)
	authenticator, err := s.expand(secret, "cloudmls/1 wrap authenticator", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive wrap authenticator: %w", err)
	}
	private, err := kem().NewPrivateKey(seed)
	if err != nil {
		return nil, fmt.Errorf("derive wrap key: %w", err)
	}
	return &Wrapper{
		private:   private,
		recipient: Recipient{kind, id, private.PublicKey().Bytes(), authenticator},
		scope:     s,
	}, nil
}

// Recipient gives what is needed to wrap for w.
func (w *Wrapper) Recipient() Recipient { return w.recipient }

// Root seals a root key of a version to r.
func (r Recipient) Root(root []byte, version uint32, s Scope) (Wrap, error) {
	if len(root) != RootSize {
		return Wrap{}, fmt.Errorf("wrap root: %d octets, want %d", len(root), RootSize)
	}
	if len(r.Authenticator) != keySize {
		return Wrap{}, errors.New("wrap root: recipient without authenticator")
	}
	public, err := kem().NewPublicKey(r.Public)
	if err != nil {
		return Wrap{}, fmt.Errorf("wrap root: recipient: %w", err)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ExportOnly(), r.info(s))
	if err != nil {
		return Wrap{}, fmt.Errorf("wrap root: %w", err)
	}
	key, err := sender.Export("cloudmls/1 wrap", keySize)
	if err != nil {
		return Wrap{}, fmt.Errorf("wrap root: %w", err)
	}
	defer clear(key)
	sealed, err := envelope.Seal(key, r.context(s), envelope.Header{KeyVersion: version}, root)
	if err != nil {
		return Wrap{}, fmt.Errorf("wrap root: %w", err)
	}
	return Wrap{Kind: r.Kind, ID: r.ID, Enc: enc, Sealed: sealed}, nil
}

// Root opens a wrap and gives the root key and its version. Every failure is
// ErrUnwrap.
func (w *Wrapper) Root(wrap Wrap) (root []byte, version uint32, err error) {
	if wrap.Kind != w.recipient.Kind || wrap.ID != w.recipient.ID {
		return nil, 0, ErrUnwrap
	}
	receiver, err := hpke.NewRecipient(wrap.Enc, w.private, hpke.HKDFSHA256(), hpke.ExportOnly(), w.recipient.info(w.scope))
	if err != nil {
		return nil, 0, ErrUnwrap
	}
	key, err := receiver.Export("cloudmls/1 wrap", keySize)
	if err != nil {
		return nil, 0, ErrUnwrap
	}
	defer clear(key)
	h, root, err := envelope.Open(key, w.recipient.context(w.scope), envelope.Expect{}, wrap.Sealed)
	if err != nil || len(root) != RootSize {
		return nil, 0, ErrUnwrap
	}
	return root, h.KeyVersion, nil
}

// info binds the HPKE key schedule to the recipient's secret authenticator and
// to the place of the wrap.
func (r Recipient) info(s Scope) []byte {
	b := s.bind([]byte("cloudmls/1 wrap"))
	b = append(b, byte(r.Kind))
	b = append(b, r.ID[:]...)
	return append(b, r.Authenticator...)
}

func (r Recipient) context(s Scope) envelope.Context {
	c := envelope.Context{Origin: s.Origin, Type: 1, Object: sha256.Sum256(append([]byte{byte(r.Kind)}, r.ID[:]...))}
	copy(c.User[:], s.User)
	return c
}

// Limits of a list of wraps.
const (
	maxWraps = 1024
	wrapSize = 1 + 16 + EncSize + envelope.MinSize
)

// MarshalWraps gives the octets of the wrap object: a count (16 bits) and the
// wraps, all of one size.
func MarshalWraps(wraps []Wrap) ([]byte, error) {
	if len(wraps) > maxWraps {
		return nil, fmt.Errorf("encode wraps: more than %d", maxWraps)
	}
	b := append([]byte("CMW1"), byte(len(wraps)>>8), byte(len(wraps)))
	for _, w := range wraps {
		if len(w.Enc) != EncSize || len(w.Sealed) != envelope.MinSize {
			return nil, errors.New("encode wraps: wrap of wrong size")
		}
		b = append(b, byte(w.Kind))
		b = append(b, w.ID[:]...)
		b = append(b, w.Enc...)
		b = append(b, w.Sealed...)
	}
	return b, nil
}

// ParseWraps reads what MarshalWraps wrote. The octets come from the server
// and are trusted in nothing.
func ParseWraps(b []byte) ([]Wrap, error) {
	bad := errors.New("list of wrapped root keys is malformed")
	if len(b) < 6 || string(b[:4]) != "CMW1" {
		return nil, bad
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	b = b[6:]
	if n > maxWraps || len(b) != n*wrapSize {
		return nil, bad
	}
	wraps := make([]Wrap, 0, n)
	for ; len(b) > 0; b = b[wrapSize:] {
		w := Wrap{Kind: Kind(b[0])}
		copy(w.ID[:], b[1:])
		w.Enc = append([]byte{}, b[17:17+EncSize]...)
		w.Sealed = append([]byte{}, b[17+EncSize:wrapSize]...)
		wraps = append(wraps, w)
	}
	return wraps, nil
}

// Find opens the wrap of w's recipient; ErrUnwrap where there is none that opens.
// While a password is being replaced there are two of its kind.
func (w *Wrapper) Find(wraps []Wrap) (root []byte, version uint32, err error) {
	for _, x := range wraps {
		if root, version, err = w.Root(x); err == nil {
			return root, version, nil
		}
	}
	return nil, 0, ErrUnwrap
}
