package mls

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// seedMessages are one message of each kind.
func seedMessages(f *testing.F) [][]byte {
	w := newWorld(f, 5, 3, func(o *GroupOptions) {
		o.Extensions = []Extension{RequiredCapabilities(nil, nil, []CredentialType{CredentialBasic})}
	})
	kp, _ := newKeyPackage(f, "fuzz", func(o *KeyPackageOptions) { o.LastResort = true })
	p, err := w.members[0].Commit(CommitOptions{Add: []*KeyPackage{kp}, Remove: []LeafIndex{2}, Now: testNow})
	if err != nil {
		f.Fatal(err)
	}
	app, err := w.members[0].Protect([]byte("text"), ProtectOptions{AuthenticatedData: []byte("aad")})
	if err != nil {
		f.Fatal(err)
	}
	info, err := w.members[0].groupInfo(true, true)
	if err != nil {
		f.Fatal(err)
	}
	add := w.sendPublic(Sender{Type: SenderMember, Index: 1}, w.members[1].signature, content{proposal: &Add{KeyPackage: kp}}, ContentProposal, nil)
	psk := w.sendPublic(Sender{Type: SenderMember, Index: 1}, w.members[1].signature, content{proposal: &PreSharedKey{ID: PreSharedKeyID{Type: PSKResumption, Usage: 1, Nonce: make([]byte, 32)}}}, ContentProposal, nil)
	var seeds [][]byte
	for _, m := range []*Message{
		p.Commit, p.Welcome, app, add, psk,
		{wireFormat: WireKeyPackage, keyPackage: kp}, {wireFormat: WireGroupInfo, groupInfo: info},
	} {
		seeds = append(seeds, encode(m))
	}
	return seeds
}

func FuzzParseMessage(f *testing.F) {
	for _, b := range seedMessages(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		m, err := ParseMessage(b)
		if !bytes.Equal(before, b) {
			t.Fatal("input was changed")
		}
		if err != nil {
			return
		}
		again, err := m.MarshalBinary()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("message changes when it is parsed and encoded: %v", err)
		}
		m.Group()
		m.ContentType()
		m.AuthenticatedData()
		m.WelcomeRefs()
	})
}

func FuzzParseKeyPackage(f *testing.F) {
	kp, _ := newKeyPackage(f, "fuzz", func(o *KeyPackageOptions) { o.LastResort = true })
	b, _ := kp.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		kp, err := ParseKeyPackage(b)
		if err != nil {
			return
		}
		if again, err := kp.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("key package changes when it is parsed and encoded: %v", err)
		}
		_ = kp.Verify(testNow)
		kp.Ref()
		kp.IsLastResort()
	})
}

func FuzzParseKeyPackageSecrets(f *testing.F) {
	_, secrets := newKeyPackage(f, "fuzz")
	b, _ := secrets.MarshalBinary()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseKeyPackageSecrets(b)
		if err != nil {
			return
		}
		if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("secrets change when they are parsed and encoded: %v", err)
		}
	})
}

func FuzzUnmarshalGroup(f *testing.F) {
	w := newWorld(f, 4, 3)
	w.propose(1)
	g := w.members[1]
	b, err := g.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(g.signature), b)
	f.Fuzz(func(t *testing.T, sig, b []byte) {
		h, err := UnmarshalGroup(b, sig, acceptNamed)
		if err != nil {
			return
		}
		// Whatever is accepted is usable.
		if _, err := h.Commit(CommitOptions{}); err != nil {
			t.Logf("commit: %v", err)
		}
		if _, err := h.Protect([]byte("x"), ProtectOptions{}); err != nil {
			t.Logf("protect: %v", err)
		}
		if _, err := h.Archive(); err != nil {
			t.Logf("archive: %v", err)
		}
	})
}

func FuzzParseArchiveRecord(f *testing.F) {
	w := newWorld(f, 3, 1)
	b, _ := w.records()[0].MarshalBinary()
	m, err := w.members[1].Protect([]byte("x"), ProtectOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseArchiveRecord(b)
		if err != nil {
			return
		}
		if again, err := r.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("record changes when it is parsed and encoded: %v", err)
		}
		_, _ = r.Open(m)
	})
}

func FuzzRatchetTree(f *testing.F) {
	w := newWorld(f, 6, 4)
	w.commit(0, CommitOptions{Remove: []LeafIndex{5}})
	w.add(1, 2)
	ctx := w.members[0].context
	s := w.members[0].suite
	f.Add(encode(w.members[0].tree))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := parseRatchetTree(b)
		if err != nil {
			return
		}
		if !bytes.Equal(encode(tree), b) {
			t.Fatal("tree changes when it is parsed and encoded")
		}
		_ = tree.verifyJoined(s, &ctx, 1)
		_ = tree.verifyParentHashes(s, 1)
		for l := range LeafIndex(min(tree.size(), 16)) {
			tree.filteredPath(l)
		}
		if _, err := tree.clone().leftmostBlank(); err != nil {
			t.Log(err)
		}
	})
}

// FuzzProcess feeds a group with mutated content that is decrypted and signed
// as it should be, so that mutations get past the cryptography.
func FuzzProcess(f *testing.F) {
	w := newWorld(f, 5, 5)
	g, h := w.members[1], w.members[2]
	kp, _ := newKeyPackage(f, "fuzz")
	p, err := g.Commit(CommitOptions{Add: []*KeyPackage{kp}, Remove: []LeafIndex{3}, Now: testNow})
	if err != nil {
		f.Fatal(err)
	}
	_, err = h.Process(p.Commit, testNow)
	if err != nil {
		f.Fatal(err)
	}
	a, _, err := h.unprotect(p.Commit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(byte(ContentCommit), encode(a.framed.content.commit))
	f.Add(byte(ContentProposal), encode(&proposalOrRef{proposal: &Add{KeyPackage: kp}})[1:])
	f.Add(byte(ContentProposal), encode(&proposalOrRef{proposal: goodUpdate(f)})[1:])
	f.Add(byte(ContentProposal), encode(&proposalOrRef{proposal: &Remove{Removed: 1}})[1:])
	f.Add(byte(ContentApplication), []byte{1, 'x'})
	state, err := h.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		a := &authenticatedContent{wireFormat: WirePrivateMessage, framed: framedContent{
			groupID: g.context.groupID, epoch: g.context.epoch,
			sender: Sender{Type: SenderMember, Index: uint32(g.own)}, contentType: ContentType(kind),
		}}
		c := &typedContent{t: ContentType(kind), c: &a.framed.content}
		if decode(b, c) != nil {
			return
		}
		if commit := a.framed.content.commit; commit != nil {
			wantEqual(t, "commit by its fields", encode(byFields(commit)), b)
		}
		if err := a.sign(g.suite, g.signature, &g.context); err != nil {
			t.Fatal(err)
		}
		a.auth.confirmationTag = make([]byte, 32)
		pm, _, err := g.sealOwn(a, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		victim := h.Clone()
		if _, err := victim.Process(&Message{wireFormat: WirePrivateMessage, private: pm}, testNow); err != nil {
			after, merr := victim.MarshalBinary()
			if merr != nil || !bytes.Equal(after, state) {
				t.Fatalf("refused message changed the group: %v, %v", err, merr)
			}
		}
	})
}

// typedContent decodes content of a known type.
type typedContent struct {
	t ContentType
	c *content
}

func (c *typedContent) unmarshal(r *codec.Reader) { c.c.unmarshal(r, c.t) }
