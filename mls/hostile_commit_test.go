package mls

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// attack is a Commit by a member that breaks one rule. The hooks change it on
// its way; what comes after them is made to fit.
type attack struct {
	proposals []Proposal
	refs      []ProposalRef
	noPath    bool
	leaf      func(g *Group, l *leafNode)   // before the leaf is signed
	signed    func(g *Group, l *leafNode)   // after it was
	path      func(g *Group, p *updatePath) // before the Commit is signed
	content   func(a *authenticatedContent) // before the Commit is signed
	tag       func(a *authenticatedContent) // before it is encrypted
	padding   func(n int) int
	signer    SignaturePrivateKey
}

// commitAttack makes the Commit of an attack, as member i.
func (w *world) commitAttack(i int, x *attack) *Message {
	w.t.Helper()
	g := w.members[i].Clone()
	me := Sender{Type: SenderMember, Index: uint32(g.own)}
	var list []listedProposal
	c := &commit{}
	for _, p := range x.proposals {
		list = append(list, listedProposal{proposal: p, sender: me})
		c.proposals = append(c.proposals, proposalOrRef{proposal: p})
	}
	for _, ref := range x.refs {
		c.proposals = append(c.proposals, proposalOrRef{ref: ref})
	}
	// A Commit that cannot be applied is sent with a path for the old tree.
	t, err := g.apply(applicable(g, list))
	if err != nil {
		w.t.Fatal(err)
	}
	commitSecret := make([]byte, g.suite.Nh)
	if !x.noPath {
		commitSecret = w.pathAttack(g, t, c, x)
	}
	a := &authenticatedContent{wireFormat: WirePrivateMessage, framed: framedContent{
		groupID: g.context.groupID, epoch: g.context.epoch, sender: me,
		contentType: ContentCommit, content: content{commit: c},
	}}
	if x.content != nil {
		x.content(a)
	}
	signer := g.signature
	if x.signer != nil {
		signer = x.signer
	}
	if err := a.sign(g.suite, signer, &g.context); err != nil {
		w.t.Fatal(err)
	}
	t.psks = nil
	start, err := g.advance(t, a, g.secrets.init, commitSecret)
	if err != nil {
		w.t.Fatal(err)
	}
	a.auth.confirmationTag = slices.Clone(start.group.confirmationTag)
	if x.tag != nil {
		x.tag(a)
	}
	p, _, err := g.sealOwn(a, nil, nil, x.padding)
	if err != nil {
		w.t.Fatal(err)
	}
	return wire(w.t, &Message{wireFormat: WirePrivateMessage, private: p})
}

// applicable leaves out what apply could not apply.
func applicable(g *Group, list []listedProposal) []listedProposal {
	gone := map[LeafIndex]bool{g.own: true}
	return slices.DeleteFunc(slices.Clone(list), func(l listedProposal) bool {
		switch p := l.proposal.(type) {
		case *Update:
			return true
		case *Remove:
			bad := g.tree.leaf(p.Removed) == nil || gone[p.Removed]
			gone[p.Removed] = true
			return bad
		}
		return false
	})
}

func (w *world) pathAttack(g *Group, t *transition, c *commit, x *attack) []byte {
	w.t.Helper()
	made, err := generatePath(g.suite, t.tree.filteredPath(g.own))
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := *t.tree.leaf(g.own)
	leaf.source, leaf.lifetime = sourceCommit, Lifetime{}
	_, leaf.encryptionKey, err = g.suite.GenerateKeyPair()
	if err != nil {
		w.t.Fatal(err)
	}
	leaf.parentHash = t.tree.setPath(g.suite, g.own, made.path, made.public)
	if x.leaf != nil {
		x.leaf(g, &leaf)
	}
	if err := leaf.sign(g.suite, g.signature, g.context.groupID, g.own); err != nil {
		w.t.Fatal(err)
	}
	if x.signed != nil {
		x.signed(g, &leaf)
	}
	t.tree.setLeaf(g.own, &leaf)
	nodes, err := made.encrypt(g.suite, t.tree, t.joining, encode(g.provisional(t)), 1)
	if err != nil {
		w.t.Fatal(err)
	}
	c.path = &updatePath{leaf: leaf, nodes: nodes}
	if x.path != nil {
		x.path(g, c.path)
	}
	return made.commitSecret
}

