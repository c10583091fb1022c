package mls

import (
	"errors"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

var errOrder = errors.New("list is not in ascending order")

// ratchetKind tells the two ratchets of a leaf apart.
type ratchetKind int

const (
	handshakeRatchet ratchetKind = iota
	applicationRatchet
)

func ratchetFor(t ContentType) ratchetKind {
	if t == ContentApplication {
		return applicationRatchet
	}
	return handshakeRatchet
}

// leafRatchets are the ratchets of one sender, by kind.
type leafRatchets [2]*ratchet

// secretTree is the secret tree of an epoch (RFC 9420 section 9). It keeps
// only what was not consumed (section 9.2): secrets of nodes under which no
// ratchet was begun, and the ratchets that were.
type secretTree struct {
	leaves   uint32
	nodes    map[node][]byte
	ratchets map[LeafIndex]leafRatchets
	skipped  int // keys that all ratchets keep for late messages
}

func newSecretTree(encryptionSecret []byte, leaves uint32) *secretTree {
	return &secretTree{
		leaves:   leaves,
		nodes:    map[node][]byte{treemath.Root(leaves): encryptionSecret},
		ratchets: map[LeafIndex]leafRatchets{},
	}
}

func (t *secretTree) clone() *secretTree {
	return &secretTree{leaves: t.leaves, nodes: maps.Clone(t.nodes), ratchets: maps.Clone(t.ratchets), skipped: t.skipped}
}

// keyUse is a key that was looked up but not yet consumed.
type keyUse struct {
	messageKey
	generation uint32

	leaf     LeafIndex
	kind     ratchetKind
	ratchets leafRatchets // as they are after the use
	opened   bool         // the leaf's secret was derived for it
	siblings map[node][]byte
}

// use returns the key of a generation of a sender, moving its ratchet at most
// jump generations. The tree changes only when the use is consumed.
func (t *secretTree) use(s *labeled.Suite, l LeafIndex, kind ratchetKind, generation, jump uint32) (*keyUse, error) {
	if generation >= MaxGeneration { // before anything is derived
		return nil, ErrGenerationTooFar
	}
	u, err := t.open(s, l)
	if err != nil {
		return nil, err
	}
	var moved *ratchet
	if u.messageKey, moved, err = u.ratchets[kind].take(s, generation, jump); err != nil {
		return nil, err
	}
	u.ratchets[kind] = moved
	u.kind, u.generation = kind, generation
	return u, nil
}

// next returns the first generation of a sender that was neither used nor
// skipped.
func (t *secretTree) next(l LeafIndex, kind ratchetKind) uint32 {
	if r, ok := t.ratchets[l]; ok {
		return r[kind].next
	}
	return 0
}

// open returns the ratchets of a sender, deriving them if they were not begun.
func (t *secretTree) open(s *labeled.Suite, l LeafIndex) (*keyUse, error) {
	if uint32(l) >= t.leaves {
		return nil, ErrNotMember
	}
	if r, ok := t.ratchets[l]; ok {
		return &keyUse{leaf: l, ratchets: r}, nil
	}
	u := &keyUse{leaf: l, opened: true, siblings: map[node][]byte{}}
	path := append([]node{l.node()}, l.node().DirectPath(t.leaves)...)
	from := slices.IndexFunc(path, func(n node) bool { return t.nodes[n] != nil })
	if from < 0 {
		return nil, ErrConsumed
	}
	secret := t.nodes[path[from]]
	for i := from - 1; i >= 0; i-- {
		left, right, err := childSecrets(s, secret)
		if err != nil {
			return nil, err
		}
		sibling, _ := path[i].Sibling(t.leaves)
		if path[i] < sibling {
			secret, u.siblings[sibling] = left, right
		} else {
			secret, u.siblings[sibling] = right, left
		}
	}
	var err error
	u.ratchets, err = newRatchets(s, secret)
	return u, err
}

// consume deletes what use consumed.
func (t *secretTree) consume(u *keyUse) {
	if u.opened {
		delete(t.nodes, u.leaf.node())
		for _, n := range u.leaf.node().DirectPath(t.leaves) {
			delete(t.nodes, n)
		}
		maps.Copy(t.nodes, u.siblings)
	}
	t.skipped += u.ratchets.skipped() - t.ratchets[u.leaf].skipped()
	if excess := t.skipped - maxSkippedKeys; excess > 0 {
		t.skipped -= u.ratchets[u.kind].drop(excess)
	}
	t.ratchets[u.leaf] = u.ratchets
}

// skipped returns how many keys the ratchets keep for late messages.
func (r leafRatchets) skipped() (n int) {
	for _, k := range r {
		if k != nil {
			n += len(k.skipped)
		}
	}
	return n
}

// childSecrets derives the secrets of a node's children.
func childSecrets(s *labeled.Suite, secret []byte) (left, right []byte, err error) {
	if left, err = s.ExpandWithLabel(secret, "tree", []byte("left"), s.Nh); err != nil {
		return nil, nil, err
	}
	if right, err = s.ExpandWithLabel(secret, "tree", []byte("right"), s.Nh); err != nil {
		return nil, nil, err
	}
	return left, right, nil
}

// newRatchets begins the ratchets of a leaf.
func newRatchets(s *labeled.Suite, leafSecret []byte) (r leafRatchets, err error) {
	for kind, label := range map[ratchetKind]string{handshakeRatchet: "handshake", applicationRatchet: "application"} {
		secret, err := s.ExpandWithLabel(leafSecret, label, nil, s.Nh)
		if err != nil {
			return r, err
		}
		r[kind] = &ratchet{secret: secret}
	}
	return r, nil
}

func (t *secretTree) marshal(w *codec.Writer) {
	w.Uint32(t.leaves)
	w.Vector(func() {
		for _, n := range slices.Sorted(maps.Keys(t.nodes)) {
			w.Uint32(uint32(n))
			w.Opaque(t.nodes[n])
		}
	})
	w.Vector(func() {
		for _, l := range slices.Sorted(maps.Keys(t.ratchets)) {
			w.Uint32(uint32(l))
			r := t.ratchets[l]
			r[handshakeRatchet].marshal(w)
			r[applicationRatchet].marshal(w)
		}
	})
}

func (t *secretTree) unmarshal(r *codec.Reader) {
	t.leaves = r.Uint32()
	t.nodes = map[node][]byte{}
	t.ratchets = map[LeafIndex]leafRatchets{}
	r.Vector(maxTreeNodes, func(r *codec.Reader) {
		n := node(r.Uint32())
		t.nodes[n] = r.OpaqueMax(maxHash)
	})
	r.Vector(MaxLeaves, func(r *codec.Reader) {
		l := LeafIndex(r.Uint32())
		pair := leafRatchets{new(ratchet), new(ratchet)}
		pair[handshakeRatchet].unmarshal(r)
		pair[applicationRatchet].unmarshal(r)
		t.skipped += pair.skipped()
		t.ratchets[l] = pair
	})
}
