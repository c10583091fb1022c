package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

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
