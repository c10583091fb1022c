package mls

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// groupFormat is the version of the encoding of a Group.
const groupFormat = 1

// MarshalBinary returns the group with its secrets, unprotected, but without
// the signature key of the own leaf, which UnmarshalGroup asks for. (A new
// signature key that a pending own Update brings is included.) It fails with
// ErrNotMember after this member was removed, and if the group, by the
// credentials and extensions of its members, is larger than MaxState.
func (g *Group) MarshalBinary() ([]byte, error) {
	if g.left {
		return nil, fmt.Errorf("marshal group: %w", ErrNotMember)
	}
	var w codec.Writer
	w.Uint16(groupFormat)
	g.context.marshal(&w)
	g.tree.marshal(&w)
	w.Opaque(g.interim)
	w.Opaque(g.confirmationTag)
	w.Uint32(uint32(g.own))
	w.Vector(func() {
		for _, n := range slices.Sorted(maps.Keys(g.private)) {
			w.Uint32(uint32(n))
			w.Opaque(g.private[n])
		}
	})
	g.secrets.marshal(&w)
	g.keys.marshal(&w)
	w.Vector(func() {
		for i := range g.proposals {
			p := &g.proposals[i]
			w.Opaque([]byte(p.ref))
			p.sender.marshal(&w)
			writeProposal(&w, p.proposal)
			keys, own := g.updates[p.ref]
			w.Optional(own, func() {
				w.Opaque(keys.encryption)
				changed := !bytes.Equal(keys.signature, g.signature)
				w.Optional(changed, func() { w.Opaque(keys.signature) })
			})
		}
	})
	w.Optional(g.reinit != nil, func() { g.reinit.marshal(&w) })
	if n := len(w.Bytes()); n > MaxState {
		return nil, fmt.Errorf("marshal group: %d bytes, at most %d are allowed", n, MaxState)
	}
	return w.Bytes(), nil
}

// UnmarshalGroup decodes what MarshalBinary returned and checks that it fits
// together. sig is the signature key of the own leaf, v the Authentication
// Service; both are required. A source of pre-shared keys is set with SetPSKs.
// b is copied.
func UnmarshalGroup(b []byte, sig SignaturePrivateKey, v CredentialValidator) (*Group, error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("unmarshal group: %d bytes, at most %d are allowed", len(b), MaxState)
	}
	if v == nil {
		return nil, fmt.Errorf("unmarshal group: %w", errNoValidator)
	}
	r := codec.NewReader(bytes.Clone(b))
	if f := r.Uint16(); r.Err() == nil && f != groupFormat {
		return nil, fmt.Errorf("unmarshal group: %w: %d", ErrFormat, f)
	}
	g := &Group{signature: bytes.Clone(sig), validate: v}
	g.unmarshal(r)
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("unmarshal group: %w", err)
	}
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("unmarshal group: %w", err)
	}
	return g, nil
}

func (g *Group) unmarshal(r *codec.Reader) {
	g.tree = new(ratchetTree)
	g.keys = new(secretTree)
	g.private = privateKeys{}
	g.updates = map[ProposalRef]pendingUpdate{}
	g.context.unmarshal(r)
	g.tree.unmarshal(r)
	g.interim = r.OpaqueMax(maxHash)
	g.confirmationTag = r.OpaqueMax(maxHash)
	g.own = LeafIndex(r.Uint32())
	r.Vector(maxPathNodes, func(r *codec.Reader) {
		n := node(r.Uint32())
		g.private[n] = r.OpaqueMax(maxKey)
	})
	g.secrets.unmarshal(r)
	g.keys.unmarshal(r)
	r.Vector(MaxPendingProposals, g.unmarshalProposal)
	r.Optional(func(r *codec.Reader) {
		g.reinit = new(ReInit)
		g.reinit.unmarshal(r)
	})
}

