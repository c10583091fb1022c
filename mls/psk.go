package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// PSKType says where a pre-shared key comes from (RFC 9420 section 8.4).
type PSKType uint8

// Kinds of pre-shared keys.
const (
	PSKExternal   PSKType = 1
	PSKResumption PSKType = 2
)

// ResumptionUsage says what a resumption PSK is for (RFC 9420 section 8.4).
type ResumptionUsage uint8

// Usages of resumption PSKs.
const (
	ResumptionApplication ResumptionUsage = 1
	ResumptionReInit      ResumptionUsage = 2
	ResumptionBranch      ResumptionUsage = 3
)

// PreSharedKeyID names a pre-shared key.
type PreSharedKeyID struct {
	Type PSKType
	ID   []byte // of an external one

	Usage   ResumptionUsage // of a resumption one, with the two below
	GroupID GroupID
	Epoch   Epoch

	Nonce []byte
}

// links reports whether the key ties a new group to an older one (RFC 9420
// sections 11.2 and 11.3).
func (id *PreSharedKeyID) links() bool {
	return id.Type == PSKResumption && id.Usage != ResumptionApplication
}

// PSKSource returns the pre-shared key with the given id, or nil if the
// application does not have it. The key must not be changed afterwards.
type PSKSource func(id PreSharedKeyID) ([]byte, error)

// marshal writes the id.
func (id *PreSharedKeyID) marshal(w *codec.Writer) {
	w.Uint8(uint8(id.Type))
	if id.Type == PSKExternal {
		w.Opaque(id.ID)
	} else {
		w.Uint8(uint8(id.Usage))
		w.Opaque([]byte(id.GroupID))
		w.Uint64(uint64(id.Epoch))
	}
	w.Opaque(id.Nonce)
}

// unmarshal reads an id.
func (id *PreSharedKeyID) unmarshal(r *codec.Reader) {
	id.Type = PSKType(r.Uint8())
	switch id.Type {
	case PSKExternal:
		id.ID = r.OpaqueMax(maxIdentity)
	case PSKResumption:
		id.Usage = ResumptionUsage(r.Uint8())
		if id.Usage < ResumptionApplication || id.Usage > ResumptionBranch {
			r.Fail(fmt.Errorf("unknown resumption PSK usage %d", id.Usage))
		}
		id.GroupID = GroupID(r.OpaqueMax(maxGroupID))
		id.Epoch = Epoch(r.Uint64())
	default:
		r.Fail(fmt.Errorf("unknown PSK type %d", id.Type))
	}
	id.Nonce = r.OpaqueMax(maxHash)
}

// pskSecret is psk_secret of RFC 9420 section 8.4 over the given keys, in
// order. Without keys it is all zero.
func pskSecret(s *labeled.Suite, ids []PreSharedKeyID, keys [][]byte) ([]byte, error) {
	secret := make([]byte, s.Nh)
	zero := make([]byte, s.Nh)
	for i := range ids {
		extracted, err := s.Extract(zero, keys[i])
		if err != nil {
			return nil, err
		}
		var label codec.Writer
		ids[i].marshal(&label)
		label.Uint16(uint16(i))
		label.Uint16(uint16(len(ids)))
		input, err := s.ExpandWithLabel(extracted, "derived psk", label.Bytes(), s.Nh)
		if err != nil {
			return nil, err
		}
		if secret, err = s.Extract(input, secret); err != nil {
			return nil, err
		}
	}
	return secret, nil
}

// findPSKs looks the given keys up and combines them.
func findPSKs(s *labeled.Suite, ids []PreSharedKeyID, source PSKSource) ([]byte, error) {
	keys := make([][]byte, len(ids))
	for i, id := range ids {
		key, err := source(id)
		if err != nil {
			return nil, fmt.Errorf("find pre-shared key: %w", err)
		}
		if key == nil {
			return nil, ErrMissingPSK
		}
		keys[i] = key
	}
	return pskSecret(s, ids, keys)
}
