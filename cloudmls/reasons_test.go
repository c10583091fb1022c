package cloudmls

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/mls"
)

func (d *device) notYet(message []byte, reason NotYetReason) {
	d.t.Helper()
	p, err := d.Decrypt(d.t.Context(), d.self, message)
	var yet *NotYetError
	if !errors.As(err, &yet) || yet.Reason != reason || !errors.Is(err, ErrNotYet) {
		d.t.Fatalf("%s: %v, %v; want %q", d.self, p, err, reason)
	}
}

func (d *device) retryable(want int) {
	d.t.Helper()
	refs, err := d.Retryable(d.t.Context(), d.self)
	if err != nil || len(refs) != want {
		d.t.Fatalf("%s: %d messages are worth another try, %v; want %d", d.self, len(refs), err, want)
	}
}

// TestRetryable: what cannot be opened yet says for what it waits, is told from
// what never opens, and is named when another try is worth it.
func TestRetryable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.ensureGroup(newID(t), bob).ID
	early := alice.encrypt(id, "before Carol")
	bob.cleanSync()

	w.wire.fail(anything, faults["down"])
	carol.notYet(early, NotYetOffline)
	w.wire.set(nil, nil)
	carol.notYet(early, NotYetGroup)
	carol.notYet(early, NotYetGroup)
	carol.retryable(0)
	alice.ensureGroup(id, bob, carol)
	later := alice.encrypt(id, "with Carol")
	carol.cleanSync()
	carol.retryable(1) // it is known now that it never opens
	carol.crash()
	carol.retryable(1)
	carol.cannotRead(early, NeverBeforeJoin)
	carol.retryable(0)
	carol.reads(later, "with Carol", alice)

	// The Commit that opens the epoch does not arrive for a while.
	alice.renewKeys(id)
	next := alice.encrypt(id, "in the next epoch")
	w.wire.set(nil, func(e *exchange) {
		if e.is("GET", "/v1/delivery") {
			e.status, e.answered = 0, nil
		}
	})
	carol.notYet(next, NotYetOffline)
	w.wire.set(nil, nil)
	carol.cleanSync()
	refs, err := carol.Retryable(t.Context(), carol.self)
	if err != nil || len(refs) != 1 {
		t.Fatalf("%d refs, %v", len(refs), err)
	}
	if p := carol.reads(next, "in the next epoch", alice); p.Ref != refs[0] {
		t.Error("another message was named")
	}
	carol.retryable(0)
}

// TestThreat35_Reencrypted: a member who encrypts another's content anew, at
// another place, is found out; so is one who gives a copy a place of its own.
func TestThreat35_Reencrypted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	original := alice.sealAt(id, "pay 10", 40, 40, nil)
	bob.reads(original, "pay 10", alice)
	for _, place := range []uint32{41, 1000, 16000} { // what the sender signed says 40
		bob.warned(alice.sealAt(id, "pay 10", place, 40, nil), WarningReplay)
	}
}

// TestThreat42_ArchiveRecord: an archive record opens the messages of its epoch,
// its owner's included, and no other epoch's, and forges nothing.
func TestThreat42_ArchiveRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	bob.cleanSync()
	var mine, theirs [3]*mls.Message
	parse := func(b []byte) *mls.Message {
		m, err := mls.ParseMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for i := range mine {
		mine[i], theirs[i] = parse(alice.encrypt(id, "mine")), parse(bob.encrypt(id, "theirs"))
		alice.renewKeys(id)
		bob.cleanSync()
	}
	for i, r := range alice.records(id, 1, 3) {
		for j := range mine {
			for _, m := range []*mls.Message{mine[j], theirs[j]} {
				app, err := r.archive.Open(m)
				if (err == nil) != (i == j) {
					t.Errorf("record %d, message of epoch %d: %v", i+1, j+1, err)
				}
				if err == nil && !slices.Contains([]string{"mine", "theirs"}, string(app.Plaintext)) {
					t.Errorf("got %q", app.Plaintext)
				}
			}
		}
		// It holds no key that signs: what it seals with another key is nobody's.
		private, _, err := mls.GenerateSignatureKey(r.archive.CipherSuite())
		if err != nil {
			t.Fatal(err)
		}
		n := uint32(900)
		forged, err := r.archive.Seal([]byte("forged"), private, mls.ProtectOptions{Generation: &n})
		if err == nil {
			if _, err = r.archive.Open(forged); err == nil {
				t.Error("a message that its sender did not sign opens")
			}
		}
	}
}
