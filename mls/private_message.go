package mls

import (
	"bytes"
	"crypto/subtle"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// privateMessage is PrivateMessage (RFC 9420 section 6.3): signed and
// encrypted.
type privateMessage struct {
	groupID             GroupID
	epoch               Epoch
	contentType         ContentType
	authenticatedData   []byte
	encryptedSenderData []byte
	ciphertext          []byte
}

func (p *privateMessage) marshal(w *codec.Writer) {
	w.Raw(p.contentAAD())
	w.Opaque(p.encryptedSenderData)
	w.Opaque(p.ciphertext)
}

func (p *privateMessage) unmarshal(r *codec.Reader) {
	p.groupID = GroupID(r.OpaqueMax(maxGroupID))
	p.epoch = Epoch(r.Uint64())
	p.contentType = ContentType(r.Uint8())
	if t := p.contentType; r.Err() == nil && (t < ContentApplication || t > ContentCommit) {
		r.Fail(fmt.Errorf("unknown content type %d", t))
	}
	p.authenticatedData = r.Opaque()
	p.encryptedSenderData = r.OpaqueMax(maxHash)
	p.ciphertext = r.Opaque()
}

// senderDataAAD is SenderDataAAD (RFC 9420 section 6.3.2).
func (p *privateMessage) senderDataAAD() []byte {
	var w codec.Writer
	w.Grow(usualSize)
	w.Opaque([]byte(p.groupID))
	w.Uint64(uint64(p.epoch))
	w.Uint8(uint8(p.contentType))
	return w.Bytes()
}

// contentAAD is PrivateContentAAD (RFC 9420 section 6.3.1).
func (p *privateMessage) contentAAD() []byte {
	var w codec.Writer
	w.Raw(p.senderDataAAD())
	w.Opaque(p.authenticatedData)
	return w.Bytes()
}

// senderData is SenderData (RFC 9420 section 6.3.2).
type senderData struct {
	leaf       LeafIndex
	generation uint32
	guard      [4]byte
}

func (d *senderData) marshal(w *codec.Writer) {
	w.Uint32(uint32(d.leaf))
	w.Uint32(d.generation)
	w.Raw(d.guard[:])
}

func (d *senderData) unmarshal(r *codec.Reader) {
	d.leaf = LeafIndex(r.Uint32())
	d.generation = r.Uint32()
	copy(d.guard[:], r.Raw(len(d.guard)))
}

// senderDataKey derives the key for the sender data from a sample of the
// ciphertext (RFC 9420 section 6.3.2).
func senderDataKey(s *labeled.Suite, secret, ciphertext []byte) (k messageKey, err error) {
	sample := ciphertext[:min(len(ciphertext), s.Nh)]
	if k.key, err = s.ExpandWithLabel(secret, "key", sample, s.Nk); err != nil {
		return messageKey{}, err
	}
	if k.nonce, err = s.ExpandWithLabel(secret, "nonce", sample, s.Nn); err != nil {
		return messageKey{}, err
	}
	return k, nil
}

// guarded returns the nonce XORed with the reuse guard (RFC 9420 section
// 6.3.1).
func (k messageKey) guarded(guard [4]byte) []byte {
	nonce := bytes.Clone(k.nonce)
	subtle.XORBytes(nonce, nonce, guard[:])
	return nonce
}

// sealPrivate encrypts signed content of a member under the key of its
// generation. padding maps the size of the content to the padded size; nil
// means no padding.
func sealPrivate(s *labeled.Suite, senderDataSecret []byte, a *authenticatedContent, key messageKey, d senderData, padding func(int) int) (*privateMessage, error) {
	// RFC 9420 section 6.3.2: only members can encrypt.
	if a.framed.sender.Type != SenderMember {
		return nil, invalid("6.3.2", "sender of a private message is not a member")
	}
	var w codec.Writer
	w.Grow(usualSize + len(a.framed.content.application) + a.framed.content.commit.size())
	a.framed.content.marshal(&w, a.framed.contentType)
	a.auth.marshal(&w, a.framed.contentType)
	plaintext, err := pad(w.Bytes(), padding)
	if err != nil {
		return nil, err
	}
	p := &privateMessage{
		groupID:           a.framed.groupID,
		epoch:             a.framed.epoch,
		contentType:       a.framed.contentType,
		authenticatedData: a.framed.authenticatedData,
	}
	if p.ciphertext, err = s.AEADSeal(key.key, key.guarded(d.guard), p.contentAAD(), plaintext); err != nil {
		return nil, err
	}
	k, err := senderDataKey(s, senderDataSecret, p.ciphertext)
	if err != nil {
		return nil, err
	}
	if p.encryptedSenderData, err = s.AEADSeal(k.key, k.nonce, p.senderDataAAD(), encode(&d)); err != nil {
		return nil, err
	}
	if p.size() > MaxMessage {
		return nil, fmt.Errorf("message of %d bytes, at most %d are allowed", p.size(), MaxMessage)
	}
	return p, nil
}

// size is an upper bound of the encoded size.
func (p *privateMessage) size() int {
	return len(p.groupID) + len(p.authenticatedData) + len(p.encryptedSenderData) + len(p.ciphertext) + 64
}

// pad appends zero bytes up to the size that padding asks for.
func pad(plaintext []byte, padding func(int) int) ([]byte, error) {
	if padding == nil {
		return plaintext, nil
	}
	n := padding(len(plaintext))
	if n < len(plaintext) || n > MaxMessage {
		return nil, fmt.Errorf("padding of %d bytes to %d is impossible", len(plaintext), n)
	}
	return append(plaintext, make([]byte, n-len(plaintext))...), nil
}

// openSenderData decrypts who sent a message under which generation.
func openSenderData(s *labeled.Suite, secret []byte, p *privateMessage) (d senderData, err error) {
	k, err := senderDataKey(s, secret, p.ciphertext)
	if err != nil {
		return d, err
	}
	plaintext, err := s.AEADOpen(k.key, k.nonce, p.senderDataAAD(), p.encryptedSenderData)
	if err != nil {
		return d, invalidBecause("6.3.2", "sender data", err)
	}
	if err := decode(plaintext, &d); err != nil {
		return d, invalidBecause("6.3.2", "sender data is malformed", err)
	}
	return d, nil
}

// openPrivate decrypts a message. The signature is still to be checked.
func openPrivate(s *labeled.Suite, p *privateMessage, key messageKey, d senderData) (*authenticatedContent, error) {
	plaintext, err := s.AEADOpen(key.key, key.guarded(d.guard), p.contentAAD(), p.ciphertext)
	if err != nil {
		return nil, invalidBecause("6.3.1", "message content", err)
	}
	a := &authenticatedContent{
		wireFormat: WirePrivateMessage,
		framed: framedContent{
			groupID:           p.groupID,
			epoch:             p.epoch,
			sender:            Sender{Type: SenderMember, Index: uint32(d.leaf)},
			authenticatedData: p.authenticatedData,
			contentType:       p.contentType,
		},
	}
	r := codec.NewReader(plaintext)
	a.framed.content.unmarshal(r, p.contentType)
	a.auth.unmarshal(r, p.contentType)
	padding := r.Rest()
	if err := r.Err(); err != nil {
		return nil, invalidBecause("6.3.1", "message content is malformed", err)
	}
	// RFC 9420 section 6.3.1: padding is zero bytes only.
	for _, b := range padding {
		if b != 0 {
			return nil, invalid("6.3.1", "padding holds a byte that is not zero")
		}
	}
	return a, nil
}
