package mls

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// invitation is a Welcome that can be changed before it is sealed.
type invitation struct {
	suite   *labeled.Suite
	maker   *Group // in the new epoch
	info    *groupInfo
	secrets *groupSecrets
	tree    *ratchetTree
	psk     []byte
	ref     KeyPackageRef
	initKey []byte
	joiner  *KeyPackageSecrets
	signer  SignaturePrivateKey
}

// invite lets member i of w add somebody; with change, the Welcome breaks a
// rule. Tree hash and signature are made to fit after it, if refit says so.
func (w *world) invite(i int, refit bool, change func(v *invitation)) (*Message, *KeyPackageSecrets) {
	w.t.Helper()
	g := w.members[i]
	kp, joiner := newKeyPackage(w.t, "joiner")
	list := []listedProposal{{proposal: &Add{KeyPackage: kp}, sender: Sender{Type: SenderMember, Index: uint32(g.own)}}}
	t := must[*transition](w.t)(g.apply(list))
	c := &commit{proposals: listed(list)}
	path := must[*newPath](w.t)(g.makePath(t, c, must[*leafNode](w.t)(g.newLeaf(t, &CommitOptions{}))))
	a := g.commitContent(c, list[0].sender, nil, WirePrivateMessage)
	start, err := g.confirmCommit(t, a, g.signature, g.secrets.init, path.commitSecret)
	if err != nil {
		w.t.Fatal(err)
	}
	v := &invitation{
		suite: g.suite, maker: start.group,
		info:    must[*groupInfo](w.t)(start.group.groupInfo(true, false)),
		secrets: &groupSecrets{joinerSecret: start.joiner, pathSecret: path.secretFor(g.own, t.joining[0])},
		tree:    start.group.tree.clone(), psk: start.psk,
		ref: kp.Ref(), initKey: kp.initKey, joiner: joiner, signer: start.group.signature,
	}
	change(v)
	if refit {
		v.info.context.treeHash = v.tree.rootHash(v.suite)
		for e := range v.info.extensions {
			if v.info.extensions[e].Type == ExtensionRatchetTree {
				v.info.extensions[e].Data = encode(v.tree)
			}
		}
		if err := v.info.sign(v.suite, v.signer); err != nil {
			w.t.Fatal(err)
		}
	}
	k := must[messageKey](w.t)(welcomeKey(v.suite, v.secrets.joinerSecret, v.psk))
	wl := &welcome{suite: g.context.suite}
	wl.encryptedGroupInfo = must[[]byte](w.t)(v.suite.AEADSeal(k.key, k.nonce, nil, encode(v.info)))
	e := encryptedGroupSecrets{newMember: v.ref}
	e.ciphertext.kemOutput, e.ciphertext.ciphertext, err = v.suite.Encrypt(v.initKey, "Welcome", wl.encryptedGroupInfo, encode(v.secrets))
	if err != nil {
		w.t.Fatal(err)
	}
	wl.secrets = append(wl.secrets, e)
	return wire(w.t, &Message{wireFormat: WireWelcome, welcome: wl}), v.joiner
}

// changeLeaf replaces a leaf of the invitation's tree by a changed copy.
func (v *invitation) changeLeaf(l LeafIndex, change func(leaf *leafNode)) {
	c := *v.tree.leaf(l)
	change(&c)
	v.tree.setLeaf(l, &c)
}

// changeParent replaces a parent of the invitation's tree by a changed copy.
func (v *invitation) changeParent(n node, change func(p *parentNode)) {
	c := *v.tree.parent(n)
	change(&c)
	v.tree.setParent(n, &c)
}

