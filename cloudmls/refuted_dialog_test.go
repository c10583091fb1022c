package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/cloudmls/gateway/groupid"
)

// TestThreat45_DialogOfARefutedKey: at the first contact the key server hands out a key
// of its own in Bob's name. When Alice has heard from Bob which one is his, whichever
// way she says so, nothing more is written to the other one, and she can begin the
// dialog with him by herself: he is not in it, and does not know of it.
func TestThreat45_DialogOfARefutedKey(t *testing.T) {
	t.Parallel()
	says := map[string]func(alice, bob *device) error{
		"compared": func(alice, bob *device) error {
			return alice.VerifyKey(alice.t.Context(), alice.self, bob.self, bob.ownKey())
		},
		"accepted": func(alice, bob *device) error {
			return alice.AcceptIdentity(alice.t.Context(), alice.self, bob.self, bob.ownKey())
		},
	}
	ways := map[string]func(alice *device, want Conversation) error{
		"Ensure": func(alice *device, want Conversation) error {
			_, err := alice.Ensure(alice.t.Context(), alice.self, want)
			return err
		},
		"Update": func(alice *device, want Conversation) error {
			_, err := alice.Update(alice.t.Context(), alice.self, want)
			return err
		},
	}
	for said, say := range says {
		for way, again := range ways {
			t.Run(said+", "+way, func(t *testing.T) {
				t.Parallel()
				h := newHostile(t)
				alice, bob := h.user("alice"), h.user("bob")
				id := groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID)
				f := h.forger()
				h.evil.SubstituteIdentity(bob.self, f.identity.Public().(ed25519.PublicKey))
				h.evil.SubstituteKeyPackage(bob.self, f.keyPackage(bob.self))
				alice.ensureDialog(bob)
				alice.encrypt(id, "to whoever that is")
				h.evil.StopAll()
				before := alice.state(id).group(t, alice)
				if err := again(alice, Conversation{Kind: KindDialog, Members: accounts(bob)}); err != nil || !bytes.Equal(alice.state(id).group(t, alice), before) {
					t.Fatalf("begins anew though nobody has said anything: %v", err)
				}
				if err := say(alice, bob); err != nil {
					t.Fatal(err)
				}
				var changed *IdentityChangedError
				if b, err := alice.Encrypt(t.Context(), alice.self, id, []byte("secret"), nil); b != nil || !errors.As(err, &changed) || changed.Account != bob.self || changed.Retired {
					t.Fatalf("writes to the key that Alice knows not to be Bob's: %v", err)
				}
				if err := again(alice, Conversation{Kind: KindDialog, Members: accounts(bob)}); err != nil {
					t.Fatal(err)
				}
				bob.mustSync() // the first Welcome, too, which is for the other key
				bob.reads(alice.encrypt(id, "to Bob"), "to Bob", alice)
				alice.reads(bob.encrypt(id, "from Bob"), "from Bob", bob)
				if r, err := alice.Reach(t.Context(), alice.self, bob.self); err != nil || r.Changed {
					t.Errorf("reach %+v, %v", r, err)
				}
			})
		}
	}
}

// TestDialogWaitsForADecision: a dialog that shows another key than the pinned one is
// left alone as long as it is for people, or for the key server, to say which it is.
func TestDialogWaitsForADecision(t *testing.T) {
	t.Parallel()
	shown, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for name, tt := range map[string]struct {
		p    pinEntry
		dead bool
	}{
		"it is the pinned one":         {pinEntry{Key: shown, Verified: 1}, false},
		"nobody has decided":           {pinEntry{Key: other}, false},
		"it is to be decided":          {pinEntry{Key: other, Verified: 1, Changed: shown}, false},
		"a rotation leads to it":       {pinEntry{Key: other, Verified: 1, Next: shown}, false},
		"its owner has replaced it":    {pinEntry{Key: other, Accepted: 1, Former: []formerKey{{Key: shown, Rotated: true}}}, false},
		"another one was compared":     {pinEntry{Key: other, Verified: 1}, true},
		"another one was accepted":     {pinEntry{Key: other, Accepted: 1, Former: []formerKey{{Key: shown}}}, true},
		"and a third is to be decided": {pinEntry{Key: other, Accepted: 1, Changed: bytes.Repeat([]byte{3}, 32)}, true},
	} {
		if got := tt.p.settledAgainst(shown); got != tt.dead {
			t.Errorf("%s: %v", name, got)
		}
	}
}
