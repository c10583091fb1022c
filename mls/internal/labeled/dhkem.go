package labeled

import (
	"crypto"
	"encoding/binary"
)

// dhGroup is a Diffie-Hellman group of HPKE (RFC 9180 section 7.1).
type dhGroup interface {
	generate() (private, public []byte, err error)
	public(private []byte) ([]byte, error)
	check(public []byte) error
	// shared fails where RFC 9180 section 7.1.4 says so: points that are not
	// on the curve, shared secrets that are all zero.
	shared(private, public []byte) ([]byte, error)
	// derive is DeriveKeyPair of section 7.1.3.
	derive(k kdf, ikm []byte) (private, public []byte, err error)
}

// dhkem is DHKEM of RFC 9180 section 4.1.
type dhkem struct {
	registry uint16
	dhGroup  dhGroup
	secret   int // Nsecret, in bytes
	kdf      kdf
}

var (
	dhkemP256  = newDHKEM(0x0010, p256, 32, crypto.SHA256)
	dhkemP384  = newDHKEM(0x0011, p384, 48, crypto.SHA384)
	dhkemP521  = newDHKEM(0x0012, p521, 64, crypto.SHA512)
	dhkem25519 = newDHKEM(0x0020, x25519Group{}, 32, crypto.SHA256)
	dhkem448   = newDHKEM(0x0021, x448Group{}, 64, crypto.SHA512)
)

func newDHKEM(id uint16, g dhGroup, secret int, h crypto.Hash) *dhkem {
	suite := binary.BigEndian.AppendUint16([]byte("KEM"), id)
	return &dhkem{registry: id, dhGroup: g, secret: secret, kdf: kdf{hash: h, suite: string(suite)}}
}

func (d *dhkem) id() uint16 { return d.registry }

func (d *dhkem) generate() (private, public []byte, err error) { return d.dhGroup.generate() }

func (d *dhkem) derive(ikm []byte) (private, public []byte, err error) {
	return d.dhGroup.derive(d.kdf, ikm)
}

func (d *dhkem) public(private []byte) ([]byte, error) { return d.dhGroup.public(private) }

func (d *dhkem) check(public []byte) error { return d.dhGroup.check(public) }

func (d *dhkem) encap(public []byte) (enc, shared []byte, err error) {
	ephemeral, enc, err := d.dhGroup.generate()
	if err != nil {
		return nil, nil, err
	}
	dh, err := d.dhGroup.shared(ephemeral, public)
	if err != nil {
		return nil, nil, err
	}
	return enc, d.extractAndExpand(dh, enc, public), nil
}

func (d *dhkem) decap(private, public, enc []byte) ([]byte, error) {
	dh, err := d.dhGroup.shared(private, enc)
	if err != nil {
		return nil, err
	}
	return d.extractAndExpand(dh, enc, public), nil
}

func (d *dhkem) extractAndExpand(dh, enc, public []byte) []byte {
	context := make([]byte, 0, len(enc)+len(public))
	context = append(append(context, enc...), public...)
	return d.kdf.expand(d.kdf.extract(nil, "eae_prk", dh), "shared_secret", context, d.secret)
}
