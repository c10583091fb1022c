package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// sealAt makes a ciphertext at a place of the device's choice, as a device
// restored from a copy, or somebody who re-encrypts signed content, would.
func (d *device) sealAt(id ConversationID, text string, generation, claimed uint32, authenticator []byte) []byte {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := d.epoch(d.t.Context(), d.self, conv.Group, conv.Epoch)
	if err != nil {
		d.t.Fatal(err)
	}
	sender, err := d.reader(d.t.Context(), d.self).sender(conv.Group)
	if err != nil {
		d.t.Fatal(err)
	}
	if authenticator == nil {
		authenticator = r.archive.EpochAuthenticator()
	}
	m, err := r.archive.Seal([]byte(text), sender.SignatureKey, mls.ProtectOptions{
		AuthenticatedData: authData(authenticator, uint32(r.archive.OwnLeaf()), claimed, nil),
		Generation:        &generation,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func (d *device) warned(message []byte, want ...Warning) *Plaintext {
	d.t.Helper()
	p := d.decrypt(message)
	if p.Verified || !slices.Equal(p.Warnings, want) {
		d.t.Fatalf("%s: verified %v, warnings %v; want %v", d.self, p.Verified, p.Warnings, want)
	}
	return p
}

// TestFlaw05_ReplayIsMarked: 2022 took any ciphertext any number of times
// without a mark.
func TestFlaw05_ReplayIsMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	original := alice.sealAt(id, "pay 10", 40, 40, nil)
	again := alice.sealAt(id, "pay 10", 40, 40, nil) // another ciphertext, same place
	bob.reads(original, "pay 10", alice)
	bob.warned(again, WarningReplay)
	bob.reads(original, "pay 10", alice) // the same message, as IMAP copies are
	bob.warned(again, WarningReplay)
	bob.crash() // what was seen is remembered
	bob.reads(original, "pay 10", alice)
	bob.warned(again, WarningReplay)

	moved := alice.sealAt(id, "pay 10", 41, 40, nil) // signed content at another place
	bob.warned(moved, WarningReplay)
	bob.warned(moved, WarningReplay)
}

func TestForkIsMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	other := bytes.Repeat([]byte{7}, 32)
	forked := alice.sealAt(id, "from a fork", 40, 40, other)
	bob.warned(forked, WarningFork)
	forked[len(forked)-1] ^= 1
	bob.cannotRead(forked, NeverFork)
	altered := alice.encrypt(id, "altered")
	altered[len(altered)-1] ^= 1
	bob.cannotRead(altered, NeverInvalid)
}

func TestLateMessagesAreMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	seen, late := alice.encrypt(id, "read in time"), alice.encrypt(id, "never read")
	fromCarol, fromCarolSeen := carol.encrypt(id, "Carol, unread"), carol.encrypt(id, "Carol, read")
	bob.reads(seen, "read in time", alice)
	bob.reads(fromCarolSeen, "Carol, read", carol)
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	if err := bob.Verify(t.Context(), bob.self, carol.self, carol.code(bob).String()); err != nil {
		t.Fatal(err)
	}
	if p := bob.warned(fromCarol, WarningLate); p.SenderVerified { // she is not one of us any more
		t.Error("a message with a warning counts as verified by a person")
	}
	bob.warned(fromCarol, WarningLate)
	bob.reads(fromCarolSeen, "Carol, read", carol)

	bob.staysInTouch(lateAfter + time.Hour)
	bob.warned(late, WarningLate)
	bob.reads(seen, "read in time", alice)
	fresh := bob.sibling() // could not have seen any of it before
	fresh.reads(seen, "read in time", alice)
	fresh.reads(late, "never read", alice)
	fresh.reads(fromCarol, "Carol, unread", carol)

	current := alice.encrypt(id, "a quiet conversation")
	w.clock.advance(lateAfter + time.Hour)
	bob.reads(current, "a quiet conversation", alice) // its epoch is open
}

func TestWhatNeverOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.ensureDialog(bob)
	var commit, welcome []byte
	page, err := bob.deliveries(t.Context(), bob.self, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page.Messages {
		welcome = d.Message
	}
	page, err = alice.deliveries(t.Context(), alice.self, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range page.Messages {
		commit = d.Message
	}
	bob.cleanSync()
	message := alice.encrypt(id, "hello")
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("Dear Bob,"), "cut": message[:len(message)-1],
		"longer": append(bytes.Clone(message), 0), "Commit": commit, "Welcome": welcome,
	} {
		p, err := bob.Decrypt(t.Context(), bob.self, b)
		var never *NeverError
		if !errors.As(err, &never) || never.Reason != NeverMalformed {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if p, err := carol.Decrypt(t.Context(), carol.self, message); !errors.Is(err, ErrNotYet) {
		t.Errorf("another's message: %v, %v; want ErrNotYet", p, err)
	}
}

func FuzzSplitAuthData(f *testing.F) {
	f.Add(authData(bytes.Repeat([]byte{1}, 32), 1, 2, []byte("aad")))
	f.Add([]byte{})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		epoch, place, aad, ok := splitAuthData(b)
		if !ok {
			if !bytes.Equal(aad, b) {
				t.Error("foreign authenticated data was cut")
			}
			return
		}
		joined := slices.Concat([]byte{authDataVersion}, epoch, place, aad)
		if !bytes.Equal(joined, b) {
			t.Error("parts do not make the whole")
		}
	})
}

func FuzzParseBinding(f *testing.F) {
	f.Add(binding{kind: KindGroup, conversation: ConversationID{1}, origin: "https://keys.example.org"}.marshal())
	f.Add(binding{kind: KindDialog, conversation: ConversationID{2}, days: 30}.marshal())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := parseBinding(p)
		if err == nil && !bytes.Equal(b.marshal(), p) {
			t.Errorf("%x parses to %+v, which is written as %x", p, b, b.marshal())
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"v":1,"cursor":7,"held":[{"seq":3,"changed":{"platform":"email","id":"a@b"}}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":1,"id":"00112233445566778899aabbccddeeff","kind":2,"members":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []any{
			&identityRecord{}, &keyPackagesRecord{}, &inboxRecord{}, &conversationRecord{},
			&senderRecord{}, &contactsRecord{}, &generationBlock{},
		} {
			if err := decodeRecord(b, r); err != nil {
				continue
			}
			if c, ok := r.(*conversationRecord); ok && c.ID.IsZero() {
				continue // view.conversation refuses it
			}
			again, err := encodeRecord(r)
			if err != nil {
				t.Fatalf("%T: %v", r, err)
			}
			if err := decodeRecord(again, r); err != nil {
				t.Errorf("%T: %s does not read back: %v", r, again, err)
			}
		}
		if len(b) > 0 {
			_, _ = decodeEpoch(b)
		}
	})
}

// TestPlaceName: devices find again what they noted before.
func TestPlaceName(t *testing.T) {
	t.Parallel()
	self := Account{Platform: "email", ID: "alice@example.org"}
	const want = "email\x00alice@example.org\x0000ff10/18446744073709551615/7/16383"
	if got := placeName(self, []byte{0, 0xff, 0x10}, 1<<64-1, 7, 16383); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
