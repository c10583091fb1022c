package mls

import (
	"bytes"
	"hash/maphash"
)

// keyIndex finds the node of a tree that has a key: a hash table with linear
// probing, whose clones share what they did not change. Nobody outside knows the
// hash, so that nobody can choose keys that collide. It holds no keys: those
// are read from the tree.
type keyIndex struct {
	key   func(t *ratchetTree, n node) []byte // nil if the node has none
	seed  maphash.Seed
	slots *chunked[keySlot] // a power of two, a quarter of them empty
	used  int
}

// keySlot is a node under the hash of its key. It is empty if it is zero.
type keySlot struct {
	hash uint32
	next node // the one after the node
}

func (s *keySlot) empty() bool { return s.next == 0 }

func (s *keySlot) node() node { return s.next - 1 }

// newKeyIndex returns an empty index with room for the given number of keys.
func newKeyIndex(keys int, key func(*ratchetTree, node) []byte) *keyIndex {
	size := chunkSize
	for 2*size < 3*keys {
		size *= 2
	}
	return &keyIndex{key: key, seed: maphash.MakeSeed(), slots: newChunked[keySlot](size)}
}

// holds reports whether the index can take n more keys, and is not much too
// large for them.
func (x *keyIndex) holds(n int) bool {
	keys, size := x.used+n, x.slots.n
	return 4*keys <= 3*size && size <= max(16*keys, chunkSize)
}

func (x *keyIndex) clone() *keyIndex {
	c := *x
	c.slots = x.slots.clone()
	return &c
}

func (x *keyIndex) hash(key []byte) uint32 { return uint32(maphash.Bytes(x.seed, key)) }

// next is the place after i.
func (x *keyIndex) next(i int) int { return (i + 1) & (x.slots.n - 1) }

// home is where the probing for a hash begins.
func (x *keyIndex) home(hash uint32) int { return int(hash) & (x.slots.n - 1) }

// find returns a node of t with the given key. Nodes of t that changed since
// they were inserted may be missed.
func (x *keyIndex) find(t *ratchetTree, key []byte) (n node, ok bool) {
	hash := x.hash(key)
	for i := x.home(hash); ; i = x.next(i) {
		switch s := x.slots.at(i); {
		case s.empty():
			return 0, false
		case s.hash == hash && bytes.Equal(x.key(t, s.node()), key):
			return s.node(), true
		}
	}
}

// insert adds a node of t with its key, if it has one, and reports whether no
// other node has it. All nodes in the index must be as they are in t.
func (x *keyIndex) insert(t *ratchetTree, n node) bool {
	key := x.key(t, n)
	if key == nil {
		return true
	}
	hash := x.hash(key)
	i := x.home(hash)
	for s := x.slots.at(i); !s.empty(); s = x.slots.at(i) {
		if s.hash == hash && bytes.Equal(x.key(t, s.node()), key) {
			return false
		}
		i = x.next(i)
	}
	*x.slots.change(i) = keySlot{hash: hash, next: n + 1}
	x.used++
	return true
}

// follow returns the index of a tree in which the given nodes changed from what
// they were in the index: itself, if none of them has another key. If two nodes
// have one key, ok is false and dup one of them. was is the key that a node had.
func (x *keyIndex) follow(t *ratchetTree, changed []change, was func(change) []byte) (next *keyIndex, dup node, ok bool) {
	next = x
	for _, c := range changed {
		if bytes.Equal(was(c), x.key(t, c.node)) {
			continue
		}
		if next == x {
			next = x.clone()
		}
		next.remove(c.node, was(c))
	}
	for _, c := range changed {
		if !bytes.Equal(was(c), x.key(t, c.node)) && !next.insert(t, c.node) {
			return nil, c.node, false
		}
	}
	return next, 0, true
}

// remove takes out node n, which was inserted with the given key; a key that is
// nil was not inserted.
func (x *keyIndex) remove(n node, key []byte) {
	if key == nil {
		return
	}
	hash := x.hash(key)
	i := x.home(hash)
	for s := x.slots.at(i); s.hash != hash || s.next != n+1; s = x.slots.at(i) {
		if s.empty() {
			return
		}
		i = x.next(i)
	}
	// Close the gap: whatever comes after it, up to the next empty place, must
	// be found without it.
	for j := x.next(i); !x.slots.at(j).empty(); j = x.next(j) {
		s := *x.slots.at(j)
		behind := x.slots.n - 1
		if (j-x.home(s.hash))&behind >= (j-i)&behind {
			*x.slots.change(i) = s
			i = j
		}
	}
	*x.slots.change(i) = keySlot{}
	x.used--
}
