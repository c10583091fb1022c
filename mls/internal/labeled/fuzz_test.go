package labeled

import (
	"bytes"
	"testing"
)

// FuzzForeignBytes gives each suite keys, encapsulations, ciphertexts and
// signatures that anybody can make. Nothing panics; a key that is accepted can
// be used.
func FuzzForeignBytes(f *testing.F) {
	for _, id := range IDs() {
		s, _ := ByID(id)
		_, public, err := s.GenerateKeyPair()
		if err != nil {
			f.Fatal(err)
		}
		kemOutput, ciphertext, err := s.Encrypt(public, "label", nil, []byte("text"))
		if err != nil {
			f.Fatal(err)
		}
		private, key, err := s.GenerateSignatureKey()
		if err != nil {
			f.Fatal(err)
		}
		signature, err := s.Sign(private, "label", nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(id, public, kemOutput, ciphertext)
		f.Add(id, key, signature, private)
	}
	f.Fuzz(func(t *testing.T, id uint16, a, b, c []byte) {
		s, ok := ByID(id)
		if !ok {
			return
		}
		before := [][]byte{bytes.Clone(a), bytes.Clone(b), bytes.Clone(c)}
		private, public, err := s.DeriveKeyPair(make([]byte, s.Nh))
		if err != nil {
			t.Fatal(err)
		}
		checked := s.CheckPublicKey(a) == nil
		if _, _, err := s.Encrypt(a, "label", b, c); checked && err != nil {
			t.Fatalf("%s: key was accepted, but %v", s.Name, err)
		}
		if _, err := s.Decrypt(private, public, "label", a, b, c); err == nil {
			t.Fatalf("%s: made-up ciphertext was decrypted", s.Name)
		}
		_, _ = s.ReceiveExternalInit(private, public, b)
		_, _ = s.PublicKey(c)
		_, _ = s.SignaturePublicKey(c)
		_, _ = s.Sign(c, "label", a)
		if err := s.Verify(a, "label", c, b); err == nil && s.CheckSignatureKey(a) != nil {
			t.Fatalf("%s: a key that is none verified a signature", s.Name)
		}
		_, _ = s.AEADOpen(a, b, nil, c)
		if !bytes.Equal(a, before[0]) || !bytes.Equal(b, before[1]) || !bytes.Equal(c, before[2]) {
			t.Fatal("input was changed")
		}
	})
}
