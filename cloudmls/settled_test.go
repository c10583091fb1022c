package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

// TestThreat45_GroupOfARefutedKey: a group was made with a key that the key server had
// handed out in Bob's name, and people have found since which one is his. Nothing is
// encrypted in it, and what the refusal says is not to accept the other one again but
// what helps: to remove and to add him.
func TestThreat45_GroupOfARefutedKey(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, bob, carol := h.user("alice"), h.user("bob"), h.user("carol")
	f := h.forger()
	h.evil.SubstituteIdentity(bob.self, f.identity.Public().(ed25519.PublicKey))
	h.evil.SubstituteKeyPackage(bob.self, f.keyPackage(bob.self))
	id := alice.ensureGroup(newID(t), bob, carol).ID
	h.evil.StopAll()
	if err := alice.VerifyKey(t.Context(), alice.self, bob.self, bob.ownKey()); err != nil {
		t.Fatal(err)
	}
	var changed *IdentityChangedError
	_, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil)
	if !errors.As(err, &changed) || !changed.Settled || changed.Retired || !bytes.Equal(changed.Pinned, bob.ownKey()) {
		t.Fatalf("%+v", err)
	}
	if text := err.Error(); strings.Contains(text, "AcceptIdentity") || !strings.Contains(text, "remove") {
		t.Errorf("%s", text)
	}
	if err := alice.Remove(t.Context(), alice.self, id, accounts(bob)); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Add(t.Context(), alice.self, id, accounts(bob)); err != nil {
		t.Fatal(err)
	}
	bob.mustSync()
	carol.mustSync()
	bob.reads(alice.encrypt(id, "to Bob"), "to Bob", alice)

	// A key that people have not decided about is not settled, whatever they had
	// compared before.
	if err := alice.VerifyKey(t.Context(), alice.self, carol.self, carol.ownKey()); err != nil {
		t.Fatal(err)
	}
	h.evil.SubstituteIdentity(carol.self, f.identity.Public().(ed25519.PublicKey))
	h.evil.SubstituteKeyPackage(carol.self, f.keyPackage(carol.self))
	_, err = alice.Ensure(t.Context(), alice.self, Conversation{ID: newID(t), Kind: KindGroup, Members: accounts(carol)})
	if !errors.As(err, &changed) || changed.Settled || !changed.Verified || !strings.Contains(err.Error(), "AcceptIdentity") {
		t.Errorf("%+v", err)
	}
}
