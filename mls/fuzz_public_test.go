package mls

import (
	"bytes"
	"testing"
)

// FuzzProcessPublic feeds a group with mutated PublicMessages of all kinds of
// senders, signed and tagged as they should be.
func FuzzProcessPublic(f *testing.F) {
	service := newKey(f)
	senders := ExternalSenders([]ExternalSender{{
		SignatureKey: must[[]byte](f)(service.PublicKey(testSuite)), Credential: NewBasicCredential([]byte("service")),
	}})
	w := newWorld(f, 5, 5, func(o *GroupOptions) { o.Extensions = []Extension{senders} })
	w.acceptExternal()
	g, h := w.members[1], w.members[2]
	kp, secrets := newKeyPackage(f, "fuzz")
	joinerKey := newKey(f)
	add := must[*Message](f)(ProposeNewMember(NewMemberProposalOptions{GroupID: g.ID(), Epoch: g.Epoch(), Secrets: secrets}))
	outside := must[*Message](f)(ProposeExternally(ExternalProposalOptions{
		GroupID: g.ID(), Epoch: g.Epoch(), CipherSuite: testSuite, Proposal: &Remove{Removed: 3}, SignatureKey: service,
	}))
	j := must[*ExternalJoin](f)(w.joinExternal("joiner", func(o *ExternalJoinOptions) { o.SignatureKey = joinerKey }))
	p := must[*PendingCommit](f)(g.Commit(CommitOptions{Public: true, Add: []*KeyPackage{kp}, Remove: []LeafIndex{4}, Now: testNow}))
	update := must[*Message](f)(g.Clone().ProposeUpdate(UpdateOptions{ProposeOptions: ProposeOptions{Public: true}}))
	for _, m := range []*Message{add, outside, j.Commit, p.Commit, update} {
		f.Add(encode(m))
	}
	keys := map[SenderType]SignaturePrivateKey{
		SenderMember: g.signature, SenderExternal: service, SenderNewMemberProposal: secrets.signaturePrivate, SenderNewMemberCommit: joinerKey,
	}
	state := must[[]byte](f)(h.MarshalBinary())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil || m.public == nil {
			return
		}
		for _, resigned := range []bool{false, true} {
			if resigned {
				a := m.public.content()
				if err := a.sign(g.suite, keys[a.framed.sender.Type], &g.context); err != nil {
					t.Fatal(err)
				}
				m.public.auth.signature = a.auth.signature
				if a.framed.sender.Type == SenderMember {
					m.public.membershipTag = membershipMAC(g.suite, g.secrets.membership, a, &g.context)
				}
			}
			sent := encode(m)
			victim := h.Clone()
			_, err := victim.Process(m, testNow)
			if !bytes.Equal(sent, encode(m)) {
				t.Fatal("message was changed")
			}
			if err == nil {
				continue
			}
			if after, merr := victim.MarshalBinary(); merr != nil || !bytes.Equal(after, state) {
				t.Fatalf("refused message changed the group: %v, %v", err, merr)
			}
		}
	})
}

// FuzzProcessRaw feeds a group with mutated bytes of valid messages, as whoever
// has no keys can.
func FuzzProcessRaw(f *testing.F) {
	w := newWorld(f, 4, 4)
	w.acceptExternal()
	g, h := w.members[1], w.members[2]
	record := must[*ArchiveRecord](f)(h.Archive())
	var good [][]byte
	for _, m := range []*Message{
		must[*Message](f)(g.Clone().Protect([]byte("text"), ProtectOptions{})),
		must[*PendingCommit](f)(g.Commit(CommitOptions{})).Commit,
		must[*PendingCommit](f)(g.Commit(CommitOptions{Public: true})).Commit,
		must[*Message](f)(g.Clone().Propose(&Remove{Removed: 3}, ProposeOptions{})),
		must[*Message](f)(g.Clone().Propose(&Remove{Removed: 3}, ProposeOptions{Public: true})),
	} {
		f.Add(encode(m))
		good = append(good, encode(m))
	}
	state := must[[]byte](f)(h.MarshalBinary())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMessage(b)
		if err != nil {
			return
		}
		valid := false
		for _, g := range good {
			valid = valid || bytes.Equal(g, b)
		}
		victim := h.Clone()
		if _, err := victim.Process(m, testNow); err == nil && !valid {
			t.Fatal("changed message was accepted")
		} else if err != nil {
			if after, merr := victim.MarshalBinary(); merr != nil || !bytes.Equal(after, state) {
				t.Fatalf("refused message changed the group: %v, %v", err, merr)
			}
		}
		if _, err := record.Open(m); err == nil && !valid {
			t.Fatal("changed message was opened")
		}
	})
}
