package mls

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// sendAs signs and encrypts content as member i, with its next keys.
func (w *world) sendAs(i int, c content, t ContentType, change func(a *authenticatedContent)) *Message {
	w.t.Helper()
	g := w.members[i].Clone()
	a := &authenticatedContent{wireFormat: WirePrivateMessage, framed: framedContent{
		groupID: g.context.groupID, epoch: g.context.epoch,
		sender: Sender{Type: SenderMember, Index: uint32(g.own)}, contentType: t, content: c,
	}}
	if err := a.sign(g.suite, g.signature, &g.context); err != nil {
		w.t.Fatal(err)
	}
	if change != nil {
		change(a)
	}
	p, _, err := g.sealOwn(a, nil, nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return wire(w.t, &Message{wireFormat: WirePrivateMessage, private: p})
}

// sendPublic signs content with key and sends it as PublicMessage of epoch and
// group of member 0.
func (w *world) sendPublic(sender Sender, key SignaturePrivateKey, c content, t ContentType, change func(p *publicMessage)) *Message {
	w.t.Helper()
	g := w.members[0]
	a := &authenticatedContent{wireFormat: WirePublicMessage, framed: framedContent{
		groupID: g.context.groupID, epoch: g.context.epoch, sender: sender, contentType: t, content: c,
	}}
	if err := a.sign(g.suite, key, &g.context); err != nil {
		w.t.Fatal(err)
	}
	p := &publicMessage{framed: a.framed, auth: a.auth}
	if sender.Type == SenderMember {
		p.membershipTag = membershipMAC(g.suite, g.secrets.membership, a, &g.context)
	}
	if change != nil {
		change(p)
	}
	return wire(w.t, &Message{wireFormat: WirePublicMessage, public: p})
}

func TestHostileProposals(t *testing.T) {
	update := func(change func(g *Group, l *leafNode), resign bool) func(w *world) Proposal {
		return func(w *world) Proposal {
			g := w.members[1]
			leaf := *g.tree.leaf(g.own)
			leaf.source, leaf.parentHash, leaf.lifetime = sourceUpdate, nil, Lifetime{}
			_, leaf.encryptionKey, _ = g.suite.GenerateKeyPair()
			if !resign {
				_ = leaf.sign(g.suite, g.signature, g.context.groupID, g.own)
			}
			change(g, &leaf)
			if resign {
				_ = leaf.sign(g.suite, g.signature, g.context.groupID, g.own)
			}
			return &Update{leaf: leaf}
		}
	}
	plain := func(p Proposal) func(*world) Proposal { return func(*world) Proposal { return p } }
	for _, test := range []struct {
		name, reason string
		proposal     func(w *world) Proposal
	}{
		{"update of commit source", "leaf_node_source is not update", update(func(_ *Group, l *leafNode) { l.source = sourceCommit }, true)},
		{"update keeps key", "update keeps the encryption key", update(func(g *Group, l *leafNode) { l.encryptionKey = g.tree.leaf(g.own).encryptionKey }, true)},
		{"update signature", "leaf node signature", update(func(_ *Group, l *leafNode) { l.signature = flip(l.signature) }, false)},
		{"update of another name", "credential is not valid", update(func(_ *Group, l *leafNode) { l.credential = NewBasicCredential([]byte("member 0")) }, true)},
		{"remove of nobody", "removed leaf is blank", plain(&Remove{Removed: 7})},
		{"external init", "external_init outside", plain(&ExternalInit{})},
		{"add of broken key package", "key package signature", plain(&Add{KeyPackage: func() *KeyPackage { k, _ := newKeyPackage(t, "x"); c := *k; c.signature = flip(c.signature); return &c }()})},
		{"reinit of version 0", "version is less", plain(&ReInit{})},
		{"psk nonce", "psk_nonce", plain(&PreSharedKey{ID: PreSharedKeyID{Type: PSKExternal}})},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 3, 3)
			w.refused(1, w.sendAs(1, content{proposal: test.proposal(w)}, ContentProposal, nil), test.reason, nil)
			w.commit(0, CommitOptions{})
		})
	}
}

func TestHostileReferences(t *testing.T) {
	w := newWorld(t, 4, 4)
	w.propose(1)
	ref := w.members[0].proposals[0].ref
	w.refused(1, w.commitAttack(1, &attack{refs: []ProposalRef{ref}}), "update was made by the committer", nil)
	w.refused(2, w.commitAttack(2, &attack{refs: []ProposalRef{ref, ref}}), "refers to a proposal twice", nil)
	w.refused(2, w.commitAttack(2, &attack{refs: []ProposalRef{ref}, proposals: []Proposal{&Remove{Removed: 1}}}), "updated or removed twice", nil)
	w.refused(2, w.commitAttack(2, &attack{refs: []ProposalRef{ref}, noPath: true}), "must have a path", nil)
	for _, g := range w.members {
		if _, err := g.Protect(nil, ProtectOptions{}); !errors.Is(err, ErrCommitRequired) {
			t.Errorf("message while a proposal waits: got %v, want %v", err, ErrCommitRequired)
		}
	}
	w.commit(1, CommitOptions{}) // leaves its own update out
	w.propose(1)
	w.propose(1)
	w.propose(3)
	w.commit(2, CommitOptions{Remove: []LeafIndex{3}}) // the last update of 1, the removal of 3
}

