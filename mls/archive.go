package mls

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// archiveFormat is the version of the encoding of an ArchiveRecord.
const archiveFormat = 1

// ArchiveRecord is what reading and writing application messages of one epoch
// takes: two secrets, the GroupContext and the roster. It opens every message
// of the epoch, own ones included, any number of times and in any order.
//
// It holds nothing else: no secret of it leads to another epoch, exports
// anything, confirms a Commit or decrypts a path. Who holds it gives up forward
// secrecy of that epoch's messages, on purpose.
//
// A record is safe for concurrent use; it remembers derived secrets, bounded, so
// that late messages of a busy sender open quickly, but what it holds does not
// change. It prints as "[redacted]".
type ArchiveRecord struct {
	suite            *labeled.Suite
	context          groupContext
	leaves           uint32
	own              LeafIndex
	encryptionSecret []byte
	senderDataSecret []byte
	authenticator    []byte
	roster           []Member // ascending by leaf, without encryption keys
	checkpoints      checkpoints
	// signer is the SHA-256 of the signature key last found to be the own leaf's:
	// deriving its public part costs a quarter of sealing a message.
	signer atomic.Pointer[[sha256.Size]byte]
}

// Archive returns the record of the current epoch. It is possible until the
// first key of the epoch is used, with ErrConsumed afterwards: right after
// NewGroup, JoinWelcome or Merge, and for StagedCommit.Group.
func (g *Group) Archive() (*ArchiveRecord, error) {
	if g.left {
		return nil, fmt.Errorf("archive: %w", ErrNotMember)
	}
	secret := g.keys.nodes[treemath.Root(g.keys.leaves)]
	if secret == nil {
		return nil, fmt.Errorf("archive: %w", ErrConsumed)
	}
	r := &ArchiveRecord{
		suite:            g.suite,
		context:          g.context,
		leaves:           g.keys.leaves,
		own:              g.own,
		encryptionSecret: secret,
		senderDataSecret: g.secrets.senderData,
		authenticator:    g.secrets.authenticator,
		roster:           g.Members(),
	}
	for i := range r.roster {
		r.roster[i].EncryptionKey = nil
	}
	return r, nil
}

// ParseArchiveRecord decodes what MarshalBinary returned. b is copied.
func ParseArchiveRecord(b []byte) (*ArchiveRecord, error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("parse archive record: %d bytes, at most %d are allowed", len(b), MaxState)
	}
	r := codec.NewReader(bytes.Clone(b))
	if v := r.Uint16(); r.Err() == nil && v != archiveFormat {
		return nil, fmt.Errorf("parse archive record: %w: %d", ErrFormat, v)
	}
	a := new(ArchiveRecord)
	a.unmarshal(r)
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("parse archive record: %w", err)
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("parse archive record: %w", err)
	}
	return a, nil
}

// MarshalBinary returns the record, unprotected. It fails if the record, by the
// credentials of the members, is larger than MaxState.
func (a *ArchiveRecord) MarshalBinary() ([]byte, error) {
	var w codec.Writer
	a.marshalHead(&w)
	w.Vector(func() {
		for i := range a.roster {
			m := &a.roster[i]
			w.Uint32(uint32(m.Leaf))
			w.Opaque(m.SignatureKey)
			m.Credential.marshal(&w)
		}
	})
	if n := len(w.Bytes()); n > MaxState {
		return nil, fmt.Errorf("marshal archive record: %d bytes, at most %d are allowed", n, MaxState)
	}
	return w.Bytes(), nil
}

func (a *ArchiveRecord) unmarshal(r *codec.Reader) {
	a.unmarshalHead(r)
	r.Vector(MaxLeaves, func(r *codec.Reader) {
		m := Member{Leaf: LeafIndex(r.Uint32()), SignatureKey: r.OpaqueMax(maxKey)}
		m.Credential.unmarshal(r)
		if n := len(a.roster); n > 0 && a.roster[n-1].Leaf >= m.Leaf {
			r.Fail(errOrder)
		}
		a.roster = append(a.roster, m)
	})
}

// check makes sure that a decoded record is one that Archive could have made.
func (a *ArchiveRecord) check() error {
	s, err := a.context.suite.suite()
	if err != nil {
		return err
	}
	a.suite = s
	if a.leaves == 0 || a.leaves > MaxLeaves || a.leaves&(a.leaves-1) != 0 {
		return fmt.Errorf("tree of %d leaves", a.leaves)
	}
	if len(a.encryptionSecret) != s.Nh || len(a.senderDataSecret) != s.Nh || len(a.authenticator) != s.Nh {
		return fmt.Errorf("secret has the wrong length")
	}
	if n := len(a.roster); n > 0 && uint32(a.roster[n-1].Leaf) >= a.leaves {
		return fmt.Errorf("member %d is not in the tree", a.roster[n-1].Leaf)
	}
	if _, ok := a.Member(a.own); !ok {
		return fmt.Errorf("own leaf is not in the roster")
	}
	return nil
}

// GroupID returns the group of the record.
func (a *ArchiveRecord) GroupID() GroupID { return a.context.groupID }

// Epoch returns the epoch of the record.
func (a *ArchiveRecord) Epoch() Epoch { return a.context.epoch }

// CipherSuite returns the suite of the group.
func (a *ArchiveRecord) CipherSuite() CipherSuite { return a.context.suite }

// OwnLeaf returns the position of this member in the epoch.
func (a *ArchiveRecord) OwnLeaf() LeafIndex { return a.own }

// Members returns who was in the group, in the order of their leaves.
func (a *ArchiveRecord) Members() []Member { return slices.Clone(a.roster) }

// Member returns the member at leaf l; ok is false if there was none.
func (a *ArchiveRecord) Member(l LeafIndex) (m Member, ok bool) {
	at, ok := slices.BinarySearchFunc(a.roster, l, func(m Member, l LeafIndex) int { return int(m.Leaf) - int(l) })
	if !ok {
		return Member{}, false
	}
	return a.roster[at], true
}

// EpochAuthenticator is Group.EpochAuthenticator of the epoch.
func (a *ArchiveRecord) EpochAuthenticator() []byte { return bytes.Clone(a.authenticator) }

// Extension returns the data of one extension of the GroupContext.
func (a *ArchiveRecord) Extension(t ExtensionType) (data []byte, ok bool) {
	data, ok = findExtension(a.context.extensions, t)
	return bytes.Clone(data), ok
}

// String returns "[redacted]".
func (*ArchiveRecord) String() string { return "[redacted]" }

// Format writes "[redacted]" whatever the verb.
func (*ArchiveRecord) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// LogValue returns "[redacted]".
func (*ArchiveRecord) LogValue() slog.Value { return slog.StringValue("[redacted]") }
