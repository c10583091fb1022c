package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tests TestElsewhere_… are of flaws that other implementations of MLS had.
// That of certificates is in x509_test.go, those of trees are in
// elsewhere_tree_test.go.

// An external Commit may remove the joiner's old leaf: one, and only if the
// application accepts the joiner as successor of who is there.
func TestElsewhere_ExternalCommitRemovesOnlyTheJoinersLeaf(t *testing.T) {
	w := newWorld(t, 4, 4)
	w.acceptExternal()
	anyone := func(CredentialCheck) error { return nil }
	for victim := range LeafIndex(4) {
		j := must[*ExternalJoin](t)(w.joinExternal("member 9", func(o *ExternalJoinOptions) { o.Replace, o.Validate = &victim, anyone }))
		w.refused(-1, wire(t, j.Commit), "credential is not valid", nil)
	}
	// The successor of member 1 takes somebody along.
	key, one := newKey(t), LeafIndex(1)
	j := must[*ExternalJoin](t)(w.joinExternal("member 1", func(o *ExternalJoinOptions) { o.Replace, o.SignatureKey = &one, key }))
	c := *byFields(j.Commit.public.framed.content.commit)
	c.proposals = append(c.proposals[:len(c.proposals):len(c.proposals)], proposalOrRef{proposal: &Remove{Removed: 2}})
	m := w.sendPublic(Sender{Type: SenderNewMemberCommit}, key, content{commit: &c}, ContentCommit, func(p *publicMessage) {
		p.auth.confirmationTag = j.Commit.public.auth.confirmationTag
	})
	w.refused(-1, m, "at most one remove", nil)
	for _, g := range w.members {
		r := must[Received](t)(g.Process(wire(t, j.Commit), testNow)).(*ReceivedCommit)
		if len(r.Removed) != 1 || r.Removed[0].Leaf != 1 {
			t.Errorf("removed %v", r.Removed)
		}
	}
}

// A generation is bounded before anything is derived, and a message whose
// signature is wrong moves no ratchet.
func TestElsewhere_GenerationIsBoundedFirst(t *testing.T) {
	w := newWorld(t, 2, 1)
	h := w.members[1]
	for _, n := range []uint32{MaxGenerationJump + 1, MaxGeneration, math.MaxInt32, 1 << 31, math.MaxUint32} {
		if _, err := h.keys.use(h.suite, 0, applicationRatchet, n, MaxGenerationJump); !errors.Is(err, ErrGenerationTooFar) {
			t.Errorf("generation %d: got %v", n, err)
		}
	}
	far := testing.AllocsPerRun(10, func() { _, _ = h.keys.use(h.suite, 0, applicationRatchet, math.MaxUint32, MaxGenerationJump) })
	if far > 0 {
		t.Errorf("refusing a huge generation allocates %.0f times", far)
	}
	thief := w.members[0].Clone()
	thief.signature = newKey(t)
	m := wire(t, must[*Message](t)(thief.Protect([]byte("x"), ProtectOptions{Generation: generation(MaxGenerationJump - 1)})))
	w.refused(0, m, "message signature", nil)
	good := wire(t, must[*Message](t)(w.members[0].Protect([]byte("x"), ProtectOptions{})))
	must[Received](t)(h.Process(good, testNow))
}

