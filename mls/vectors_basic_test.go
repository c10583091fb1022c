package mls

import (
	"testing"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

func TestVectorsDeserialization(t *testing.T) {
	type vector struct {
		Header hexBytes `json:"vlbytes_header"`
		Length int      `json:"length"`
	}
	count := countVectors("deserialization.json")
	for _, v := range loadVectors[vector](t, "deserialization.json") {
		count.supported(allSuites)
		r := codec.NewReader(v.Header)
		n := r.Length()
		noError(t, r.Finish())
		if n != v.Length {
			t.Errorf("%x: got %d, want %d", v.Header, n, v.Length)
		}
	}
	count.report(t)
}

func TestVectorsTreeMath(t *testing.T) {
	type vector struct {
		Leaves  uint32    `json:"n_leaves"`
		Nodes   uint32    `json:"n_nodes"`
		Root    uint32    `json:"root"`
		Left    []*uint32 `json:"left"`
		Right   []*uint32 `json:"right"`
		Parent  []*uint32 `json:"parent"`
		Sibling []*uint32 `json:"sibling"`
	}
	count := countVectors("tree-math.json")
	for _, v := range loadVectors[vector](t, "tree-math.json") {
		count.supported(allSuites)
		if got := treemath.Width(v.Leaves); got != v.Nodes {
			t.Errorf("width of %d: got %d, want %d", v.Leaves, got, v.Nodes)
		}
		if got := treemath.Root(v.Leaves); got != node(v.Root) {
			t.Errorf("root of %d: got %d, want %d", v.Leaves, got, v.Root)
		}
		check := func(what string, i int, got node, ok bool, want *uint32) {
			t.Helper()
			if ok != (want != nil) || ok && got != node(*want) {
				t.Errorf("%s of %d in %d leaves: got %d %v, want %v", what, i, v.Leaves, got, ok, want)
			}
		}
		for i := range int(v.Nodes) {
			x := node(i)
			got, ok := x.Left()
			check("left", i, got, ok, v.Left[i])
			got, ok = x.Right()
			check("right", i, got, ok, v.Right[i])
			got, ok = x.Parent(v.Leaves)
			check("parent", i, got, ok, v.Parent[i])
			got, ok = x.Sibling(v.Leaves)
			check("sibling", i, got, ok, v.Sibling[i])
		}
	}
	count.report(t)
}

func TestVectorsCryptoBasics(t *testing.T) {
	type vector struct {
		Suite   CipherSuite `json:"cipher_suite"`
		RefHash struct {
			Label      string
			Value, Out hexBytes
		} `json:"ref_hash"`
		Expand struct {
			Secret, Context, Out hexBytes
			Label                string
			Length               int
		} `json:"expand_with_label"`
		Derive struct {
			Secret, Out hexBytes
			Label       string
		} `json:"derive_secret"`
		DeriveTree struct {
			Secret, Out hexBytes
			Label       string
			Generation  uint32
			Length      int
		} `json:"derive_tree_secret"`
		Sign struct {
			Priv, Pub, Content, Signature hexBytes
			Label                         string
		} `json:"sign_with_label"`
		Encrypt struct {
			Priv, Pub, Context, Plaintext, Ciphertext hexBytes
			KEMOutput                                 hexBytes `json:"kem_output"`
			Label                                     string
		} `json:"encrypt_with_label"`
	}
	count := countVectors("crypto-basics.json")
	for _, v := range loadVectors[vector](t, "crypto-basics.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		wantEqual(t, "ref_hash", s.RefHash(v.RefHash.Label, v.RefHash.Value), v.RefHash.Out)
		out, err := s.ExpandWithLabel(v.Expand.Secret, v.Expand.Label, v.Expand.Context, v.Expand.Length)
		noError(t, err)
		wantEqual(t, "expand_with_label", out, v.Expand.Out)
		out, err = s.DeriveSecret(v.Derive.Secret, v.Derive.Label)
		noError(t, err)
		wantEqual(t, "derive_secret", out, v.Derive.Out)
		out, err = s.DeriveTreeSecret(v.DeriveTree.Secret, v.DeriveTree.Label, v.DeriveTree.Generation, v.DeriveTree.Length)
		noError(t, err)
		wantEqual(t, "derive_tree_secret", out, v.DeriveTree.Out)

		noError(t, s.Verify(v.Sign.Pub, v.Sign.Label, v.Sign.Content, v.Sign.Signature))
		signature, err := s.Sign(SignaturePrivateKey(v.Sign.Priv), v.Sign.Label, v.Sign.Content)
		noError(t, err)
		noError(t, s.Verify(v.Sign.Pub, v.Sign.Label, v.Sign.Content, signature))

		e := v.Encrypt
		out, err = s.Decrypt(e.Priv, e.Pub, e.Label, e.Context, e.KEMOutput, e.Ciphertext)
		noError(t, err)
		wantEqual(t, "decrypt_with_label", out, e.Plaintext)
		kemOutput, ciphertext, err := s.Encrypt(e.Pub, e.Label, e.Context, e.Plaintext)
		noError(t, err)
		out, err = s.Decrypt(e.Priv, e.Pub, e.Label, e.Context, kemOutput, ciphertext)
		noError(t, err)
		wantEqual(t, "encrypt_with_label", out, e.Plaintext)
	}
	count.report(t)
}

func TestVectorsMessages(t *testing.T) {
	list := loadVectors[map[string]hexBytes](t, "messages.json")
	structs := map[string]func() interface {
		marshaler
		unmarshaler
	}{}
	type both = interface {
		marshaler
		unmarshaler
	}
	for _, name := range []string{
		"mls_welcome", "mls_group_info", "mls_key_package", "public_message_application",
		"public_message_proposal", "public_message_commit", "private_message",
	} {
		structs[name] = func() both { return new(Message) }
	}
	structs["ratchet_tree"] = func() both { return new(ratchetTree) }
	structs["group_secrets"] = func() both { return new(groupSecrets) }
	structs["add_proposal"] = func() both { return new(Add) }
	structs["update_proposal"] = func() both { return new(Update) }
	structs["remove_proposal"] = func() both { return new(Remove) }
	structs["pre_shared_key_proposal"] = func() both { return new(PreSharedKey) }
	structs["re_init_proposal"] = func() both { return new(ReInit) }
	structs["external_init_proposal"] = func() both { return new(ExternalInit) }
	structs["group_context_extensions_proposal"] = func() both { return new(GroupContextExtensions) }
	structs["commit"] = func() both { return new(commit) }
	count := countVectors("messages.json")
	for i, v := range list {
		count.supported(allSuites)
		if len(v) != len(structs) {
			t.Fatalf("vector %d has %d fields, want %d", i, len(v), len(structs))
		}
		for name, b := range v {
			u := structs[name]()
			if err := decode(b, u); err != nil {
				t.Errorf("vector %d: %s: %v", i, name, err)
				continue
			}
			wantEqual(t, name, encode(u), b)
			if c, ok := u.(*commit); ok {
				wantEqual(t, name+" by its fields", encode(byFields(c)), b)
			}
		}
	}
	count.report(t)
}

func TestVectorsSecretTree(t *testing.T) {
	type vector struct {
		Suite      CipherSuite `json:"cipher_suite"`
		SenderData struct {
			Secret                 hexBytes `json:"sender_data_secret"`
			Ciphertext, Key, Nonce hexBytes
		} `json:"sender_data"`
		Encryption hexBytes `json:"encryption_secret"`
		Leaves     [][]struct {
			Generation       uint32
			HandshakeKey     hexBytes `json:"handshake_key"`
			HandshakeNonce   hexBytes `json:"handshake_nonce"`
			ApplicationKey   hexBytes `json:"application_key"`
			ApplicationNonce hexBytes `json:"application_nonce"`
		}
	}
	count := countVectors("secret-tree.json")
	for _, v := range loadVectors[vector](t, "secret-tree.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		k, err := senderDataKey(s, v.SenderData.Secret, v.SenderData.Ciphertext)
		noError(t, err)
		wantEqual(t, "sender data key", k.key, v.SenderData.Key)
		wantEqual(t, "sender data nonce", k.nonce, v.SenderData.Nonce)
		tree := newSecretTree(v.Encryption, treemath.FullSize(uint32(len(v.Leaves))))
		archive := &ArchiveRecord{suite: s, encryptionSecret: v.Encryption, leaves: tree.leaves}
		for l, generations := range v.Leaves {
			for _, g := range generations {
				use := must[*keyUse](t)(tree.use(s, LeafIndex(l), handshakeRatchet, g.Generation, MaxGenerationJump))
				tree.consume(use)
				wantEqual(t, "handshake key", use.key, g.HandshakeKey)
				wantEqual(t, "handshake nonce", use.nonce, g.HandshakeNonce)
				use = must[*keyUse](t)(tree.use(s, LeafIndex(l), applicationRatchet, g.Generation, MaxGenerationJump))
				tree.consume(use)
				wantEqual(t, "application key", use.key, g.ApplicationKey)
				wantEqual(t, "application nonce", use.nonce, g.ApplicationNonce)
				key := must[messageKey](t)(archive.key(LeafIndex(l), g.Generation))
				wantEqual(t, "archived application key", key.key, g.ApplicationKey)
			}
		}
	}
	count.report(t)
}
