package mls

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

const testSuite = MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// testNow is the time of all tests.
var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func testLifetime() Lifetime {
	return Lifetime{NotBefore: uint64(testNow.Unix()) - 3600, NotAfter: uint64(testNow.Unix()) + 90*24*3600}
}

// acceptNamed is the Authentication Service of the tests: it knows everybody
// who has a name, and lets nobody change it.
func acceptNamed(c CredentialCheck) error {
	if len(c.Credential.Identity) == 0 && len(c.Credential.Certificates) == 0 {
		return fmt.Errorf("no identity")
	}
	if c.Previous != nil && !bytes.Equal(c.Previous.Identity, c.Credential.Identity) {
		return fmt.Errorf("identity changed from %q to %q", c.Previous.Identity, c.Credential.Identity)
	}
	return nil
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t testing.TB) SignaturePrivateKey { return newKeyOf(t, testSuite) }

func newKeyOf(t testing.TB, cs CipherSuite) SignaturePrivateKey {
	t.Helper()
	key, _, err := GenerateSignatureKey(cs)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKeyPackage(t testing.TB, name string, change ...func(*KeyPackageOptions)) (*KeyPackage, *KeyPackageSecrets) {
	t.Helper()
	o := KeyPackageOptions{
		CipherSuite: testSuite, Credential: NewBasicCredential([]byte(name)), Lifetime: testLifetime(),
	}
	for _, c := range change {
		c(&o)
	}
	if o.SignatureKey == nil {
		o.SignatureKey = newKeyOf(t, o.CipherSuite)
	}
	kp, secrets, err := NewKeyPackage(o)
	if err != nil {
		t.Fatalf("key package of %s: %v", name, err)
	}
	return kp, secrets
}

func newGroup(t testing.TB, name string, change ...func(*GroupOptions)) *Group {
	t.Helper()
	o := GroupOptions{
		CipherSuite: testSuite, Credential: NewBasicCredential([]byte(name)),
		Lifetime: testLifetime(), Validate: acceptNamed,
	}
	for _, c := range change {
		c(&o)
	}
	if o.SignatureKey == nil {
		o.SignatureKey = newKeyOf(t, o.CipherSuite)
	}
	g, err := NewGroup(o)
	if err != nil {
		t.Fatalf("group of %s: %v", name, err)
	}
	return g
}

func ofSuite(cs CipherSuite) func(*KeyPackageOptions) {
	return func(o *KeyPackageOptions) { o.CipherSuite = cs }
}

// world is a group as all of its members see it. The first one of them made
// it.
type world struct {
	t       testing.TB
	members []*Group
}

// newWorld makes a group with members named by their number, all added by one
// Commit, after which each of the first paths of them has committed once.
func newWorld(t testing.TB, n, paths int, change ...func(*GroupOptions)) *world {
	t.Helper()
	w := &world{t: t, members: []*Group{newGroup(t, "member 0", change...)}}
	if n > 1 {
		w.add(0, n-1)
	}
	for i := range min(paths, n) {
		w.commit(i, CommitOptions{})
	}
	return w
}

// byFields returns c without the octets that it keeps, so that it is encoded
// again.
func byFields(c *commit) *commit {
	fields := *c
	fields.octets = nil
	return &fields
}

// wire sends a message over the wire.
func wire(t testing.TB, m *Message) *Message {
	t.Helper()
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.MarshalBinary()
	if err != nil || !bytes.Equal(again, b) {
		t.Fatalf("message does not survive the wire: %v", err)
	}
	return parsed
}

// commit lets member i commit and all others follow.
func (w *world) commit(i int, o CommitOptions) *PendingCommit {
	w.t.Helper()
	o.Now = testNow
	p, err := w.members[i].Commit(o)
	if err != nil {
		w.t.Fatalf("commit of member %d: %v", i, err)
	}
	w.deliver(i, p)
	return p
}

// deliver merges a Commit at its maker and processes it at all others; those
// that it removes leave the world.
func (w *world) deliver(i int, p *PendingCommit) {
	w.t.Helper()
	m := wire(w.t, p.Commit)
	var stay []*Group
	for j, g := range w.members {
		staged := p.Staged
		if j != i {
			r, err := g.Process(m, testNow)
			if err != nil {
				w.t.Fatalf("member %d processes commit of member %d: %v", j, i, err)
			}
			staged = r.(*ReceivedCommit).Staged
		}
		if err := g.Merge(staged); err != nil {
			w.t.Fatalf("member %d merges: %v", j, err)
		}
		if !g.Left() {
			stay = append(stay, g)
		}
	}
	w.members = stay
	w.agree()
}

// add lets member i add n new members, which join.
func (w *world) add(i, n int) {
	w.t.Helper()
	var o CommitOptions
	var secrets []*KeyPackageSecrets
	for range n {
		kp, s := newKeyPackage(w.t, fmt.Sprintf("member %d", len(w.members)+len(secrets)), ofSuite(w.members[0].CipherSuite()))
		o.Add = append(o.Add, kp)
		secrets = append(secrets, s)
	}
	p := w.commit(i, o)
	m := wire(w.t, p.Welcome)
	for _, s := range secrets {
		w.join(m, s)
	}
	w.agree()
}

func (w *world) join(m *Message, s *KeyPackageSecrets) *Group {
	w.t.Helper()
	g, err := JoinWelcome(m, JoinOptions{Secrets: s, Validate: acceptNamed})
	if err != nil {
		w.t.Fatalf("join: %v", err)
	}
	w.members = append(w.members, g)
	return g
}

// agree checks that all members are in the same epoch of the same group.
func (w *world) agree() {
	w.t.Helper()
	first := w.members[0]
	for i, g := range w.members {
		if g.Epoch() != first.Epoch() || !bytes.Equal(g.EpochAuthenticator(), first.EpochAuthenticator()) {
			w.t.Fatalf("member %d is in another state than member 0", i)
		}
	}
}

// list decodes all of them.
func (c *ciphertexts) list() (list []hpkeCiphertext) {
	for i := range c.count {
		list = append(list, c.at(i))
	}
	return list
}

// garble changes encrypted secret i of a node of a path.
func (n *updatePathNode) garble(i int) {
	list := n.secrets.list()
	list[i].ciphertext = flip(list[i].ciphertext)
	n.secrets = newCiphertexts(list)
}

// A vector of ciphertexts gives each of them, whether they are of one size or
// not.
func TestCiphertexts(t *testing.T) {
	for _, sizes := range [][]int{{}, {5}, {48, 48, 48}, {48, 47, 48, 100, 0}, {0, 0}, {47, 48, 48}} {
		var list []hpkeCiphertext
		for _, n := range sizes {
			list = append(list, hpkeCiphertext{kemOutput: randomBytes(32), ciphertext: randomBytes(n)})
		}
		var read ciphertexts
		r := codec.NewReader(append(newCiphertexts(list).octets, 7))
		read.unmarshal(r)
		if r.Err() != nil || r.Len() != 1 || read.count != len(list) {
			t.Fatalf("%v: %v, %d octets left, %d read", sizes, r.Err(), r.Len(), read.count)
		}
		for i, c := range read.list() {
			if !bytes.Equal(c.kemOutput, list[i].kemOutput) || !bytes.Equal(c.ciphertext, list[i].ciphertext) {
				t.Errorf("%v: ciphertext %d is another", sizes, i)
			}
		}
	}
}
