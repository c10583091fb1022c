package labeled

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"testing"

	circlhpke "github.com/cloudflare/circl/hpke"
)

// stdSuite is the suite in the standard library; ok is false if it has none.
func stdSuite(s *Suite) (k hpke.KEM, d hpke.KDF, a hpke.AEAD, ok bool) {
	kems := map[uint16]hpke.KEM{
		0x0010: hpke.DHKEM(ecdh.P256()), 0x0011: hpke.DHKEM(ecdh.P384()), 0x0012: hpke.DHKEM(ecdh.P521()),
		0x0020: hpke.DHKEM(ecdh.X25519()), 0x647a: hpke.MLKEM768X25519(),
	}
	kdfs := map[int]hpke.KDF{32: hpke.HKDFSHA256(), 48: hpke.HKDFSHA384(), 64: hpke.HKDFSHA512()}
	aeads := map[uint16]hpke.AEAD{1: hpke.AES128GCM(), 2: hpke.AES256GCM(), 3: hpke.ChaCha20Poly1305()}
	k, ok = kems[s.hpke.kem.id()]
	return k, kdfs[s.Nh], aeads[s.aead.id], ok
}

// Our HPKE and the standard library's, or circl's for X448, are the same:
// derived keys, sealing, opening, exporting.
func TestHPKEAgreesWithOthers(t *testing.T) {
	each(t, func(t *testing.T, s *Suite) {
		if _, _, _, ok := stdSuite(s); ok {
			agreesWithStd(t, s)
		} else {
			agreesWithCircl(t, s)
		}
	})
}

func agreesWithStd(t *testing.T, s *Suite) {
	k, d, a, _ := stdSuite(s)
	for n := range 4 {
		ikm := bytes.Repeat([]byte{byte(n)}, s.Nh)
		private, public, err := s.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := k.DeriveKeyPair(ikm)
		if err != nil {
			t.Fatal(err)
		}
		seed, err := theirs.Bytes()
		if s.hpke.kem.id() == 0x0020 { // they serialize the clamped scalar
			private = bytes.Clone(private)
			private[0], private[31] = private[0]&0xf8, private[31]&0x7f|0x40
		}
		if err != nil || !bytes.Equal(seed, private) || !bytes.Equal(theirs.PublicKey().Bytes(), public) {
			t.Fatalf("derived keys differ: %x and %x, %v", seed, private, err)
		}
		plaintext, context := bytes.Repeat([]byte{7}, 50*n), []byte("context")
		kemOutput, ciphertext, err := s.Encrypt(public, "label", context, plaintext)
		if err != nil {
			t.Fatal(err)
		}
		info := encryptContext("label", context)
		r, err := hpke.NewRecipient(kemOutput, theirs, d, a, info)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Open(nil, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("they open ours: %v", err)
		}
		kemOutput, sender, err := hpke.NewSender(theirs.PublicKey(), d, a, info)
		if err != nil {
			t.Fatal(err)
		}
		if ciphertext, err = sender.Seal(nil, plaintext); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Decrypt(private, public, "label", context, kemOutput, ciphertext); err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("we open theirs: %v", err)
		}
		kemOutput, secret, err := s.ExternalInit(public)
		if err != nil {
			t.Fatal(err)
		}
		if r, err = hpke.NewRecipient(kemOutput, theirs, d, a, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Export(externalInitLabel, s.Nh); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("they export another secret: %v", err)
		}
		if got, err := s.ReceiveExternalInit(private, public, kemOutput); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("we export another secret: %v", err)
		}
	}
}

