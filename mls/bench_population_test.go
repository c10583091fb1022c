package mls

import (
	"fmt"
	"testing"
)

// clients are KeyPackages with their secrets, made once for all groups.
type clients struct {
	packages []*KeyPackage
	secrets  []*KeyPackageSecrets
}

func (c *clients) grow(b *testing.B, n int) {
	for len(c.packages) < n {
		kp, s := newKeyPackage(b, fmt.Sprintf("member %d", len(c.packages)+1))
		c.packages, c.secrets = append(c.packages, kp), append(c.secrets, s)
	}
}

// population is a group of n members as the first and the last of them see it.
type population struct {
	first, last *Group
	welcome     *Message // that the last one joined with
	secrets     *KeyPackageSecrets
	commit      *Message // that added it
}

// fresh makes a group of n members by Commits that add all, as few as
// MaxProposals allows; only the last one has a path.
func fresh(b *testing.B, c *clients, n int) *population {
	p := &population{first: newGroup(b, "member 0"), secrets: c.secrets[n-2]}
	for at := 0; at < n-1; {
		to := min(at+MaxProposals, n-1)
		pending, err := p.first.Commit(CommitOptions{Add: c.packages[at:to], Now: testNow, WithoutPath: to < n-1})
		if err != nil {
			b.Fatal(err)
		}
		if err := p.first.Merge(pending.Staged); err != nil {
			b.Fatal(err)
		}
		p.welcome, p.commit = wire(b, pending.Welcome), pending.Commit
		at = to
	}
	p.last = p.join(b)
	return p
}

func (p *population) join(b *testing.B) *Group {
	b.Helper()
	g, err := JoinWelcome(p.welcome, JoinOptions{Secrets: p.secrets, Validate: acceptNamed})
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// grown makes, from a fresh group, one whose n members have all committed once:
// every path is set as by n Commits, one after the other, but there is only one
// tree, whose private keys are all known here, and one key schedule, as if the
// epochs between had not been.
func grown(b *testing.B, c *clients, from *population, n int) *population {
	s := from.first.suite
	t := from.first.tree.clone()
	all := privateKeys{}
	for i := range n {
		l := LeafIndex(i)
		path, err := generatePath(s, t.filteredPath(l))
		if err != nil {
			b.Fatal(err)
		}
		leaf := *t.leaf(l)
		leaf.source, leaf.lifetime = sourceCommit, Lifetime{}
		if all[l.node()], leaf.encryptionKey, err = s.GenerateKeyPair(); err != nil {
			b.Fatal(err)
		}
		leaf.parentHash = t.setPath(s, l, path.path, path.public)
		signature := from.first.signature
		if i > 0 {
			signature = c.secrets[i-1].signaturePrivate
		}
		if err := leaf.sign(s, signature, from.first.context.groupID, l); err != nil {
			b.Fatal(err)
		}
		t.setLeaf(l, &leaf)
		for j, x := range path.path {
			all[x.node] = path.private[j]
		}
	}
	t.rootHash(s)
	if err := t.checkMembers(nil, from.first.context.extensions); err != nil {
		b.Fatal(err)
	}
	secrets, err := deriveEpoch(s, randomBytes(s.Nh))
	if err != nil {
		b.Fatal(err)
	}
	member := func(g *Group) *Group {
		m := g.Clone()
		m.tree = t
		m.context.epoch += Epoch(n)
		m.context.treeHash = t.rootHash(s)
		m.context.transcriptHash = s.Hash([]byte("of all the Commits"))
		m.private = privateKeys{m.own.node(): all[m.own.node()]}
		for _, x := range m.own.node().DirectPath(t.size()) {
			if !t.blank(x) {
				m.private[x] = all[x]
			}
		}
		own := *secrets
		m.enter(&own, nil)
		return m
	}
	p := &population{first: member(from.first), last: member(from.last)}
	// Somebody joins it, which is measured; the group goes on without them.
	joiner, joinerSecrets := newKeyPackage(b, "joiner")
	pending, err := p.first.Commit(CommitOptions{Add: []*KeyPackage{joiner}, Now: testNow})
	if err != nil {
		b.Fatal(err)
	}
	p.welcome, p.secrets, p.commit = wire(b, pending.Welcome), joinerSecrets, pending.Commit
	return p
}

// sealed is the number of HPKE ciphertexts of a path of leaf l.
func sealed(t *ratchetTree, l LeafIndex) (n int) {
	for _, x := range t.filteredPath(l) {
		n += len(t.resolution(x.copath))
	}
	return n
}

func parents(t *ratchetTree) (n int) {
	for x := range t.width() {
		if t.parent(x) != nil {
			n++
		}
	}
	return n
}

// encodedSize is the size of what is sent or stored, in bytes.
func encodedSize(b *testing.B, m interface{ MarshalBinary() ([]byte, error) }) int {
	b.Helper()
	data, err := m.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	return len(data)
}