// Leaf indices and tree sizes are unsigned and bounded wherever they come from.
func TestElsewhere_IndicesAreUnsignedAndBounded(t *testing.T) {
	service := ExternalSenders([]ExternalSender{{
		SignatureKey: must[[]byte](t)(newKey(t).PublicKey(testSuite)), Credential: NewBasicCredential([]byte("service")),
	}})
	w := newWorld(t, 3, 3, func(o *GroupOptions) { o.Extensions = []Extension{service} })
	g := w.members[0]
	for _, l := range []LeafIndex{3, 4, MaxLeaves - 1, MaxLeaves, math.MaxInt32, 1 << 31, math.MaxUint32 / 2, math.MaxUint32} {
		if g.tree.leaf(l) != nil {
			t.Errorf("leaf %d exists", l)
		}
		if _, ok := g.Member(l); ok {
			t.Errorf("member %d exists", l)
		}
		w.refused(1, w.commitAttack(1, &attack{proposals: []Proposal{&Remove{Removed: l}}}), "removed leaf is blank", nil)
		w.refused(1, w.commitAttack(1, &attack{content: func(a *authenticatedContent) { a.framed.sender.Index = uint32(l) }}), "message signature", nil)
		if _, err := g.Commit(CommitOptions{Remove: []LeafIndex{l}}); err == nil {
			t.Errorf("own removal of leaf %d was made", l)
		}
		m := w.sendPublic(Sender{Type: SenderMember, Index: uint32(l)}, w.members[1].signature, content{proposal: &Remove{Removed: 2}}, ContentProposal, nil)
		w.refused(-1, m, "", ErrNotMember)
		m = w.sendPublic(Sender{Type: SenderExternal, Index: uint32(l)}, newKey(t), content{proposal: &Remove{Removed: 2}}, ContentProposal, nil)
		w.refused(-1, m, "not in the external_senders", nil)
		for name, change := range map[string]func(v *invitation){
			"signer": func(v *invitation) { v.info.signer = l },
			"unmerged": func(v *invitation) {
				v.changeParent(v.tree.root(), func(p *parentNode) { p.unmerged = []LeafIndex{l} })
			},
		} {
			invite, joiner := w.invite(1, true, change)
			if _, err := JoinWelcome(invite, JoinOptions{Secrets: joiner, Validate: acceptNamed}); err == nil && l > 3 {
				t.Errorf("%s %d: joined", name, l)
			}
		}
		state := g.Clone()
		state.own = l
		if b, err := state.MarshalBinary(); err == nil {
			if _, err := UnmarshalGroup(b, g.signature, acceptNamed); err == nil {
				t.Errorf("group of own leaf %d was read", l)
			}
		}
		r := *must[*ArchiveRecord](t)(g.Archive())
		r.own = l
		if _, err := ParseArchiveRecord(must[[]byte](t)(r.MarshalBinary())); err == nil {
			t.Errorf("record of own leaf %d was read", l)
		}
		r.own, r.leaves = 0, uint32(l)
		if _, err := ParseArchiveRecord(must[[]byte](t)(r.MarshalBinary())); err == nil && l != 4 && l != MaxLeaves {
			t.Errorf("record of %d leaves was read", l)
		}
	}
	// A tree of blank nodes costs a byte each: its size is bounded all the same.
	big := newRatchetTree(MaxLeaves)
	big.setLeaf(MaxLeaves-1, g.tree.leaf(0))
	if _, err := parseRatchetTree(encode(big)); err != nil {
		t.Errorf("tree of %d leaves: %v", MaxLeaves, err)
	}
	big = newRatchetTree(2 * MaxLeaves)
	big.setLeaf(2*MaxLeaves-1, g.tree.leaf(0))
	if _, err := parseRatchetTree(encode(big)); err == nil {
		t.Errorf("tree of %d leaves was read", 2*MaxLeaves)
	}
}

