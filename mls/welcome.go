package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// groupInfo is GroupInfo (RFC 9420 section 12.4.3).
type groupInfo struct {
	context         groupContext
	extensions      []Extension
	confirmationTag []byte
	signer          LeafIndex
	signature       []byte
}

func (g *groupInfo) tbs() []byte {
	var w codec.Writer
	g.context.marshal(&w)
	writeExtensions(&w, g.extensions)
	w.Opaque(g.confirmationTag)
	w.Uint32(uint32(g.signer))
	return w.Bytes()
}

func (g *groupInfo) marshal(w *codec.Writer) {
	w.Raw(g.tbs())
	w.Opaque(g.signature)
}

func (g *groupInfo) unmarshal(r *codec.Reader) {
	g.context.unmarshal(r)
	g.extensions = readExtensions(r)
	g.confirmationTag = r.OpaqueMax(maxHash)
	g.signer = LeafIndex(r.Uint32())
	g.signature = r.OpaqueMax(maxKey)
}

// groupSecrets is GroupSecrets (RFC 9420 section 12.4.3.1).
type groupSecrets struct {
	joinerSecret []byte
	pathSecret   []byte // nil if absent
	psks         []PreSharedKeyID
}

func (g *groupSecrets) marshal(w *codec.Writer) {
	w.Opaque(g.joinerSecret)
	w.Optional(g.pathSecret != nil, func() { w.Opaque(g.pathSecret) })
	w.Vector(func() {
		for i := range g.psks {
			g.psks[i].marshal(w)
		}
	})
}

func (g *groupSecrets) unmarshal(r *codec.Reader) {
	g.joinerSecret = r.OpaqueMax(maxHash)
	r.Optional(func(r *codec.Reader) { g.pathSecret = r.OpaqueMax(maxHash) })
	r.Vector(maxPSKs, func(r *codec.Reader) {
		var id PreSharedKeyID
		id.unmarshal(r)
		g.psks = append(g.psks, id)
	})
}

// encryptedGroupSecrets is EncryptedGroupSecrets (RFC 9420 section 12.4.3.1).
type encryptedGroupSecrets struct {
	newMember  KeyPackageRef
	ciphertext hpkeCiphertext
}

// welcome is Welcome (RFC 9420 section 12.4.3.1).
type welcome struct {
	suite              CipherSuite
	secrets            []encryptedGroupSecrets
	encryptedGroupInfo []byte
}

func (wl *welcome) marshal(w *codec.Writer) {
	w.Uint16(uint16(wl.suite))
	w.Vector(func() {
		for i := range wl.secrets {
			w.Opaque([]byte(wl.secrets[i].newMember))
			wl.secrets[i].ciphertext.marshal(w)
		}
	})
	w.Opaque(wl.encryptedGroupInfo)
}

func (wl *welcome) unmarshal(r *codec.Reader) {
	wl.suite = CipherSuite(r.Uint16())
	r.Vector(MaxLeaves, func(r *codec.Reader) {
		s := encryptedGroupSecrets{newMember: KeyPackageRef(r.OpaqueMax(maxHash))}
		s.ciphertext.unmarshal(r)
		wl.secrets = append(wl.secrets, s)
	})
	wl.encryptedGroupInfo = r.Opaque()
}

// sign signs a GroupInfo.
func (g *groupInfo) sign(s *labeled.Suite, sig SignaturePrivateKey) (err error) {
	g.signature, err = s.Sign(sig, "GroupInfoTBS", g.tbs())
	return err
}

// verify checks the signature of a GroupInfo.
func (g *groupInfo) verify(s *labeled.Suite, key []byte) error {
	if err := s.Verify(key, "GroupInfoTBS", g.tbs(), g.signature); err != nil {
		return invalidBecause("12.4.3", "group info signature", err)
	}
	return nil
}

// groupInfo describes the current epoch. tree adds the tree, external the key
// that external Commits need.
func (g *Group) groupInfo(tree, external bool) (*groupInfo, error) {
	info := &groupInfo{context: g.context, confirmationTag: g.confirmationTag, signer: g.own}
	if tree {
		info.extensions = append(info.extensions, Extension{Type: ExtensionRatchetTree, Data: encode(g.tree)})
	}
	info.extensions = append(info.extensions, Extension{Type: ExtensionType(grease()), Data: []byte{}})
	if external {
		_, public, err := g.suite.DeriveKeyPair(g.secrets.external)
		if err != nil {
			return nil, err
		}
		var w codec.Writer
		w.Opaque(public)
		info.extensions = append(info.extensions, Extension{Type: ExtensionExternalPub, Data: w.Bytes()})
	}
	return info, info.sign(g.suite, g.signature)
}

// welcomeKey derives the key that the GroupInfo is encrypted under.
func welcomeKey(s *labeled.Suite, joiner, psk []byte) (k messageKey, err error) {
	secret, err := welcomeSecret(s, joiner, psk)
	if err != nil {
		return k, err
	}
	if k.nonce, err = s.ExpandWithLabel(secret, "nonce", nil, s.Nn); err != nil {
		return k, err
	}
	k.key, err = s.ExpandWithLabel(secret, "key", nil, s.Nk)
	return k, err
}

// welcome makes one Welcome for all that join (RFC 9420 section 12.4.3.1).
// path is nil if the Commit has none.
func (e *epochStart) welcome(t *transition, path *newPath, tree bool) (*Message, error) {
	s := e.group.suite
	info, err := e.group.groupInfo(tree, false)
	if err != nil {
		return nil, err
	}
	k, err := welcomeKey(s, e.joiner, e.psk)
	if err != nil {
		return nil, err
	}
	w := &welcome{suite: e.group.context.suite}
	if w.encryptedGroupInfo, err = s.AEADSeal(k.key, k.nonce, nil, encode(info)); err != nil {
		return nil, err
	}
	encryption := s.Encryption("Welcome", w.encryptedGroupInfo)
	w.secrets = make([]encryptedGroupSecrets, len(t.joined))
	err = t.workers.each(len(t.joined), func(i int) (err error) {
		add, entry := t.joined[i], &w.secrets[i]
		secrets := &groupSecrets{joinerSecret: e.joiner, psks: e.psks}
		if path != nil {
			secrets.pathSecret = path.secretFor(e.group.own, t.joining[i])
		}
		entry.newMember = add.KeyPackage.Ref()
		entry.ciphertext.kemOutput, entry.ciphertext.ciphertext, err =
			encryption.To(add.KeyPackage.initKey, encode(secrets))
		return err
	})
	if err != nil {
		return nil, err
	}
	if n := w.size(); n > MaxMessage {
		return nil, fmt.Errorf("welcome of %d bytes, at most %d are allowed: add fewer members at once, or leave the tree out", n, MaxMessage)
	}
	return &Message{wireFormat: WireWelcome, welcome: w}, nil
}

// size is an upper bound of the encoded size.
func (wl *welcome) size() int {
	n := 16 + len(wl.encryptedGroupInfo)
	for i := range wl.secrets {
		s := &wl.secrets[i]
		n += 12 + len(s.newMember) + len(s.ciphertext.kemOutput) + len(s.ciphertext.ciphertext)
	}
	return n
}

// secretFor returns the path secret of the lowest node that is above both the
// committer and a new member.
func (p *newPath) secretFor(committer, joiner LeafIndex) []byte {
	ancestor := treemath.CommonAncestor(committer.node(), joiner.node())
	for i, n := range p.path {
		if n.node == ancestor {
			return p.secrets[i]
		}
	}
	return nil // cannot be: the joiner is below the copath child of ancestor
}