// refused checks that all but member i refuse a message for the given reason,
// and that nothing changes by it.
func (w *world) refused(i int, m *Message, reason string, target error) {
	w.t.Helper()
	before := encode(m)
	for j, g := range w.members {
		if j == i {
			continue
		}
		state := must[[]byte](w.t)(g.MarshalBinary())
		r, err := g.Process(m, testNow)
		if err == nil {
			w.t.Fatalf("member %d accepts it: %+v", j, r)
		}
		if target != nil && !errors.Is(err, target) {
			w.t.Errorf("member %d: got error %v, want %v", j, err, target)
		}
		if !strings.Contains(err.Error(), reason) {
			w.t.Errorf("member %d: got error %v, want %q", j, err, reason)
		}
		if after := must[[]byte](w.t)(g.MarshalBinary()); !bytes.Equal(state, after) {
			w.t.Errorf("member %d was changed by a refused message", j)
		}
	}
	if !bytes.Equal(before, encode(m)) {
		w.t.Error("message was changed")
	}
}

// changedKeyPackage returns a KeyPackage that was changed before both of its
// signatures were made, which are then valid.
func changedKeyPackage(t testing.TB, change func(kp *KeyPackage)) *KeyPackage {
	t.Helper()
	kp, secrets := newKeyPackage(t, "mallory")
	c := *kp
	change(&c)
	s, err := testSuite.suite()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.leaf.sign(s, secrets.signaturePrivate, "", 0); err != nil {
		t.Fatal(err)
	}
	if c.signature, err = s.Sign(secrets.signaturePrivate, "KeyPackageTBS", c.tbs()); err != nil {
		t.Fatal(err)
	}
	return &c
}

var lowOrderKey = make([]byte, 32)