// Tags count in their full length, whoever checks them, and no comparison of
// tags or MACs stops at the first difference.
func TestElsewhere_TagsCompareWholeInConstantTime(t *testing.T) {
	for _, cs := range CipherSuites() {
		w := newWorld(t, 2, 1, func(o *GroupOptions) { o.CipherSuite = cs })
		nh := w.members[0].suite.Nh
		p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Public: true}))
		good := p.Commit.public
		for n := range nh + 2 {
			cut := func(tag []byte) []byte { return append(bytes.Clone(tag), 0)[:n] }
			bad := *good
			if n == nh {
				continue
			}
			bad.membershipTag = cut(good.membershipTag)
			w.refused(0, wire(t, &Message{wireFormat: WirePublicMessage, public: &bad}), "membership tag", nil)
			bad = *good
			bad.auth.confirmationTag = cut(good.auth.confirmationTag)
			a := bad.content()
			bad.membershipTag = membershipMAC(w.members[0].suite, w.members[0].secrets.membership, a, &w.members[0].context)
			w.refused(0, wire(t, &Message{wireFormat: WirePublicMessage, public: &bad}), "confirmation tag", nil)
		}
		must[Received](t)(w.members[1].Process(wire(t, p.Commit), testNow))
		m := must[*Message](t)(w.members[0].Protect([]byte("x"), ProtectOptions{}))
		for n := range 17 {
			bad := *m.private
			bad.ciphertext = bad.ciphertext[:len(bad.ciphertext)-n]
			if n > 0 {
				w.refused(0, &Message{wireFormat: WirePrivateMessage, private: &bad}, "", nil)
			}
		}
	}
	compared := regexp.MustCompile(`(bytes\.Equal|==|!=)[^\n]*([tT]ag\b|MAC\b)|([tT]ag|MAC)\)? *(==|!=)`)
	harmless := regexp.MustCompile(`ConstantTimeCompare|VerifyMAC|interimTranscriptHash|tag == nil`)
	sources, err := filepath.Glob("*.go")
	noError(t, err)
	inner, err := filepath.Glob("internal/labeled/*.go")
	noError(t, err)
	for _, path := range append(sources, inner...) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for i, line := range strings.Split(string(must[[]byte](t)(os.ReadFile(path))), "\n") {
			if compared.MatchString(line) && !harmless.MatchString(line) {
				t.Errorf("%s:%d compares a tag: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	}
}

// No generation comes back: not by storing and reading, not by a late message,
// not by asking for it, not by a Commit that was dropped.
func TestElsewhere_GenerationsNeverComeBack(t *testing.T) {
	w := newWorld(t, 2, 1)
	g, h := w.members[0], w.members[1]
	var sent []*Message
	for n := range 6 {
		m := must[*Message](t)(g.Protect(fmt.Append(nil, n), ProtectOptions{}))
		sent = append(sent, m)
		g = stored(t, g)
		if next := g.keys.next(g.own, applicationRatchet); next != uint32(n+1) {
			t.Fatalf("after message %d the next generation is %d", n, next)
		}
	}
	for n := range uint32(6) {
		if _, err := g.Protect(nil, ProtectOptions{Generation: &n}); !errors.Is(err, ErrReplayed) {
			t.Errorf("generation %d again: got %v", n, err)
		}
	}
	for _, n := range []int{4, 1, 5, 0} {
		must[Received](t)(h.Process(sent[n], testNow))
		h = stored(t, h)
		if _, err := h.Process(sent[n], testNow); !errors.Is(err, ErrReplayed) {
			t.Errorf("message %d again: got %v", n, err)
		}
		if next := h.keys.next(0, applicationRatchet); next < 5 {
			t.Errorf("after message %d the ratchet is at %d", n, next)
		}
	}
	// Proposals and a dropped Commit move the handshake ratchet only forward.
	must[*Message](t)(g.Propose(&Remove{Removed: 1}, ProposeOptions{}))
	before := g.keys.next(g.own, handshakeRatchet)
	must[*PendingCommit](t)(g.Commit(CommitOptions{}))
	if next := g.keys.next(g.own, handshakeRatchet); next != before || next != 1 {
		t.Errorf("handshake ratchet at %d, was %d", next, before)
	}
}

// A Commit that fails, received or made, leaves no trace: whatever step it
// reaches.
func TestElsewhere_FailedCommitLeavesNoTrace(t *testing.T) {
	w := newWorld(t, 5, 5)
	kp, _ := newKeyPackage(t, "new")
	psk := PreSharedKeyID{Type: PSKExternal, ID: []byte("unknown"), Nonce: randomBytes(32)}
	for name, x := range map[string]*attack{
		"last step, tag": {tag: func(a *authenticatedContent) { a.auth.confirmationTag = flip(a.auth.confirmationTag) }},
		"psk after path": {proposals: []Proposal{&Remove{Removed: 3}, &PreSharedKey{ID: psk}}},
		"secret of one":  {path: func(_ *Group, p *updatePath) { p.nodes[0].garble(0) }, proposals: []Proposal{&Add{KeyPackage: kp}}},
		"secret of root": {path: func(_ *Group, p *updatePath) {
			p.nodes[len(p.nodes)-1].garble(0)
		}},
		"key above":       {path: func(g *Group, p *updatePath) { _, p.nodes[len(p.nodes)-1].encryptionKey, _ = g.suite.GenerateKeyPair() }},
		"removed and tag": {proposals: []Proposal{&Remove{Removed: 4}}, tag: func(a *authenticatedContent) { clear(a.auth.confirmationTag) }},
	} {
		m := w.commitAttack(1, x)
		refusals := 0
		for i, g := range w.members {
			if i == 1 {
				continue
			}
			before, keys := must[[]byte](t)(g.MarshalBinary()), len(g.private)
			tree := encode(g.tree)
			if _, err := g.Process(m, testNow); err == nil {
				continue // whom the change does not concern
			}
			refusals++
			if !bytes.Equal(before, must[[]byte](t)(g.MarshalBinary())) || len(g.private) != keys || !bytes.Equal(tree, encode(g.tree)) {
				t.Errorf("%s: member %d keeps a trace", name, i)
			}
			checkIndex(t, g.tree)
		}
		if refusals == 0 {
			t.Errorf("%s: nobody refuses it", name)
		}
	}
	g := w.members[0]
	before := must[[]byte](t)(g.MarshalBinary())
	strange := NewBasicCredential([]byte("somebody else"))
	for name, o := range map[string]CommitOptions{
		"psk":        {Proposals: []Proposal{&PreSharedKey{ID: psk}}},
		"credential": {NewCredential: &strange},
		"extension":  {Proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{{Type: 0xf123}}}}},
		"padding":    {Padding: func(int) int { return -1 }},
		"generation": {Generation: generation(MaxGeneration)},
		"time":       {Add: []*KeyPackage{kp}},
	} {
		if _, err := g.Commit(o); err == nil {
			t.Errorf("own commit, %s: made", name)
		}
		if !bytes.Equal(before, must[[]byte](t)(g.MarshalBinary())) {
			t.Errorf("own commit, %s: trace", name)
		}
	}
	w.commit(4, CommitOptions{}) // all go on together
	w.commit(0, CommitOptions{})
}

