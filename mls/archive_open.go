package mls

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Open decrypts an application message of the epoch and verifies its
// signature. It does not detect replays: whoever needs that compares
// (Sender, Generation). Generations from MaxGeneration on are refused before
// anything is derived. m is not changed.
func (a *ArchiveRecord) Open(m *Message) (*Application, error) {
	app, err := a.open(m)
	if err != nil {
		return nil, fmt.Errorf("open message: %w", err)
	}
	return app, nil
}

func (a *ArchiveRecord) open(m *Message) (*Application, error) {
	if m == nil || m.private == nil || m.private.contentType != ContentApplication {
		return nil, ErrNotApplication
	}
	p := m.private
	switch {
	case p.groupID != a.context.groupID:
		return nil, ErrWrongGroup
	case p.epoch < a.context.epoch:
		return nil, ErrStaleEpoch
	case p.epoch > a.context.epoch:
		return nil, ErrFutureEpoch
	}
	d, err := openSenderData(a.suite, a.senderDataSecret, p)
	if err != nil {
		return nil, err
	}
	member, ok := a.Member(d.leaf)
	if !ok {
		return nil, invalidBecause("6.3.2", "sender", ErrNotMember)
	}
	key, err := a.key(d.leaf, d.generation)
	if err != nil {
		return nil, err
	}
	content, err := openPrivate(a.suite, p, key, d)
	if err != nil {
		return nil, err
	}
	if err := content.verify(a.suite, member.SignatureKey, &a.context); err != nil {
		return nil, err
	}
	return &Application{
		Plaintext:         content.framed.content.application,
		AuthenticatedData: content.framed.authenticatedData,
		Sender:            d.leaf,
		Credential:        member.Credential,
		Generation:        d.generation,
		Epoch:             a.context.epoch,
	}, nil
}

// Seal signs and encrypts an application message of the epoch as this member.
// ProtectOptions.Generation is required: the record keeps no count, and no
// generation of an epoch may be used twice, on any device.
func (a *ArchiveRecord) Seal(plaintext []byte, sig SignaturePrivateKey, o ProtectOptions) (*Message, error) {
	m, err := a.seal(plaintext, sig, &o)
	if err != nil {
		return nil, fmt.Errorf("seal message: %w", err)
	}
	return m, nil
}

func (a *ArchiveRecord) seal(plaintext []byte, sig SignaturePrivateKey, o *ProtectOptions) (*Message, error) {
	if o.Generation == nil {
		return nil, errors.New("a generation is required")
	}
	if err := a.checkSigner(sig); err != nil {
		return nil, err
	}
	content := applicationContent(&a.context, a.own, plaintext, o.AuthenticatedData)
	if err := content.sign(a.suite, sig, &a.context); err != nil {
		return nil, err
	}
	key, err := a.key(a.own, *o.Generation)
	if err != nil {
		return nil, err
	}
	d := senderData{leaf: a.own, generation: *o.Generation}
	copy(d.guard[:], randomBytes(len(d.guard)))
	if o.ReuseGuard != nil {
		d.guard = *o.ReuseGuard
	}
	p, err := sealPrivate(a.suite, a.senderDataSecret, content, key, d, o.Padding)
	if err != nil {
		return nil, err
	}
	return &Message{wireFormat: WirePrivateMessage, private: p}, nil
}

// checkSigner tells whether sig is the signature key of the own leaf.
func (a *ArchiveRecord) checkSigner(sig SignaturePrivateKey) error {
	sum := sha256.Sum256(sig)
	if known := a.signer.Load(); known != nil && subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
		return nil
	}
	own, _ := a.Member(a.own)
	public, err := a.suite.SignaturePublicKey(sig)
	if err != nil {
		return err
	}
	if string(public) != string(own.SignatureKey) {
		return errors.New("signature key is not that of the own leaf in this epoch")
	}
	a.signer.Store(&sum)
	return nil
}