func TestHostileFraming(t *testing.T) {
	text := content{application: []byte("text")}
	blank := senderData{leaf: 3}
	seal := func(w *world, d senderData, padding func(int) int, garble func(*privateMessage)) *Message {
		g := w.members[1].Clone()
		a := applicationContent(&g.context, g.own, []byte("text"), nil)
		_ = a.sign(g.suite, g.signature, &g.context)
		use, err := g.keys.use(g.suite, g.own, applicationRatchet, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := sealPrivate(g.suite, g.secrets.senderData, a, use.messageKey, d, padding)
		if err != nil {
			t.Fatal(err)
		}
		if garble != nil {
			garble(p)
		}
		return wire(t, &Message{wireFormat: WirePrivateMessage, private: p})
	}
	for _, test := range []struct {
		name, reason string
		target       error
		message      func(w *world) *Message
	}{
		{"signature", "message signature", nil, func(w *world) *Message {
			return w.sendAs(1, text, ContentApplication, func(a *authenticatedContent) { a.auth.signature = flip(a.auth.signature) })
		}},
		{"signature empty", "message signature", nil, func(w *world) *Message {
			return w.sendAs(1, text, ContentApplication, func(a *authenticatedContent) { a.auth.signature = nil })
		}},
		{"blank sender", "", ErrNotMember, func(w *world) *Message { return seal(w, blank, nil, nil) }},
		{"sender beyond tree", "", ErrNotMember, func(w *world) *Message { return seal(w, senderData{leaf: math.MaxUint32}, nil, nil) }},
		{"other sender", "message content", nil, func(w *world) *Message { return seal(w, senderData{leaf: 0}, nil, nil) }},
		{"generation too far", "", ErrGenerationTooFar, func(w *world) *Message { return seal(w, senderData{leaf: 1, generation: math.MaxUint32}, nil, nil) }},
		{"generation jump", "", ErrGenerationTooFar, func(w *world) *Message {
			return seal(w, senderData{leaf: 1, generation: MaxGenerationJump + 1}, nil, nil)
		}},
		{"reuse guard", "message content", nil, func(w *world) *Message {
			m := seal(w, senderData{leaf: 1, guard: [4]byte{1}}, nil, nil)
			k, _ := senderDataKey(w.members[0].suite, w.members[0].secrets.senderData, m.private.ciphertext)
			m.private.encryptedSenderData, _ = w.members[0].suite.AEADSeal(k.key, k.nonce, m.private.senderDataAAD(), encode(&senderData{leaf: 1}))
			return m
		}},
		{"ciphertext", "", nil, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.ciphertext = flip(p.ciphertext) })
		}},
		{"ciphertext end", "message content", nil, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, func(n int) int { return n + 64 }, func(p *privateMessage) { p.ciphertext = p.ciphertext[:len(p.ciphertext)-1] })
		}},
		{"empty ciphertext", "sender data", nil, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.ciphertext = nil })
		}},
		{"authenticated data", "message content", nil, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.authenticatedData = []byte("x") })
		}},
		{"content type", "sender data", nil, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.contentType = ContentCommit })
		}},
		{"other group", "", ErrWrongGroup, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.groupID += "x" })
		}},
		{"earlier epoch", "", ErrStaleEpoch, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.epoch-- })
		}},
		{"later epoch", "", ErrFutureEpoch, func(w *world) *Message {
			return seal(w, senderData{leaf: 1}, nil, func(p *privateMessage) { p.epoch++ })
		}},
		{"key package", "not a message to a group", nil, func(w *world) *Message {
			kp, _ := newKeyPackage(t, "x")
			return &Message{wireFormat: WireKeyPackage, keyPackage: kp}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 3, 1)
			w.refused(1, test.message(w), test.reason, test.target)
		})
	}
}

