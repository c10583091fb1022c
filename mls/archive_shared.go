package mls

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// MarshalWithoutRoster is MarshalBinary without the members, for whoever keeps
// many records of one group and the members they have in common once.
// ParseArchiveRecordWith is its reverse.
func (a *ArchiveRecord) MarshalWithoutRoster() []byte {
	var w codec.Writer
	a.marshalHead(&w)
	return w.Bytes()
}

func (a *ArchiveRecord) marshalHead(w *codec.Writer) {
	w.Uint16(archiveFormat)
	a.context.marshal(w)
	w.Uint32(a.leaves)
	w.Uint32(uint32(a.own))
	w.Opaque(a.encryptionSecret)
	w.Opaque(a.senderDataSecret)
	w.Opaque(a.authenticator)
}

func (a *ArchiveRecord) unmarshalHead(r *codec.Reader) {
	a.context.unmarshal(r)
	a.leaves = r.Uint32()
	a.own = LeafIndex(r.Uint32())
	a.encryptionSecret = r.OpaqueMax(maxHash)
	a.senderDataSecret = r.OpaqueMax(maxHash)
	a.authenticator = r.OpaqueMax(maxHash)
}

// ParseArchiveRecordWith puts a record together from what MarshalWithoutRoster
// returned and its members, ascending by leaf. Both are copied, but what the
// members point to is shared and must not be changed afterwards.
func ParseArchiveRecordWith(b []byte, members []Member) (*ArchiveRecord, error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("parse archive record: %d bytes, at most %d are allowed", len(b), MaxState)
	}
	if len(members) > MaxLeaves {
		return nil, fmt.Errorf("parse archive record: %d members, at most %d are allowed", len(members), MaxLeaves)
	}
	r := codec.NewReader(bytes.Clone(b))
	if v := r.Uint16(); r.Err() == nil && v != archiveFormat {
		return nil, fmt.Errorf("parse archive record: %w: %d", ErrFormat, v)
	}
	a := new(ArchiveRecord)
	a.unmarshalHead(r)
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("parse archive record: %w", err)
	}
	for _, m := range members {
		if n := len(a.roster); n > 0 && a.roster[n-1].Leaf >= m.Leaf {
			return nil, fmt.Errorf("parse archive record: %w", errOrder)
		}
		if len(m.SignatureKey) > maxKey {
			return nil, fmt.Errorf("parse archive record: signature key of %d bytes", len(m.SignatureKey))
		}
		m.EncryptionKey = nil
		a.roster = append(a.roster, m)
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("parse archive record: %w", err)
	}
	return a, nil
}
