package labeled

import (
	"bytes"
	"testing"
)

// One Encryption serves many keys, is independent of what becomes of the
// context that it was made from, and is tied to it.
func TestEncryptionToMany(t *testing.T) {
	for _, id := range IDs() {
		s, _ := ByID(id)
		context := bytes.Repeat([]byte("context "), 1000)
		e := s.Encryption("Welcome", context)
		want := bytes.Clone(context)
		clear(context)
		for i := range 3 {
			private, public, err := s.GenerateKeyPair()
			if err != nil {
				t.Fatal(err)
			}
			secret := []byte{byte(i), 1, 2, 3}
			kemOutput, ciphertext, err := e.To(public, secret)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Decrypt(private, public, "Welcome", want, kemOutput, ciphertext)
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%s: key %d: got %x, %v", s.Name, i, got, err)
			}
			if _, err := s.Decrypt(private, public, "Welcome", want[1:], kemOutput, ciphertext); err == nil {
				t.Errorf("%s: another context was accepted", s.Name)
			}
			if _, err := s.Decrypt(private, public, "UpdatePathNode", want, kemOutput, ciphertext); err == nil {
				t.Errorf("%s: another label was accepted", s.Name)
			}
		}
	}
}
