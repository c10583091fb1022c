package labeled

import (
	"crypto"
	"encoding/binary"
)

// kem is a key encapsulation mechanism of HPKE (RFC 9180 section 4). Keys and
// encapsulations are in their serialized form.
type kem interface {
	// id is the entry of the registry "HPKE KEM Identifiers".
	id() uint16
	generate() (private, public []byte, err error)
	// derive is DeriveKeyPair.
	derive(ikm []byte) (private, public []byte, err error)
	// public fails if private is no key.
	public(private []byte) ([]byte, error)
	// check refuses what is no public key, and keys to which nobody, or not
	// everybody, can encapsulate.
	check(public []byte) error
	encap(public []byte) (enc, shared []byte, err error)
	// decap trusts public to be that of private: if it is not, the shared
	// secret is another.
	decap(private, public, enc []byte) (shared []byte, err error)
}

// hpkeBase is the base mode of HPKE (RFC 9180 section 5) with one KEM, KDF and
// AEAD, for one message a context. The composition is here so that each
// primitive can be of another provider, and because neither provider derives
// keys from a secret whose size is not its own for P-521 and X448.
type hpkeBase struct {
	kem  kem
	kdf  kdf
	aead aeadScheme
	mode []byte // mode_base and the hash of the empty psk_id
}

var kdfIDs = map[crypto.Hash]uint16{crypto.SHA256: 0x0001, crypto.SHA384: 0x0002, crypto.SHA512: 0x0003}

func newHPKE(k kem, h crypto.Hash, a aeadScheme) hpkeBase {
	id := []byte("HPKE")
	for _, v := range []uint16{k.id(), kdfIDs[h], a.id} {
		id = binary.BigEndian.AppendUint16(id, v)
	}
	f := kdf{hash: h, suite: string(id)}
	return hpkeBase{kem: k, kdf: f, aead: a, mode: append([]byte{0}, f.extract(nil, "psk_id_hash", nil)...)}
}

// context is key_schedule_context of RFC 9180 section 5.1. It depends on nobody's
// key, so that one serves for all messages under one info.
func (h *hpkeBase) context(info []byte) []byte {
	context := make([]byte, 0, 1+2*h.kdf.hash.Size())
	context = append(context, h.mode...)
	return append(context, h.kdf.extract(nil, "info_hash", info)...)
}

// secret is the secret of KeySchedule of RFC 9180 section 5.1, from which,
// with the context, everything else is expanded.
func (h *hpkeBase) secret(shared []byte) []byte { return h.kdf.extract(shared, "secret", nil) }

// keys returns the key and the nonce of the only message.
func (h *hpkeBase) keys(shared, context []byte) (key, nonce []byte) {
	secret := h.secret(shared)
	return h.kdf.expand(secret, "key", context, h.aead.keySize), h.kdf.expand(secret, "base_nonce", context, aeadNonceSize)
}

// seal is the one-shot Seal of RFC 9180 section 6.1, with the context of info.
func (h *hpkeBase) seal(public, context, plaintext []byte) (enc, ciphertext []byte, err error) {
	enc, shared, err := h.kem.encap(public)
	if err != nil {
		return nil, nil, err
	}
	key, nonce := h.keys(shared, context)
	ciphertext, err = h.aead.seal(key, nonce, nil, plaintext)
	return enc, ciphertext, err
}

// open is the one-shot Open of RFC 9180 section 6.1.
func (h *hpkeBase) open(private, public, enc, info, ciphertext []byte) ([]byte, error) {
	shared, err := h.kem.decap(private, public, enc)
	if err != nil {
		return nil, err
	}
	key, nonce := h.keys(shared, h.context(info))
	return h.aead.open(key, nonce, nil, ciphertext)
}

// export is Context.Export of RFC 9180 section 5.3 without info.
func (h *hpkeBase) export(shared []byte, exporterContext string, length int) []byte {
	exporter := h.kdf.expand(h.secret(shared), "exp", h.context(nil), h.kdf.hash.Size())
	return h.kdf.expand(exporter, "sec", []byte(exporterContext), length)
}

// kdf is LabeledExtract and LabeledExpand of RFC 9180 section 4 under one
// suite_id.
type kdf struct {
	hash  crypto.Hash
	suite string
}

const hpkeVersion = "HPKE-v1"

func (k kdf) extract(salt []byte, label string, ikm []byte) []byte {
	b := make([]byte, 0, len(hpkeVersion)+len(k.suite)+len(label)+len(ikm))
	b = append(b, hpkeVersion...)
	b = append(b, k.suite...)
	b = append(b, label...)
	return mac(k.hash, salt, append(b, ikm...))
}

func (k kdf) expand(prk []byte, label string, info []byte, length int) []byte {
	b := make([]byte, 2, 2+len(hpkeVersion)+len(k.suite)+len(label)+len(info))
	binary.BigEndian.PutUint16(b, uint16(length))
	b = append(b, hpkeVersion...)
	b = append(b, k.suite...)
	b = append(b, label...)
	return hkdfExpand(k.hash, prk, append(b, info...), length)
}