// A thousand messages may arrive in the worst order.
func TestElsewhere_OutOfOrderToleranceIsLarge(t *testing.T) {
	w := newWorld(t, 2, 1)
	const n = MaxSkippedKeys
	var sent []*Message
	for i := range n {
		sent = append(sent, must[*Message](t)(w.members[0].Protect(fmt.Append(nil, i), ProtectOptions{})))
	}
	for i := n - 1; i >= 0; i-- {
		r := must[Received](t)(w.members[1].Process(sent[i], testNow)).(*Application)
		if string(r.Plaintext) != fmt.Sprint(i) {
			t.Fatalf("message %d: got %q", i, r.Plaintext)
		}
		if i == n/2 {
			w.members[1] = stored(t, w.members[1])
		}
	}
}

// An own Commit takes effect once, at whatever moment the program stopped.
func TestElsewhere_OwnCommitIsAppliedOnce(t *testing.T) {
	for _, public := range []bool{false, true} {
		w := newWorld(t, 3, 3)
		before := must[[]byte](t)(w.members[0].MarshalBinary())
		sig := w.members[0].SignatureKey()
		p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Public: public}))
		after := must[[]byte](t)(p.Staged.Group().MarshalBinary())

		// Stopped before it was merged: the old state does not take it from the
		// wire, the new state is the one to go on with.
		old := must[*Group](t)(UnmarshalGroup(before, sig, acceptNamed))
		if _, err := old.Process(wire(t, p.Commit), testNow); !errors.Is(err, ErrOwnCommit) {
			t.Errorf("old state: got %v", err)
		}
		// Stopped after it: neither the wire nor the staged Commit applies it
		// again.
		next := must[*Group](t)(UnmarshalGroup(after, sig, acceptNamed))
		if _, err := next.Process(wire(t, p.Commit), testNow); !errors.Is(err, ErrStaleEpoch) {
			t.Errorf("new state: got %v", err)
		}
		if err := next.Merge(p.Staged); !errors.Is(err, ErrStaleCommit) {
			t.Errorf("merge into the new state: got %v", err)
		}
		if !bytes.Equal(after, must[[]byte](t)(next.MarshalBinary())) {
			t.Error("new state was changed")
		}
		w.deliver(0, p)
		if err := w.members[0].Merge(p.Staged); !errors.Is(err, ErrStaleCommit) {
			t.Errorf("merge twice: got %v", err)
		}
		w.members[0] = next
		w.agree()
		w.commit(0, CommitOptions{})
	}
}

// Vectors in vectors in vectors are refused at a fixed depth, and what is
// opaque is not looked into.
func TestElsewhere_DeeplyNestedExtensions(t *testing.T) {
	deep := []byte{}
	for len(deep) < 1<<16 {
		deep = encode(&opaque{deep})
	}
	kp := changedKeyPackage(t, func(k *KeyPackage) {
		k.leaf.capabilities.Extensions = append(k.leaf.capabilities.Extensions, 0xf123)
		k.extensions = []Extension{{Type: 0xf123, Data: deep}}
		k.leaf.extensions = []Extension{{Type: 0xf123, Data: deep}}
	})
	noError(t, must[*KeyPackage](t)(ParseKeyPackage(must[[]byte](t)(kp.MarshalBinary()))).Verify(testNow))
	w := newWorld(t, 3, 1)
	for _, kind := range []ExtensionType{ExtensionRequiredCapabilities, ExtensionExternalSenders} {
		p := &GroupContextExtensions{Extensions: []Extension{{Type: kind, Data: deep}}}
		w.refused(1, w.commitAttack(1, &attack{proposals: []Proposal{p}}), "malformed", nil)
	}
	m, joiner := w.invite(1, false, func(v *invitation) { v.info.extensions[0].Data = deep; _ = v.info.sign(v.suite, v.signer) })
	if _, err := JoinWelcome(m, JoinOptions{Secrets: joiner, Validate: acceptNamed}); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("join: got %v", err)
	}
	for _, format := range []WireFormat{WirePublicMessage, WireWelcome, WireGroupInfo, WireKeyPackage} {
		if _, err := ParseMessage(append([]byte{0, 1, 0, byte(format)}, deep...)); err == nil {
			t.Errorf("wire format %d: nested vectors were read", format)
		}
	}
}
