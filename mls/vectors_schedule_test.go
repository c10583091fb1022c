package mls

import (
	"testing"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

func TestVectorsKeySchedule(t *testing.T) {
	type vector struct {
		Suite   CipherSuite `json:"cipher_suite"`
		GroupID hexBytes    `json:"group_id"`
		Init    hexBytes    `json:"initial_init_secret"`
		Epochs  []struct {
			TreeHash       hexBytes `json:"tree_hash"`
			CommitSecret   hexBytes `json:"commit_secret"`
			PSKSecret      hexBytes `json:"psk_secret"`
			TranscriptHash hexBytes `json:"confirmed_transcript_hash"`
			GroupContext   hexBytes `json:"group_context"`
			Joiner         hexBytes `json:"joiner_secret"`
			Welcome        hexBytes `json:"welcome_secret"`
			Init           hexBytes `json:"init_secret"`
			SenderData     hexBytes `json:"sender_data_secret"`
			Encryption     hexBytes `json:"encryption_secret"`
			Exporter       hexBytes `json:"exporter_secret"`
			Authenticator  hexBytes `json:"epoch_authenticator"`
			External       hexBytes `json:"external_secret"`
			Confirmation   hexBytes `json:"confirmation_key"`
			Membership     hexBytes `json:"membership_key"`
			Resumption     hexBytes `json:"resumption_psk"`
			ExternalPub    hexBytes `json:"external_pub"`
			Export         struct {
				Label           string
				Context, Secret hexBytes
				Length          int
			} `json:"exporter"`
		}
	}
	count := countVectors("key-schedule.json")
	for _, v := range loadVectors[vector](t, "key-schedule.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		initSecret := []byte(v.Init)
		for i, e := range v.Epochs {
			ctx := &groupContext{
				suite: v.Suite, groupID: GroupID(v.GroupID), epoch: Epoch(i),
				treeHash: e.TreeHash, transcriptHash: e.TranscriptHash,
			}
			wantEqual(t, "group_context", encode(ctx), e.GroupContext)
			joiner, err := joinerSecret(s, initSecret, e.CommitSecret, ctx)
			noError(t, err)
			wantEqual(t, "joiner_secret", joiner, e.Joiner)
			welcome, err := welcomeSecret(s, joiner, e.PSKSecret)
			noError(t, err)
			wantEqual(t, "welcome_secret", welcome, e.Welcome)
			epoch, err := newEpoch(s, joiner, e.PSKSecret, ctx)
			noError(t, err)
			for _, f := range []struct {
				name      string
				got, want []byte
			}{
				{"init_secret", epoch.init, e.Init},
				{"sender_data_secret", epoch.senderData, e.SenderData},
				{"encryption_secret", epoch.encryption, e.Encryption},
				{"exporter_secret", epoch.exporter, e.Exporter},
				{"epoch_authenticator", epoch.authenticator, e.Authenticator},
				{"external_secret", epoch.external, e.External},
				{"confirmation_key", epoch.confirmation, e.Confirmation},
				{"membership_key", epoch.membership, e.Membership},
				{"resumption_psk", epoch.resumption, e.Resumption},
			} {
				wantEqual(t, f.name, f.got, f.want)
			}
			_, public, err := s.DeriveKeyPair(epoch.external)
			noError(t, err)
			wantEqual(t, "external_pub", public, e.ExternalPub)
			g := &Group{suite: s, secrets: *epoch}
			secret, err := g.Export(e.Export.Label, e.Export.Context, e.Export.Length)
			noError(t, err)
			wantEqual(t, "exporter", secret, e.Export.Secret)
			initSecret = epoch.init
		}
	}
	count.report(t)
}

func TestVectorsPSKSecret(t *testing.T) {
	type vector struct {
		Suite CipherSuite `json:"cipher_suite"`
		PSKs  []struct {
			ID    hexBytes `json:"psk_id"`
			PSK   hexBytes `json:"psk"`
			Nonce hexBytes `json:"psk_nonce"`
		} `json:"psks"`
		Secret hexBytes `json:"psk_secret"`
	}
	count := countVectors("psk_secret.json")
	for _, v := range loadVectors[vector](t, "psk_secret.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		var ids []PreSharedKeyID
		var keys [][]byte
		for _, p := range v.PSKs {
			ids = append(ids, PreSharedKeyID{Type: PSKExternal, ID: p.ID, Nonce: p.Nonce})
			keys = append(keys, p.PSK)
		}
		secret, err := pskSecret(s, ids, keys)
		noError(t, err)
		wantEqual(t, "psk_secret", secret, v.Secret)
	}
	count.report(t)
}

func TestVectorsTranscriptHashes(t *testing.T) {
	type vector struct {
		Suite         CipherSuite `json:"cipher_suite"`
		Confirmation  hexBytes    `json:"confirmation_key"`
		Content       hexBytes    `json:"authenticated_content"`
		InterimBefore hexBytes    `json:"interim_transcript_hash_before"`
		Confirmed     hexBytes    `json:"confirmed_transcript_hash_after"`
		Interim       hexBytes    `json:"interim_transcript_hash_after"`
	}
	count := countVectors("transcript-hashes.json")
	for _, v := range loadVectors[vector](t, "transcript-hashes.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		a := new(authenticatedContent)
		noError(t, decode(v.Content, a))
		if a.framed.contentType != ContentCommit {
			t.Fatalf("content type %d is not a commit", a.framed.contentType)
		}
		confirmed := confirmedTranscriptHash(s, v.InterimBefore, a)
		wantEqual(t, "confirmed", confirmed, v.Confirmed)
		wantEqual(t, "interim", interimTranscriptHash(s, confirmed, a.auth.confirmationTag), v.Interim)
		if !s.VerifyMAC(v.Confirmation, confirmed, a.auth.confirmationTag) {
			t.Error("confirmation tag does not verify")
		}
	}
	count.report(t)
}

func TestVectorsMessageProtection(t *testing.T) {
	type vector struct {
		Suite          CipherSuite `json:"cipher_suite"`
		GroupID        hexBytes    `json:"group_id"`
		Epoch          Epoch       `json:"epoch"`
		TreeHash       hexBytes    `json:"tree_hash"`
		TranscriptHash hexBytes    `json:"confirmed_transcript_hash"`
		Priv           hexBytes    `json:"signature_priv"`
		Pub            hexBytes    `json:"signature_pub"`
		Encryption     hexBytes    `json:"encryption_secret"`
		SenderData     hexBytes    `json:"sender_data_secret"`
		Membership     hexBytes    `json:"membership_key"`

		Proposal        hexBytes `json:"proposal"`
		ProposalPub     hexBytes `json:"proposal_pub"`
		ProposalPriv    hexBytes `json:"proposal_priv"`
		Commit          hexBytes `json:"commit"`
		CommitPub       hexBytes `json:"commit_pub"`
		CommitPriv      hexBytes `json:"commit_priv"`
		Application     hexBytes `json:"application"`
		ApplicationPriv hexBytes `json:"application_priv"`
	}
	count := countVectors("message-protection.json")
	for _, v := range loadVectors[vector](t, "message-protection.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		// A group of two members whose second one sends.
		g := func() *Group {
			tree := newRatchetTree(2)
			tree.setLeaf(0, &leafNode{})
			tree.setLeaf(1, &leafNode{signatureKey: v.Pub})
			return &Group{
				suite: s,
				context: groupContext{
					suite: v.Suite, groupID: GroupID(v.GroupID), epoch: v.Epoch,
					treeHash: v.TreeHash, transcriptHash: v.TranscriptHash,
				},
				tree:      tree,
				own:       1,
				signature: SignaturePrivateKey(v.Priv),
				secrets:   epochSecrets{senderData: v.SenderData, membership: v.Membership},
				keys:      newSecretTree(v.Encryption, 2),
			}
		}
		raw := func(a *authenticatedContent) []byte {
			switch a.framed.contentType {
			case ContentApplication:
				return a.framed.content.application
			case ContentProposal:
				r := new(proposalOrRef)
				r.proposal = a.framed.content.proposal
				return encode(r)[1:]
			default:
				return encode(a.framed.content.commit)
			}
		}
		open := func(what string, b, want []byte) *authenticatedContent {
			t.Helper()
			m := must[*Message](t)(ParseMessage(b))
			a, _, err := g().unprotect(m)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			wantEqual(t, what, raw(a), want)
			return a
		}
		seal := func(what string, a *authenticatedContent, want []byte) {
			t.Helper()
			again := *a
			again.wireFormat = WirePrivateMessage
			noError(t, again.sign(s, SignaturePrivateKey(v.Priv), &g().context))
			p, _, err := g().sealOwn(&again, nil, nil, func(n int) int { return n + 7 })
			noError(t, err)
			open(what+" sealed again", encode(&Message{wireFormat: WirePrivateMessage, private: p}), want)

			again.wireFormat = WirePublicMessage
			noError(t, again.sign(s, SignaturePrivateKey(v.Priv), &g().context))
			public, err := sealPublic(s, v.Membership, &again, &g().context)
			if a.framed.contentType == ContentApplication {
				if err == nil {
					t.Error("application message was sealed as public message")
				}
				return
			}
			noError(t, err)
			open(what+" sealed in public", encode(&Message{wireFormat: WirePublicMessage, public: public}), want)
		}
		open("proposal_pub", v.ProposalPub, v.Proposal)
		seal("proposal", open("proposal_priv", v.ProposalPriv, v.Proposal), v.Proposal)
		open("commit_pub", v.CommitPub, v.Commit)
		seal("commit", open("commit_priv", v.CommitPriv, v.Commit), v.Commit)
		seal("application", open("application_priv", v.ApplicationPriv, v.Application), v.Application)
	}
	count.report(t)
}