func agreesWithCircl(t *testing.T, s *Suite) {
	scheme := circlhpke.KEM_X448_HKDF_SHA512.Scheme()
	suite := circlhpke.NewSuite(circlhpke.KEM_X448_HKDF_SHA512, circlhpke.KDF_HKDF_SHA512, circlhpke.AEAD(s.aead.id))
	// circl derives from a secret of its own size only.
	pk, sk := scheme.DeriveKeyPair(make([]byte, 56))
	private, public, err := s.DeriveKeyPair(make([]byte, 56))
	if err != nil {
		t.Fatal(err)
	}
	theirPrivate, _ := sk.MarshalBinary()
	theirPublic, _ := pk.MarshalBinary()
	if !bytes.Equal(theirPrivate, private) || !bytes.Equal(theirPublic, public) {
		t.Fatal("derived keys differ")
	}
	info := encryptContext("label", []byte("context"))
	kemOutput, ciphertext, err := s.Encrypt(public, "label", []byte("context"), []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := suite.NewReceiver(sk, info)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := receiver.Setup(kemOutput)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := opener.Open(ciphertext, nil); err != nil || string(got) != "text" {
		t.Errorf("they open ours: %v", err)
	}
	sender, err := suite.NewSender(pk, info)
	if err != nil {
		t.Fatal(err)
	}
	kemOutput, sealer, err := sender.Setup(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if ciphertext, err = sealer.Seal([]byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Decrypt(private, public, "label", []byte("context"), kemOutput, ciphertext); err != nil || string(got) != "text" {
		t.Errorf("we open theirs: %v", err)
	}
	kemOutput, secret, err := s.ExternalInit(public)
	if err != nil {
		t.Fatal(err)
	}
	if receiver, err = suite.NewReceiver(sk, nil); err != nil {
		t.Fatal(err)
	}
	if opener, err = receiver.Setup(kemOutput); err != nil {
		t.Fatal(err)
	}
	if got := opener.Export([]byte(externalInitLabel), uint(s.Nh)); !bytes.Equal(got, secret) {
		t.Error("they export another secret")
	}
}

// Every byte of an encapsulation and of a ciphertext counts, and a wrong length
// is an error, never a panic.
func TestHPKERefusesChanges(t *testing.T) {
	each(t, func(t *testing.T, s *Suite) {
		private, public, err := s.GenerateKeyPair()
		if err != nil {
			t.Fatal(err)
		}
		kemOutput, ciphertext, err := s.Encrypt(public, "label", nil, []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		refused := func(what string, kemOutput, ciphertext []byte) {
			t.Helper()
			if _, err := s.Decrypt(private, public, "label", nil, kemOutput, ciphertext); !errors.Is(err, ErrDecrypt) {
				t.Errorf("%s: got %v", what, err)
			}
		}
		for i := range ciphertext {
			refused("ciphertext", kemOutput, changed(ciphertext, i))
		}
		for i := 0; i < len(kemOutput); i += 1 + len(kemOutput)/16 {
			refused("kem output", changed(kemOutput, i), ciphertext)
		}
		for _, n := range []int{0, 1, len(kemOutput) - 1} {
			refused("short kem output", kemOutput[:n], ciphertext)
		}
		refused("long kem output", append(bytes.Clone(kemOutput), 0), ciphertext)
		refused("empty ciphertext", kemOutput, nil)
		for name, bad := range map[string][]byte{"none": nil, "short": public[1:], "long": append(bytes.Clone(public), 0)} {
			if err := s.CheckPublicKey(bad); !errors.Is(err, ErrPublicKey) {
				t.Errorf("public key %s: got %v", name, err)
			}
			if _, _, err := s.Encrypt(bad, "label", nil, nil); !errors.Is(err, ErrPublicKey) {
				t.Errorf("encrypt to public key %s: got %v", name, err)
			}
			if _, _, err := s.ExternalInit(bad); !errors.Is(err, ErrPublicKey) {
				t.Errorf("external init to public key %s: got %v", name, err)
			}
		}
		for name, bad := range map[string][]byte{"none": nil, "long": append(bytes.Clone(private), 0)} {
			if _, err := s.PublicKey(bad); !errors.Is(err, ErrPrivateKey) {
				t.Errorf("private key %s: got %v", name, err)
			}
			if _, err := s.Decrypt(bad, public, "label", nil, kemOutput, ciphertext); !errors.Is(err, ErrDecrypt) {
				t.Errorf("decrypt with private key %s: got %v", name, err)
			}
		}
		if got, err := s.PublicKey(private); err != nil || !bytes.Equal(got, public) {
			t.Errorf("public key: got %x, %v", got, err)
		}
	})
}

func changed(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}
