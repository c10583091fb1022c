package mls

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// decoders are all structures that are decoded on their own or inside others.
func decoders() map[string]func() interface {
	marshaler
	unmarshaler
} {
	type both = interface {
		marshaler
		unmarshaler
	}
	return map[string]func() both{
		"add": func() both { return new(Add) }, "update": func() both { return new(Update) },
		"remove": func() both { return new(Remove) }, "pre_shared_key": func() both { return new(PreSharedKey) },
		"re_init": func() both { return new(ReInit) }, "external_init": func() both { return new(ExternalInit) },
		"group_context_extensions": func() both { return new(GroupContextExtensions) },
		"proposal_or_ref":          func() both { return new(proposalOrRef) },
		"commit":                   func() both { return new(commit) }, "update_path": func() both { return new(updatePath) },
		"leaf_node": func() both { return new(leafNode) }, "parent_node": func() both { return new(parentNode) },
		"credential": func() both { return new(Credential) }, "capabilities": func() both { return new(Capabilities) },
		"group_context": func() both { return new(groupContext) }, "group_info": func() both { return new(groupInfo) },
		"group_secrets": func() both { return new(groupSecrets) }, "welcome": func() both { return new(welcome) },
		"sender_data": func() both { return new(senderData) }, "sender": func() both { return new(Sender) },
		"authenticated_content": func() both { return new(authenticatedContent) },
		"public_message":        func() both { return new(publicMessage) }, "private_message": func() both { return new(privateMessage) },
		"key_package": func() both { return new(KeyPackage) }, "psk_id": func() both { return new(PreSharedKeyID) },
		"ratchet": func() both { return new(ratchet) }, "ratchet_tree": func() both { return new(ratchetTree) },
	}
}

// FuzzDecode reads the same bytes as each structure. What can be read is
// written as it was.
func FuzzDecode(f *testing.F) {
	w := newWorld(f, 4, 3)
	g := w.members[0]
	kp, _ := newKeyPackage(f, "fuzz")
	p := must[*PendingCommit](f)(g.Commit(CommitOptions{Public: true, Add: []*KeyPackage{kp}, Now: testNow}))
	info := must[*groupInfo](f)(g.groupInfo(true, true))
	content := p.Commit.public.content()
	for _, m := range []marshaler{
		p.Commit.public, content, content.framed.content.commit, content.framed.content.commit.path, p.Welcome.welcome, info,
		&g.context, kp, &kp.leaf, &kp.leaf.credential, &kp.leaf.capabilities, g.tree.parent(g.tree.root()), g.tree,
		&senderData{leaf: 1}, &ReInit{Version: MLS10}, &ExternalInit{KEMOutput: []byte{1}}, &GroupContextExtensions{},
		&PreSharedKeyID{Type: PSKResumption, Usage: ResumptionBranch, Nonce: []byte{1}}, &ratchet{secret: []byte{1}},
		&groupSecrets{joinerSecret: []byte{1}, pathSecret: []byte{2}},
	} {
		f.Add(encode(m))
	}
	list := decoders()
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		for name, create := range list {
			u := create()
			if decode(b, u) == nil && !bytes.Equal(encode(u), b) {
				t.Errorf("%s changes when it is decoded and encoded", name)
			}
		}
		_ = decode(b, new(requiredCapabilities))
		_, _ = parseExternalSenders(b)
		new(secretTree).unmarshal(codec.NewReader(b))
		if !bytes.Equal(before, b) {
			t.Fatal("input was changed")
		}
	})
}

func FuzzCertificateKey(f *testing.F) {
	for _, cs := range []CipherSuite{1, 2} {
		public := must[[]byte](f)(newKeyOf(f, cs).PublicKey(cs))
		if cs == 1 {
			f.Add(certified(f, "x", public).Certificates[0])
		}
		f.Add(public)
	}
	f.Add(newAuthority(f).root.Raw)
	s, _ := testSuite.suite()
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, key, err := certificateKey(b)
		c := NewX509Credential([][]byte{b})
		if err != nil && c.bound(s, nil) == nil {
			t.Fatal("malformed certificate is bound to a key")
		}
		if err == nil && len(key) > len(b) {
			t.Fatalf("key of %d bytes from %d", len(key), len(b))
		}
	})
}

// Lengths that the input does not hold cost nothing, whatever they claim.
func TestHostileLengthsCostLittle(t *testing.T) {
	const most = 64 << 10
	prefixes := [][]byte{{}, {0, 1}, {0, 1, 0, 1}, {0, 1, 0, 2}, {0, 1, 0, 3, 0, 1}, {0, 1, 0, 4, 0, 1, 0, 1}, {0, 1, 0, 5, 0, 1, 0, 1}, {1}, {1, 1}, {0, 1, 1}}
	lengths := [][]byte{{0x80, 0xff, 0xff, 0xff}, {0xbf, 0xff, 0xff, 0xff}, {0x7f, 0xff}, {0xff, 0xff, 0xff, 0xff}}
	list := decoders()
	list["message"] = func() interface {
		marshaler
		unmarshaler
	} {
		return new(Message)
	}
	for name, create := range list {
		for _, prefix := range prefixes {
			for _, length := range lengths {
				b := slices.Concat(prefix, length, []byte{1, 2, 3})
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := decode(b, create())
				runtime.ReadMemStats(&after)
				if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
					t.Errorf("%s: %x costs %d bytes", name, b, cost)
				}
				if err == nil && len(prefix) == 0 {
					t.Errorf("%s: %x was read", name, b)
				}
			}
		}
	}
	for name, read := range map[string]func([]byte) error{
		"group":   func(b []byte) error { _, err := UnmarshalGroup(b, newKey(t), acceptNamed); return err },
		"record":  func(b []byte) error { _, err := ParseArchiveRecord(b); return err },
		"secrets": func(b []byte) error { _, err := ParseKeyPackageSecrets(b); return err },
	} {
		for _, length := range lengths {
			b := slices.Concat([]byte{0, 1, 0, 1, 0, 1}, length, []byte{1})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := read(b)
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; err == nil || cost > most {
				t.Errorf("%s: %x: %v, %d bytes", name, b, err, cost)
			}
		}
	}
	// A list of very many empty things is bounded by its own limit.
	many := encode(&opaque{make([]byte, 1<<20)})
	for _, name := range []string{"ratchet_tree", "commit", "capabilities", "group_context_extensions"} {
		if err := decode(many, list[name]()); err == nil {
			t.Errorf("%s of a million zeros was read: %v", name, fmt.Sprint(err))
		}
	}
}