func (g *Group) unmarshalProposal(r *codec.Reader) {
	p := pendingProposal{ref: ProposalRef(r.OpaqueMax(maxHash))}
	p.sender.unmarshal(r)
	left := r.Len()
	p.proposal = readProposal(r)
	p.size = left - r.Len() - 2 // the type is not of the proposal
	r.Optional(func(r *codec.Reader) {
		keys := pendingUpdate{encryption: r.OpaqueMax(maxKey), signature: g.signature}
		r.Optional(func(r *codec.Reader) { keys.signature = r.OpaqueMax(maxKey) })
		g.updates[p.ref] = keys
	})
	g.proposals = append(g.proposals, p)
}

// check makes sure that a decoded group is one that MarshalBinary could have
// written: the rest of the package relies on it.
func (g *Group) check() error {
	s, err := g.context.suite.suite()
	if err != nil {
		return err
	}
	g.suite = s
	if !bytes.Equal(g.tree.rootHash(s), g.context.treeHash) {
		return fmt.Errorf("tree hash does not match the tree")
	}
	for n := range g.tree.width() {
		if p := g.tree.parent(n); p != nil {
			if err := g.tree.checkUnmerged(n, p); err != nil {
				return err
			}
		}
	}
	if err := g.tree.checkMembers(nil, g.context.extensions); err != nil {
		return err
	}
	if !bytes.Equal(interimTranscriptHash(s, g.context.transcriptHash, g.confirmationTag), g.interim) {
		return fmt.Errorf("interim transcript hash does not match")
	}
	own := g.tree.leaf(g.own)
	if own == nil {
		return fmt.Errorf("own leaf is blank")
	}
	public, err := s.SignaturePublicKey(g.signature)
	if err != nil || !bytes.Equal(public, own.signatureKey) {
		return fmt.Errorf("signature key is not that of the own leaf")
	}
	if g.private[g.own.node()] == nil {
		return fmt.Errorf("private key of the own leaf is missing")
	}
	for n, key := range g.private {
		if uint32(n) >= treemath.Width(g.tree.size()) || !g.own.node().InSubtree(n) {
			return fmt.Errorf("private key of node %d is not on the own path", n)
		}
		public, err := s.PublicKey(key)
		if err != nil || !bytes.Equal(public, g.tree.key(n)) {
			return fmt.Errorf("private key of node %d does not belong to its public key", n)
		}
	}
	for _, f := range g.secrets.fields() {
		if want := s.Nh; len(*f.secret) != want && !(f.label == "encryption" && len(*f.secret) == 0) {
			return fmt.Errorf("secret %q has the wrong length", f.label)
		}
	}
	if err := g.checkPending(); err != nil {
		return err
	}
	return g.keys.check(g.tree.size(), s.Nh)
}

// checkPending makes sure that decoded proposals are about members.
func (g *Group) checkPending() error {
	for _, q := range g.proposals {
		var about LeafIndex
		switch p := q.proposal.(type) {
		case *Update:
			about = LeafIndex(q.sender.Index)
			if q.sender.Type != SenderMember {
				return fmt.Errorf("pending update is not from a member")
			}
		case *Remove:
			about = p.Removed
		case *ExternalInit:
			return fmt.Errorf("external_init is pending")
		default:
			continue
		}
		if g.tree.leaf(about) == nil {
			return fmt.Errorf("pending proposal is about leaf %d, which is blank", about)
		}
	}
	return nil
}

// check makes sure that a decoded secret tree fits a ratchet tree of the given
// size.
func (t *secretTree) check(leaves uint32, nh int) error {
	if t.leaves != leaves {
		return fmt.Errorf("secret tree has %d leaves, the group %d", t.leaves, leaves)
	}
	for n, secret := range t.nodes {
		if uint32(n) >= treemath.Width(leaves) || len(secret) != nh {
			return fmt.Errorf("node %d of the secret tree is wrong", n)
		}
	}
	for l, pair := range t.ratchets {
		if uint32(l) >= leaves || len(pair[0].secret) != nh || len(pair[1].secret) != nh {
			return fmt.Errorf("ratchet of leaf %d is wrong", l)
		}
	}
	return nil
}

// String returns "[redacted]".
func (*Group) String() string { return "[redacted]" }

// Format writes "[redacted]" whatever the verb.
func (*Group) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// LogValue returns "[redacted]".
func (*Group) LogValue() slog.Value { return slog.StringValue("[redacted]") }
