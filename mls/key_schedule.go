package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// epochSecrets are the secrets of one epoch that outlive its beginning (RFC
// 9420 section 8). The slices are never changed, so copies may share them.
type epochSecrets struct {
	init          []byte
	senderData    []byte
	encryption    []byte // nil once a key was taken from the secret tree
	exporter      []byte
	external      []byte
	confirmation  []byte
	membership    []byte
	resumption    []byte
	authenticator []byte
}

// fields lists the secrets with their labels, in the order of RFC 9420 table 4.
func (e *epochSecrets) fields() []struct {
	label  string
	secret *[]byte
} {
	return []struct {
		label  string
		secret *[]byte
	}{
		{"init", &e.init},
		{"sender data", &e.senderData},
		{"encryption", &e.encryption},
		{"exporter", &e.exporter},
		{"external", &e.external},
		{"confirm", &e.confirmation},
		{"membership", &e.membership},
		{"resumption", &e.resumption},
		{"authentication", &e.authenticator},
	}
}

func (e *epochSecrets) marshal(w *codec.Writer) {
	for _, f := range e.fields() {
		w.Opaque(*f.secret)
	}
}

func (e *epochSecrets) unmarshal(r *codec.Reader) {
	for _, f := range e.fields() {
		*f.secret = r.OpaqueMax(maxHash)
	}
}

// joinerSecret combines the init secret of the last epoch with the commit
// secret (RFC 9420 section 8).
func joinerSecret(s *labeled.Suite, initSecret, commitSecret []byte, ctx *groupContext) ([]byte, error) {
	extracted, err := s.Extract(initSecret, commitSecret)
	if err != nil {
		return nil, err
	}
	return s.ExpandWithLabel(extracted, "joiner", encode(ctx), s.Nh)
}

// welcomeSecret is what the GroupInfo of a Welcome is encrypted under.
func welcomeSecret(s *labeled.Suite, joiner, psk []byte) ([]byte, error) {
	member, err := s.Extract(joiner, psk)
	if err != nil {
		return nil, err
	}
	return s.DeriveSecret(member, "welcome")
}

// newEpoch derives the secrets of the epoch that ctx describes.
func newEpoch(s *labeled.Suite, joiner, psk []byte, ctx *groupContext) (*epochSecrets, error) {
	member, err := s.Extract(joiner, psk)
	if err != nil {
		return nil, err
	}
	epoch, err := s.ExpandWithLabel(member, "epoch", encode(ctx), s.Nh)
	if err != nil {
		return nil, err
	}
	return deriveEpoch(s, epoch)
}

// deriveEpoch derives the secrets of an epoch from its epoch secret.
func deriveEpoch(s *labeled.Suite, epoch []byte) (*epochSecrets, error) {
	e := new(epochSecrets)
	for _, f := range e.fields() {
		secret, err := s.DeriveSecret(epoch, f.label)
		if err != nil {
			return nil, err
		}
		*f.secret = secret
	}
	return e, nil
}