func TestHostilePadding(t *testing.T) {
	w := newWorld(t, 2, 0)
	g := w.members[1].Clone()
	a := applicationContent(&g.context, g.own, []byte("text"), nil)
	noError(t, a.sign(g.suite, g.signature, &g.context))
	use := must[*keyUse](t)(g.keys.use(g.suite, g.own, applicationRatchet, 0, 0))
	p := must[*privateMessage](t)(sealPrivate(g.suite, g.secrets.senderData, a, use.messageKey, senderData{leaf: g.own}, func(n int) int { return n + 4 }))
	// The same with a byte in the padding.
	plaintext := must[[]byte](t)(g.suite.AEADOpen(use.key, use.nonce, p.contentAAD(), p.ciphertext))
	plaintext[len(plaintext)-2] = 1
	p.ciphertext = must[[]byte](t)(g.suite.AEADSeal(use.key, use.nonce, p.contentAAD(), plaintext))
	k := must[messageKey](t)(senderDataKey(g.suite, g.secrets.senderData, p.ciphertext))
	p.encryptedSenderData = must[[]byte](t)(g.suite.AEADSeal(k.key, k.nonce, p.senderDataAAD(), encode(&senderData{leaf: g.own})))
	w.refused(1, &Message{wireFormat: WirePrivateMessage, private: p}, "padding holds a byte", nil)
}

func TestHostilePublicMessages(t *testing.T) {
	key, _, err := GenerateSignatureKey(testSuite)
	noError(t, err)
	public, err := key.PublicKey(testSuite)
	noError(t, err)
	trusted := ExternalSenders([]ExternalSender{{SignatureKey: public, Credential: NewBasicCredential([]byte("service"))}})
	remove := content{proposal: &Remove{Removed: 2}}
	outside := Sender{Type: SenderExternal}
	trusting := func(t *testing.T) *world {
		return newWorld(t, 3, 1, func(o *GroupOptions) { o.Extensions = []Extension{trusted} })
	}
	for _, test := range []struct {
		name, reason string
		message      func(w *world) *Message
	}{
		{"application", "application message is not encrypted", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderMember, Index: 1}, w.members[1].signature, content{application: []byte("x")}, ContentApplication, nil)
		}},
		{"membership tag", "membership tag", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderMember, Index: 1}, w.members[1].signature, remove, ContentProposal, func(p *publicMessage) { clear(p.membershipTag) })
		}},
		{"short membership tag", "membership tag", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderMember, Index: 1}, w.members[1].signature, remove, ContentProposal, func(p *publicMessage) { p.membershipTag = p.membershipTag[:1] })
		}},
		{"signature of member", "message signature", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderMember, Index: 0}, w.members[1].signature, remove, ContentProposal, nil)
		}},
		{"unknown external sender", "not in the external_senders", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderExternal, Index: 1}, key, remove, ContentProposal, nil)
		}},
		{"signature of external sender", "message signature", func(w *world) *Message { return w.sendPublic(outside, newKey(t), remove, ContentProposal, nil) }},
		{"update by external sender", "external sender must not", func(w *world) *Message {
			return w.sendPublic(outside, key, content{proposal: goodUpdate(t)}, ContentProposal, nil)
		}},
		{"commit by external sender", "external sender must not", func(w *world) *Message {
			return w.sendPublic(outside, key, content{commit: &commit{}}, ContentCommit, nil)
		}},
		{"new member removes", "proposes something else", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderNewMemberProposal}, key, remove, ContentProposal, nil)
		}},
		{"external commit without path", "external commit has no path", func(w *world) *Message {
			return w.sendPublic(Sender{Type: SenderNewMemberCommit}, key, content{commit: &commit{}}, ContentCommit, nil)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := trusting(t)
			w.refused(1, test.message(w), test.reason, nil)
		})
	}
	t.Run("honest", func(t *testing.T) {
		w := trusting(t)
		m := w.sendPublic(outside, key, remove, ContentProposal, nil)
		for _, g := range w.members {
			if _, err := g.Process(m, testNow); err != nil {
				t.Fatal(err)
			}
		}
		// What comes from outside is committed only on demand.
		w.commit(0, CommitOptions{})
		if len(w.members) != 3 {
			t.Fatal("external proposal was committed without being chosen")
		}
		m = w.sendPublic(outside, key, remove, ContentProposal, nil)
		for _, g := range w.members {
			if _, err := g.Process(m, testNow); err != nil {
				t.Fatal(err)
			}
		}
		w.commit(0, CommitOptions{Select: func(*ReceivedProposal) bool { return true }})
		if len(w.members) != 2 {
			t.Fatalf("%d members, want 2", len(w.members))
		}
	})
}

func TestErrorsNameTheSection(t *testing.T) {
	w := newWorld(t, 3, 3)
	_, err := w.members[0].Process(w.commitAttack(1, &attack{noPath: true}), testNow)
	var v *ValidationError
	if !errors.As(err, &v) || v.Section != "12.4" || !strings.Contains(err.Error(), "RFC 9420 section 12.4") {
		t.Errorf("got %v", err)
	}
}
