package mls

import (
	"bytes"
	"testing"
)

// joinAgain seals and signs a changed Welcome so that mutations get past the
// cryptography.
type joinAgain struct {
	w       *world
	welcome *Message
	info    *groupInfo
	secrets *groupSecrets
	joiner  *KeyPackageSecrets
}

func newJoinAgain(f *testing.F) *joinAgain {
	j := &joinAgain{w: newWorld(f, 5, 4)}
	j.welcome, j.joiner = j.w.invite(1, false, func(v *invitation) { j.info, j.secrets = v.info, v.secrets })
	return j
}

func (j *joinAgain) seal(t *testing.T, info, secrets []byte) *Message {
	t.Helper()
	g := j.w.members[1]
	k, err := welcomeKey(g.suite, j.secrets.joinerSecret, make([]byte, g.suite.Nh))
	if err != nil {
		t.Fatal(err)
	}
	wl := &welcome{suite: g.context.suite}
	if wl.encryptedGroupInfo, err = g.suite.AEADSeal(k.key, k.nonce, nil, info); err != nil {
		t.Fatal(err)
	}
	e := encryptedGroupSecrets{newMember: j.joiner.Ref()}
	e.ciphertext.kemOutput, e.ciphertext.ciphertext, err = g.suite.Encrypt(j.joiner.keyPackage.initKey, "Welcome", wl.encryptedGroupInfo, secrets)
	if err != nil {
		t.Fatal(err)
	}
	wl.secrets = append(wl.secrets, e)
	return &Message{wireFormat: WireWelcome, welcome: wl}
}

// resign makes the signature of a changed GroupInfo right, and its tree hash if
// the tree can be read.
func (j *joinAgain) resign(t *testing.T, info *groupInfo) {
	t.Helper()
	g := j.w.members[1]
	if tree, err := info.ratchetTree(nil); err == nil {
		info.context.treeHash = tree.rootHash(g.suite)
	}
	if err := info.sign(g.suite, g.signature); err != nil {
		t.Fatal(err)
	}
}

const (
	fuzzWelcome byte = iota
	fuzzGroupSecrets
	fuzzGroupInfo
	fuzzTree
)

func FuzzJoinWelcome(f *testing.F) {
	j := newJoinAgain(f)
	f.Add(fuzzWelcome, encode(j.welcome))
	f.Add(fuzzGroupSecrets, encode(j.secrets))
	f.Add(fuzzGroupInfo, encode(j.info))
	tree, _ := findExtension(j.info.extensions, ExtensionRatchetTree)
	f.Add(fuzzTree, tree)
	linked := *j.secrets
	linked.psks = []PreSharedKeyID{{Type: PSKResumption, Usage: ResumptionBranch, GroupID: j.w.members[0].ID(), Epoch: j.w.members[0].Epoch(), Nonce: make([]byte, 32)}}
	f.Add(fuzzGroupSecrets, encode(&linked))
	keep := encode(j.joiner.keyPackage)
	f.Fuzz(func(t *testing.T, part byte, b []byte) {
		before := bytes.Clone(b)
		var m *Message
		switch part {
		case fuzzWelcome:
			var err error
			if m, err = ParseMessage(b); err != nil {
				return
			}
		case fuzzGroupSecrets:
			m = j.seal(t, encode(j.info), b)
		case fuzzGroupInfo:
			info := new(groupInfo)
			if decode(bytes.Clone(b), info) == nil {
				j.resign(t, info)
				m = j.seal(t, encode(info), encode(j.secrets))
			} else {
				m = j.seal(t, b, encode(j.secrets))
			}
		case fuzzTree:
			info := *j.info
			info.extensions = []Extension{{Type: ExtensionRatchetTree, Data: b}}
			j.resign(t, &info)
			m = j.seal(t, encode(&info), encode(j.secrets))
		default:
			return
		}
		sent := encode(m)
		g, err := JoinWelcome(m, JoinOptions{Secrets: j.joiner, Validate: acceptNamed, Predecessor: j.w.members[0]})
		if !bytes.Equal(before, b) || !bytes.Equal(sent, encode(m)) || !bytes.Equal(keep, encode(j.joiner.keyPackage)) {
			t.Fatal("input was changed")
		}
		if err != nil {
			return
		}
		// Whoever joins is where the others are, or the Welcome was changed in
		// what does not matter.
		if !bytes.Equal(g.context.treeHash, j.info.context.treeHash) || g.context.epoch != j.info.context.epoch {
			t.Fatalf("joined another state: epoch %d", g.context.epoch)
		}
	})
}

func FuzzJoinExternal(f *testing.F) {
	j := newJoinAgain(f)
	info := must[*groupInfo](f)(j.w.members[1].groupInfo(true, true))
	f.Add(encode(info))
	key := newKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		info := new(groupInfo)
		if decode(bytes.Clone(b), info) != nil {
			return
		}
		if !bytes.Equal(encode(info), b) {
			t.Fatal("group info changes when it is decoded and encoded")
		}
		j.resign(t, info)
		_, err := JoinExternal(ExternalJoinOptions{
			GroupInfo:  &Message{wireFormat: WireGroupInfo, groupInfo: info},
			Credential: NewBasicCredential([]byte("outsider")), SignatureKey: key, Validate: acceptNamed,
		})
		_ = err // any verdict is fine, a panic is not
	})
}