func TestHostileCommits(t *testing.T) {
	psk := func(change func(*PreSharedKeyID)) *PreSharedKey {
		id := PreSharedKeyID{Type: PSKExternal, ID: []byte("psk"), Nonce: make([]byte, 32)}
		if change != nil {
			change(&id)
		}
		return &PreSharedKey{ID: id}
	}
	add := func(change func(*KeyPackage)) Proposal { return &Add{KeyPackage: changedKeyPackage(t, change)} }
	honest, _ := newKeyPackage(t, "new")
	brokenSignature, brokenLeaf := *honest, *honest
	brokenSignature.signature = flip(honest.signature)
	brokenLeaf.leaf.signature = flip(honest.leaf.signature)
	required := func(e ...ExtensionType) []Extension { return []Extension{RequiredCapabilities(e, nil, nil)} }
	strange := ExtensionType(0xf123)

	tests := []struct {
		name   string
		reason string
		target error
		attack attack
	}{
		{"update by committer", "update was made by the committer", nil, attack{proposals: []Proposal{goodUpdate(t)}}},
		{"remove committer", "removes the committer", nil, attack{proposals: []Proposal{&Remove{Removed: 1}}}},
		{"remove blank leaf", "removed leaf is blank", nil, attack{proposals: []Proposal{&Remove{Removed: 6}}}},
		{"remove beyond tree", "removed leaf is blank", nil, attack{proposals: []Proposal{&Remove{Removed: 1 << 31}}}},
		{"remove twice", "updated or removed twice", nil, attack{proposals: []Proposal{&Remove{Removed: 3}, &Remove{Removed: 3}}}},
		{"key package signature", "key package signature", nil, attack{proposals: []Proposal{&Add{KeyPackage: &brokenSignature}}}},
		{"key package leaf signature", "signature", nil, attack{proposals: []Proposal{&Add{KeyPackage: &brokenLeaf}}}},
		{"init key is encryption key", "init_key equals", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.initKey = k.leaf.encryptionKey })}}},
		{"init key of low order", "init_key is no key", nil, attack{noPath: true, proposals: []Proposal{add(func(k *KeyPackage) { k.initKey = lowOrderKey })}}},
		{"encryption key of low order", "encryption_key is no key", nil, attack{noPath: true, proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.encryptionKey = lowOrderKey })}}},
		{"short encryption key", "encryption_key is no key", nil, attack{noPath: true, proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.encryptionKey = []byte{1} })}}},
		{"key package of update source", "leaf_node_source is not key_package", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.source = sourceUpdate })}}},
		{"key package version", "unknown protocol version", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.version = 2 })}}},
		{"key package suite", "cipher suite differs", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.suite = 3 })}}},
		{"key package extension", "not listed in the capabilities", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.extensions = []Extension{{Type: strange}} })}}},
		{"leaf extension", "leaf extension is not listed", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.extensions = []Extension{{Type: strange}} })}}},
		{"capabilities without version", "protocol version is not listed", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.capabilities.Versions = nil })}}},
		{"capabilities without suite", "cipher suite is not listed", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.capabilities.CipherSuites = nil })}}},
		{"capabilities without credential", "credential type is not listed", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.capabilities.Credentials = nil })}}},
		{"credential type that others do not support", "does not support a credential type in use", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) {
			k.leaf.credential = certified(t, "mallory", k.leaf.signatureKey)
			k.leaf.capabilities.Credentials = []CredentialType{CredentialBasic, CredentialX509}
		})}}},
		{"others' credential type not supported", "does not support a credential type in use", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) {
			k.leaf.credential = certified(t, "mallory", k.leaf.signatureKey)
			k.leaf.capabilities.Credentials = []CredentialType{CredentialX509}
		})}}},
		{"nameless credential", "credential is not valid", nil, attack{proposals: []Proposal{add(func(k *KeyPackage) { k.leaf.credential.Identity = nil })}}},
		{"same key package twice", "same encryption key", nil, attack{proposals: []Proposal{&Add{KeyPackage: honest}, &Add{KeyPackage: honest}}}},
		{"psk twice", "pre-shared key is used twice", nil, attack{proposals: []Proposal{psk(nil), psk(nil)}}},
		{"psk nonce", "psk_nonce", nil, attack{proposals: []Proposal{psk(func(id *PreSharedKeyID) { id.Nonce = nil })}}},
		{"psk for reinit", "psk is for", nil, attack{proposals: []Proposal{psk(func(id *PreSharedKeyID) { id.Type, id.Usage = PSKResumption, ResumptionReInit })}}},
		{"psk for branch", "psk is for", nil, attack{proposals: []Proposal{psk(func(id *PreSharedKeyID) { id.Type, id.Usage = PSKResumption, ResumptionBranch })}}},
		{"unknown psk", "", ErrMissingPSK, attack{proposals: []Proposal{psk(nil)}}},
		{"extensions twice", "more than one group_context_extensions", nil, attack{proposals: []Proposal{&GroupContextExtensions{}, &GroupContextExtensions{}}}},
		{"unsupported group extension", "does not support group extension", nil, attack{proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{{Type: strange}}}}}},
		{"unsupported required extension", "does not support required extension", nil, attack{proposals: []Proposal{&GroupContextExtensions{Extensions: required(strange)}}}},
		{"malformed required capabilities", "required_capabilities extension is malformed", nil, attack{proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{{Type: ExtensionRequiredCapabilities, Data: []byte{9}}}}}}},
		{"malformed external senders", "external_senders extension is malformed", nil, attack{proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{{Type: ExtensionExternalSenders, Data: []byte{9}}}}}}},
		{"nameless external sender", "credential is not valid", nil, attack{proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{ExternalSenders([]ExternalSender{{SignatureKey: make([]byte, 32), Credential: NewBasicCredential(nil)}})}}}}},
		{"reinit with another", "reinit together", nil, attack{proposals: []Proposal{&ReInit{Version: MLS10}, &Remove{Removed: 3}}}},
		{"reinit version", "version is less", nil, attack{proposals: []Proposal{&ReInit{Version: 0}}}},
		{"external init", "external_init in a regular commit", nil, attack{proposals: []Proposal{&ExternalInit{}}}},
		{"unknown reference", "", ErrUnknownProposal, attack{refs: []ProposalRef{"?"}}},
		{"no path for nothing", "must have a path", nil, attack{noPath: true}},
		{"no path for remove", "must have a path", nil, attack{noPath: true, proposals: []Proposal{&Remove{Removed: 3}}}},

		{"leaf source", "leaf_node_source is not commit", nil, attack{leaf: func(_ *Group, l *leafNode) { l.source = sourceUpdate }}},
		{"leaf keeps key", "keeps the encryption key", nil, attack{path: func(g *Group, p *updatePath) { p.leaf = *g.tree.leaf(g.own); p.leaf.source = sourceCommit }}},
		{"leaf signature", "leaf node signature", nil, attack{signed: func(_ *Group, l *leafNode) { l.signature = flip(l.signature) }}},
		{"leaf of another group", "leaf node signature", nil, attack{signed: func(g *Group, l *leafNode) { _ = l.sign(g.suite, g.signature, "other", g.own) }}},
		{"leaf of another position", "leaf node signature", nil, attack{signed: func(g *Group, l *leafNode) { _ = l.sign(g.suite, g.signature, g.context.groupID, g.own+1) }}},
		{"credential of another", "credential is not valid", nil, attack{leaf: func(_ *Group, l *leafNode) { l.credential = NewBasicCredential([]byte("member 0")) }}},
		{"leaf parent hash", "parent hash of the committer's leaf", nil, attack{leaf: func(_ *Group, l *leafNode) { l.parentHash = flip(l.parentHash) }}},
		{"leaf drops capabilities", "does not support group extension", nil, attack{leaf: func(_ *Group, l *leafNode) { l.capabilities.Extensions = nil }}},
		{"path too short", "does not fit the filtered direct path", nil, attack{path: func(_ *Group, p *updatePath) { p.nodes = p.nodes[1:] }}},
		{"path too long", "does not fit the filtered direct path", nil, attack{path: func(_ *Group, p *updatePath) { p.nodes = append(p.nodes, p.nodes[0]) }}},
		{"path key of low order", "no key of the suite", nil, attack{path: func(_ *Group, p *updatePath) { p.nodes[0].encryptionKey = lowOrderKey }}},
		{"path key twice", "public key twice", nil, attack{path: func(_ *Group, p *updatePath) { p.nodes[0].encryptionKey = p.nodes[1].encryptionKey }}},
		{"path key in tree", "already in the tree", nil, attack{path: func(g *Group, p *updatePath) { p.nodes[0].encryptionKey = g.tree.leaf(0).encryptionKey }}},
		{"path secret missing", "wrong number of encrypted secrets", nil, attack{path: func(_ *Group, p *updatePath) { n := &p.nodes[1]; n.secrets = newCiphertexts(n.secrets.list()[1:]) }}},
		{"path secret added", "wrong number of encrypted secrets", nil, attack{path: func(_ *Group, p *updatePath) {
			n := &p.nodes[0]
			n.secrets = newCiphertexts(append(n.secrets.list(), n.secrets.at(0)))
		}}},
		{"path secrets garbled", "path secret", nil, attack{path: func(_ *Group, p *updatePath) {
			for i := range p.nodes {
				for j := range p.nodes[i].secrets.count {
					p.nodes[i].garble(j)
				}
			}
		}}},
		{"signed by another key", "message signature", nil, attack{signer: newKey(t)}},
		{"other member's name", "message signature", nil, attack{content: func(a *authenticatedContent) { a.framed.sender.Index = 0 }}},
		{"confirmation tag zero", "confirmation tag", nil, attack{tag: func(a *authenticatedContent) { clear(a.auth.confirmationTag) }}},
		{"confirmation tag short", "confirmation tag", nil, attack{tag: func(a *authenticatedContent) { a.auth.confirmationTag = a.auth.confirmationTag[:16] }}},
		{"confirmation tag empty", "confirmation tag", nil, attack{tag: func(a *authenticatedContent) { a.auth.confirmationTag = nil }}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 5, 5, func(o *GroupOptions) { o.Extensions = []Extension{{Type: ExtensionLastResort, Data: []byte{}}} })
			w.refused(1, w.commitAttack(1, &test.attack), test.reason, test.target)
			w.commit(2, CommitOptions{}) // the group goes on
		})
	}
}

// TestHostileCommitHonest makes sure that the machinery of the attacks makes
// Commits that are accepted if nothing is changed: without it, all of them
// might fail for the wrong reason.
func TestHostileCommitHonest(t *testing.T) {
	w := newWorld(t, 5, 5)
	kp, _ := newKeyPackage(t, "new")
	m := w.commitAttack(1, &attack{proposals: []Proposal{&Remove{Removed: 3}, &Add{KeyPackage: kp}}})
	for _, i := range []int{0, 2, 4} {
		if _, err := w.members[i].Process(m, testNow); err != nil {
			t.Errorf("member %d: %v", i, err)
		}
	}
}

func flip(b []byte) []byte {
	c := bytes.Clone(b)
	if len(c) > 0 {
		c[len(c)/2] ^= 1
	}
	return c
}

// goodUpdate is an update of nobody in particular.
func goodUpdate(t testing.TB) *Update {
	kp, _ := newKeyPackage(t, "member 1")
	u := &Update{leaf: kp.leaf}
	u.leaf.source = sourceUpdate
	return u
}
