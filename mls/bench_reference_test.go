package mls

import (
	"math/bits"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// Sizes that the reference takes for granted, in bytes: what is signed of a
// leaf or KeyPackage, hashed of a leaf and of a parent node, and the encoded
// GroupContext.
const (
	leafBytes    = 250
	parentBytes  = 180
	contextBytes = 150
)

// reference measures what single operations cost, and adds them up to what a
// step cannot avoid (docs/performance-mls.md has the formulas and why).
type reference struct {
	b     *testing.B
	suite *labeled.Suite
	cost  map[string]map[int]time.Duration // by operation and size in bytes

	hpkePrivate, hpkePublic []byte
	sigPrivate, sigPublic   []byte
	signed                  [][2][]byte // public keys and signatures of a batch
}

func newReference(b *testing.B) *reference {
	s, err := testSuite.suite()
	if err != nil {
		b.Fatal(err)
	}
	r := &reference{b: b, suite: s, cost: map[string]map[int]time.Duration{}}
	if r.hpkePrivate, r.hpkePublic, err = s.GenerateKeyPair(); err != nil {
		b.Fatal(err)
	}
	if r.sigPrivate, r.sigPublic, err = s.GenerateSignatureKey(); err != nil {
		b.Fatal(err)
	}
	return r
}

// again measures everything anew: other work on the machine comes and goes
// during a run, and is to meet a step and its reference alike.
func (r *reference) again() { clear(r.cost) }

// one returns the cost of an operation on size bytes, measured once.
func (r *reference) one(name string, size int, f func(data []byte) error) time.Duration {
	if r.cost[name] == nil {
		r.cost[name] = map[int]time.Duration{}
	}
	if d, ok := r.cost[name][size]; ok {
		return d
	}
	data := make([]byte, size)
	d := measure(r.b, nil, func(int) error { return f(data) })
	r.cost[name][size] = d
	return d
}

func times(n int, d time.Duration) time.Duration { return time.Duration(n) * d }

// seal is one HPKE seal of a path or group secret.
func (r *reference) seal() time.Duration {
	return r.one("seal", contextBytes, func(context []byte) error {
		_, _, err := r.suite.Encrypt(r.hpkePublic, "UpdatePathNode", context, context[:32])
		return err
	})
}

// open is one HPKE open.
func (r *reference) open() time.Duration {
	context := make([]byte, contextBytes)
	kem, ciphertext, err := r.suite.Encrypt(r.hpkePublic, "UpdatePathNode", context, context[:32])
	if err != nil {
		r.b.Fatal(err)
	}
	return r.one("open", contextBytes, func([]byte) error {
		_, err := r.suite.Decrypt(r.hpkePrivate, r.hpkePublic, "UpdatePathNode", context, kem, ciphertext)
		return err
	})
}

// node derives the key pair of a path node and the next path secret.
func (r *reference) node() time.Duration {
	return r.one("node", 32, func(secret []byte) error {
		_, _, err := r.suite.DeriveKeyPair(secret)
		return err
	}) + times(2, r.expand())
}

func (r *reference) sign(size int) time.Duration {
	return r.one("sign", size, func(data []byte) error {
		_, err := r.suite.Sign(r.sigPrivate, "FramedContentTBS", data)
		return err
	})
}

func (r *reference) verify(size int) time.Duration {
	signature, err := r.suite.Sign(r.sigPrivate, "FramedContentTBS", make([]byte, size))
	if err != nil {
		r.b.Fatal(err)
	}
	return r.one("verify", size, func(data []byte) error {
		return r.suite.Verify(r.sigPublic, "FramedContentTBS", data, signature)
	})
}

func (r *reference) expand() time.Duration {
	return r.one("expand", 32, func(secret []byte) error {
		_, err := r.suite.ExpandWithLabel(secret, "secret", nil, 32)
		return err
	})
}

func (r *reference) hash(size int) time.Duration {
	return r.one("hash", size, func(data []byte) error {
		r.suite.Hash(data)
		return nil
	})
}

// aead is one AEAD operation; sealing and opening cost the same.
func (r *reference) aead(size int) time.Duration {
	key, nonce := make([]byte, r.suite.Nk), make([]byte, r.suite.Nn)
	return r.one("aead", size, func(data []byte) error {
		_, err := r.suite.AEADSeal(key, nonce, nil, data)
		return err
	})
}

// depth is the height of a tree with n members.
func depth(n int) int { return bits.Len(uint(n - 1)) }

// schedule is the key schedule of an epoch (RFC 9420 section 8): joiner,
// epoch and nine derived secrets, the confirmation tag, both transcript hashes.
func (r *reference) schedule(commit int) time.Duration {
	return times(15, r.expand()) + r.hash(commit) + times(3, r.hash(parentBytes))
}

// message is the protection of content of the given size: two keys and nonces
// and the next secret, two AEAD operations.
func (r *reference) message(size int) time.Duration {
	return times(5, r.expand()) + r.aead(size) + r.aead(12)
}

// sender begins the ratchets of a sender that was not heard of in the epoch:
// two secrets on each level of the secret tree, of which one is kept for others
// because the node above is deleted (RFC 9420 section 9.2), and two ratchets.
func (r *reference) sender(n int) time.Duration { return times(2*depth(n)+2, r.expand()) }

// path are the hashes along a path: its tree hashes and parent hashes.
func (r *reference) path(n int) time.Duration {
	return times(2*depth(n), r.hash(parentBytes)) + r.hash(leafBytes)
}

// create makes a group and adds n-1 members by one Commit with path: of each,
// two signatures are verified, the reference computed, and the group secrets
// sealed. The hash of the encrypted GroupInfo that HPKE takes as info is the
// same for all.
func (r *reference) create(n, commit, tree int) time.Duration {
	d := times(n-1, times(2, r.batched())+r.seal()+times(2, r.hash(leafBytes)))
	d += times(n, r.hash(parentBytes))
	d += times(depth(n)+2, r.node()) + times(4, r.sign(leafBytes)) // its own KeyPackage, the path
	d += r.sign(commit) + r.schedule(commit) + r.message(commit)
	return d + r.sign(tree) + r.aead(tree) + r.hash(tree)
}

// join verifies a tree of n members with parents parent nodes: all leaf
// signatures, all hashes; then one open and the keys of the path.
func (r *reference) join(n, parents, tree int) time.Duration {
	d := times(n, r.batched()+r.hash(leafBytes)+r.hash(parentBytes)) + times(parents, r.hash(parentBytes))
	d += r.verify(tree) + r.aead(tree) + r.hash(tree)
	return d + r.open() + times(depth(n), r.node()) + r.schedule(leafBytes)
}

// commit is a Commit with a path that is sealed to the given number of nodes.
func (r *reference) commit(n, seals, commit int) time.Duration {
	return times(seals, r.seal()) + times(depth(n)+1, r.node()) + r.path(n) +
		r.sign(leafBytes) + r.sign(commit) + r.schedule(commit) + r.sender(n) + r.message(commit)
}

// process is receiving that Commit where the given number of path nodes is
// above the receiver.
func (r *reference) process(n, above, commit int) time.Duration {
	return r.open() + times(above, r.node()) + r.path(n) +
		r.verify(leafBytes) + r.verify(commit) + r.schedule(commit) + r.sender(n) + r.message(commit)
}