func TestHostileWelcomes(t *testing.T) {
	strange := []Extension{{Type: 0xf123, Data: []byte{}}}
	for _, test := range []struct {
		name   string
		reason string
		target error
		refit  bool
		change func(v *invitation)
	}{
		{"other key package", "", ErrWrongKeyPackage, false, func(v *invitation) { _, v.joiner = newKeyPackage(t, "other") }},
		{"encrypted to another key", "group secrets", nil, false, func(v *invitation) { k, _ := newKeyPackage(t, "other"); v.initKey = k.initKey }},
		{"joiner secret length", "joiner secret has the wrong length", nil, false, func(v *invitation) { v.secrets.joinerSecret = v.secrets.joinerSecret[1:] }},
		{"unknown psk", "", ErrMissingPSK, false, func(v *invitation) {
			v.secrets.psks = []PreSharedKeyID{{Type: PSKExternal, Nonce: make([]byte, 32)}}
		}},
		{"psk for reinit", "group that the new one is made from is not given", ErrMissingPSK, false, func(v *invitation) {
			v.secrets.psks = []PreSharedKeyID{{Type: PSKResumption, Usage: ResumptionReInit, Nonce: make([]byte, 32)}}
		}},
		{"group info key", "group info", nil, false, func(v *invitation) { v.psk = bytes.Repeat([]byte{1}, 32) }},
		{"signer blank", "signer of the group info is not a member", nil, true, func(v *invitation) { v.info.signer = 7 }},
		{"signer is another", "group info signature", nil, true, func(v *invitation) { v.info.signer = 0 }},
		{"signature", "group info signature", nil, false, func(v *invitation) { v.info.signature = flip(v.info.signature) }},
		{"signed by a stranger", "group info signature", nil, true, func(v *invitation) { v.signer = newKey(t) }},
		{"tree hash", "tree hash does not match", nil, false, func(v *invitation) {
			v.info.context.treeHash = flip(v.info.context.treeHash)
			_ = v.info.sign(v.suite, v.signer)
		}},
		{"tree missing", "ratchet tree is missing", nil, false, func(v *invitation) { v.info.extensions = nil }},
		{"tree malformed", "ratchet tree is malformed", nil, false, func(v *invitation) { v.info.extensions[0].Data = []byte{1, 7} }},
		{"tree ends with a blank", "ends with a blank node", nil, false, func(v *invitation) { v.info.extensions[0].Data = []byte{1, 0} }},
		{"suite", "cipher suite of the group", nil, true, func(v *invitation) { v.info.context.suite = 2 }},
		{"group extension", "does not support group extension", nil, true, func(v *invitation) { v.info.context.extensions = strange }},
		{"leaf signature", "leaf node signature", nil, true, func(v *invitation) { v.changeLeaf(2, func(l *leafNode) { l.signature = flip(l.signature) }) }},
		{"leaf of another name", "leaf node signature", nil, true, func(v *invitation) {
			v.changeLeaf(2, func(l *leafNode) { l.credential = NewBasicCredential([]byte("boss")) })
		}},
		{"leaf moved", "leaf node signature", nil, true, func(v *invitation) {
			two, three := v.tree.leaf(2), v.tree.leaf(3)
			v.tree.setLeaf(2, three)
			v.tree.setLeaf(3, two)
		}},
		{"leaf twice", "signature", nil, true, func(v *invitation) { v.tree.setLeaf(6, v.tree.leaf(2)) }},
		{"parent key", "not parent-hash valid", nil, true, func(v *invitation) {
			v.changeParent(v.tree.root(), func(p *parentNode) { _, p.encryptionKey, _ = v.suite.GenerateKeyPair() })
		}},
		{"parent key of low order", "no key of the suite", nil, true, func(v *invitation) {
			v.changeParent(v.tree.root(), func(p *parentNode) { p.encryptionKey = lowOrderKey })
		}},
		{"parent hash", "not parent-hash valid", nil, true, func(v *invitation) {
			v.changeParent(1, func(p *parentNode) { p.parentHash = flip(p.parentHash) })
		}},
		{"parent made up", "not parent-hash valid", nil, true, func(v *invitation) {
			_, key, _ := v.suite.GenerateKeyPair()
			v.tree.setParent(9, &parentNode{encryptionKey: key, parentHash: []byte{}})
		}},
		{"unmerged blank", "unmerged leaf is blank", nil, true, func(v *invitation) {
			v.changeParent(v.tree.root(), func(p *parentNode) { p.unmerged = []LeafIndex{7} })
		}},
		{"unmerged elsewhere", "unmerged leaf is blank or not below", nil, true, func(v *invitation) {
			v.changeParent(1, func(p *parentNode) { p.unmerged = []LeafIndex{3} })
		}},
		{"unmerged missing between", "unmerged leaf is missing", nil, true, func(v *invitation) {
			v.changeParent(v.tree.root(), func(p *parentNode) { p.unmerged = []LeafIndex{0} })
		}},
		{"unmerged out of order", "increasing order", nil, true, func(v *invitation) {
			v.changeParent(v.tree.root(), func(p *parentNode) { p.unmerged = []LeafIndex{2, 0} })
		}},
		{"own leaf missing", "own leaf is not in the tree", nil, false, func(v *invitation) {
			// A Welcome to a group to which somebody else was added.
			k, s := newKeyPackage(t, "other")
			v.joiner, v.ref, v.initKey = s, k.Ref(), k.initKey
		}},
		{"path secret", "path secret does not belong", nil, false, func(v *invitation) { v.secrets.pathSecret = flip(v.secrets.pathSecret) }},
		{"path secret length", "path secret has the wrong length", nil, false, func(v *invitation) { v.secrets.pathSecret = v.secrets.pathSecret[:8] }},
		{"confirmation tag", "confirmation tag", nil, true, func(v *invitation) { v.info.confirmationTag = make([]byte, 32) }},
		{"confirmation tag short", "confirmation tag", nil, true, func(v *invitation) { v.info.confirmationTag = v.info.confirmationTag[:16] }},
		{"other transcript", "confirmation tag", nil, true, func(v *invitation) { v.info.context.transcriptHash = flip(v.info.context.transcriptHash) }},
		{"other group", "signature", nil, true, func(v *invitation) { v.info.context.groupID += "x" }},
		{"other epoch", "confirmation tag", nil, true, func(v *invitation) { v.info.context.epoch++ }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 5, 5)
			m, secrets := w.invite(1, test.refit, test.change)
			before := encode(m)
			_, err := JoinWelcome(m, JoinOptions{Secrets: secrets, Validate: acceptNamed})
			if err == nil {
				t.Fatal("welcome was accepted")
			}
			if test.target != nil && !errors.Is(err, test.target) {
				t.Errorf("got error %v, want %v", err, test.target)
			}
			if !strings.Contains(err.Error(), test.reason) {
				t.Errorf("got error %v, want %q", err, test.reason)
			}
			_, parallel := JoinWelcome(m, JoinOptions{Secrets: secrets, Validate: acceptNamed, Parallel: 3})
			if parallel == nil || parallel.Error() != err.Error() {
				t.Errorf("on three goroutines: got error %v, want %v", parallel, err)
			}
			if !bytes.Equal(before, encode(m)) {
				t.Error("welcome was changed")
			}
		})
	}
	t.Run("honest", func(t *testing.T) {
		for _, refit := range []bool{false, true} {
			w := newWorld(t, 5, 5)
			m, secrets := w.invite(1, refit, func(*invitation) {})
			if _, err := JoinWelcome(m, JoinOptions{Secrets: secrets, Validate: acceptNamed}); err != nil {
				t.Error(err)
			}
			refuse := func(c CredentialCheck) error {
				if c.Context == CredentialInJoin && string(c.Credential.Identity) == "member 3" {
					return errors.New("unknown")
				}
				return nil
			}
			if _, err := JoinWelcome(m, JoinOptions{Secrets: secrets, Validate: refuse}); err == nil || !strings.Contains(err.Error(), "credential is not valid") {
				t.Errorf("unknown member: got %v", err)
			}
		}
	})
}
