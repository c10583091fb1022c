package cloudmls

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestThreat52_RotationIsToldOnEveryDevice: a rotation with a valid chain blocks
// nobody, and takes what people had compared with it. Whichever call found it, of
// whichever device, each device tells of it, once.
func TestThreat52_RotationIsToldOnEveryDevice(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]func(alice, bob *device, id ConversationID){
		"Sync": func(_, bob *device, _ ConversationID) { bob.mustSync() },
		"Reach": func(alice, bob *device, _ ConversationID) {
			if r, err := bob.Reach(bob.t.Context(), bob.self, alice.self); err != nil || r.Changed {
				bob.t.Errorf("reach: %+v, %v", r, err)
			}
		},
		"Encrypt": func(alice, bob *device, id ConversationID) { alice.reads(bob.encrypt(id, "goes on"), "goes on", bob) },
		"Decrypt": func(alice, bob *device, id ConversationID) {
			if p := bob.reads(alice.encrypt(id, "anew"), "anew", alice); p.SenderVerified {
				bob.t.Error("a message under the new key counts as compared")
			}
		},
		"Ensure": func(alice, bob *device, _ ConversationID) { bob.ensureGroup(newID(bob.t), alice, bob.w.user("carol")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			phone := bob.sibling()
			phone.mustSync()
			if err := bob.VerifyKey(t.Context(), bob.self, alice.self, alice.ownKey()); err != nil {
				t.Fatal(err)
			}
			if p := bob.reads(alice.encrypt(id, "hello"), "hello", alice); !p.SenderVerified {
				t.Fatal("not verified before")
			}
			w.clock.advance(2 * time.Hour)
			if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
				t.Fatal(err)
			}
			find(alice, bob, id)
			if name != "Sync" {
				if r := bob.mustSync(); !slices.Equal(r.Rotated, []Account{alice.self}) || !r.tells(NoticeRotated, alice.self) {
					t.Errorf("the next Sync says %+v", r)
				}
			}
			phone.encrypt(id, "from the phone")
			if s, err := phone.Status(t.Context(), phone.self); err != nil || len(s.Notices) != 1 || s.Notices[0].Kind != NoticeRotated {
				t.Errorf("before a Sync of its own, a sibling's status says %+v, %v", s.Notices, err)
			}
			tablet := bob.sibling() // signs in afterwards
			for _, d := range []*device{phone, tablet} {
				if r := d.mustSync(); !slices.Equal(r.Rotated, []Account{alice.self}) || !r.tells(NoticeRotated, alice.self) {
					t.Errorf("a sibling's Sync says %+v", r)
				}
			}
			for _, d := range []*device{bob, phone, tablet} {
				if r := d.mustSync(); len(r.Rotated) != 0 || len(r.Notices) != 0 {
					t.Errorf("told twice: %+v", r)
				}
				s, err := d.Status(t.Context(), d.self)
				if err != nil || len(s.Notices) != 1 || s.Notices[0].Kind != NoticeRotated || s.Notices[0].Account != alice.self ||
					!s.Notices[0].Conversation.IsZero() || !strings.Contains(s.Notices[0].Text, "you had compared") {
					t.Errorf("status %+v, %v", s.Notices, err)
				}
				list, err := d.Contacts(t.Context(), d.self)
				i := slices.IndexFunc(list, func(k Contact) bool { return k.Account == alice.self })
				if err != nil || i < 0 || list[i].State != ContactUnverified || list[i].RotatedAt.IsZero() || !bytes.Equal(list[i].IdentityKey, alice.ownKey()) {
					t.Errorf("contacts %+v, %v", list, err)
				}
			}
			if err := phone.VerifyKey(t.Context(), phone.self, alice.self, alice.ownKey()); err != nil {
				t.Fatal(err)
			}
			bob.mustSync()
			if p := bob.reads(alice.encrypt(id, "again"), "again", alice); !p.SenderVerified {
				t.Error("comparing the new key does not count")
			}
		})
	}
}

// TestRotationsOfLongAgoAreNotTold on a new device, nor those whose new key
// people have compared since. A later one is told all the same.
func TestRotationsOfLongAgoAreNotTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	alice.ensureDialog(bob)
	bob.cleanSync()
	rotate := func() {
		t.Helper()
		if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	rotate()
	if r := bob.mustSync(); len(r.Rotated) != 1 || strings.Contains(r.Notices[0].Text, "you had compared") {
		t.Fatalf("%+v", r)
	}
	w.clock.advance(rotatedLately + time.Hour)
	phone := bob.sibling()
	if r := phone.mustSync(); len(r.Rotated) != 0 {
		t.Errorf("a new device tells of long ago: %+v", r)
	}
	rotate()
	if _, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil {
		t.Fatal(err)
	}
	if err := bob.VerifyKey(t.Context(), bob.self, alice.self, alice.ownKey()); err != nil {
		t.Fatal(err)
	}
	if r := phone.mustSync(); len(r.Rotated) != 0 {
		t.Errorf("told of a key that was compared: %+v", r)
	}
	w.clock.advance(time.Hour)
	rotate()
	if r := phone.mustSync(); len(r.Rotated) != 1 || !r.tells(NoticeRotated, alice.self) {
		t.Errorf("the next rotation is not told: %+v", r)
	}
}
