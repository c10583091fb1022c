package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (d *device) ownKey() []byte {
	d.t.Helper()
	id, err := d.identity(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	return id.public()
}

func (d *device) deviceID() string {
	d.t.Helper()
	list, err := d.Devices(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(x Device) bool { return x.This })
	return list[i].ID
}

// isRotated checks that nothing of a user shows the key before.
func (d *device) isRotated(before []byte) {
	d.t.Helper()
	if bytes.Equal(d.ownKey(), before) {
		d.t.Error("the identity key is the one before")
	}
	records, err := d.conversations(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, r := range records {
		if m, ok := rosterFind(r.Members, d.self); ok && r.blocked() == nil && !bytes.Equal(m.IdentityKey, d.ownKey()) {
			d.t.Errorf("the leaf in %v shows another identity key", r.ID)
		}
	}
	if at, on, err := d.Rotating(d.t.Context()); on || err != nil {
		d.t.Errorf("a rotation of %v is under way, %v", at, err)
	}
}

// TestThreat44_Rotation: the removed device can neither fetch state, send
// messages that are accepted, nor join; everybody else goes on, is told, and
// reads what was said before.
func TestThreat44_Rotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	stolen := alice.sibling()
	dialog := alice.ensureDialog(bob)
	group := newID(t)
	alice.ensureGroup(group, bob, carol)
	for _, d := range []*device{bob, carol, stolen} {
		d.cleanSync()
	}
	before := alice.ownKey()
	if err := bob.VerifyKey(t.Context(), bob.self, alice.self, before); err != nil {
		t.Fatal(err)
	}
	history := alice.encrypt(dialog, "before the rotation")
	for _, d := range []*device{alice, bob} { // seen before; what is first seen after cannot be told from the thief's
		d.reads(history, "before the rotation", alice)
	}
	early := stolen.encrypt(group, "by the thief, kept for later") // under keys of the epoch before
	w.clock.advance(time.Hour)

	var seen []RotationProgress
	err := alice.Rotate(t.Context(), RotateOptions{Progress: func(p RotationProgress) { seen = append(seen, p) }})
	if err != nil {
		t.Fatal(err)
	}
	alice.isRotated(before)
	var stages []RotationStage
	for _, p := range seen {
		stages = append(stages, p.Stage)
		if p.Done > p.Total {
			t.Errorf("progress %+v", p)
		}
	}
	want := []RotationStage{RotationKeys, RotationSessions, RotationIdentities, RotationGroups, RotationReseal, RotationDone}
	if got := slices.Compact(stages); !slices.Equal(got, want) {
		t.Errorf("stages %v", got)
	}

	// The stolen device.
	if stolen.SignedIn() {
		if _, err := stolen.Sync(t.Context(), stolen.self); !errors.Is(err, ErrSignedOut) {
			t.Errorf("a Sync of the stolen device: %v", err)
		}
	}
	if stolen.SignedIn() {
		t.Error("the stolen device thinks that it has a session")
	}
	if b, err := stolen.Encrypt(t.Context(), stolen.self, dialog, []byte("x"), nil); err == nil {
		t.Errorf("the stolen device encrypts %d octets", len(b))
	}

	// Everybody else.
	for _, d := range []*device{bob, carol} {
		r := d.cleanSync()
		if !slices.Contains(r.Rotated, alice.self) {
			t.Errorf("%s was not told: %+v", d.self, r)
		}
	}
	k, err := bob.Contact(t.Context(), bob.self, alice.self)
	if err != nil || k.State != ContactUnverified || !bytes.Equal(k.IdentityKey, alice.ownKey()) || k.RotatedAt.IsZero() {
		t.Errorf("contact %+v, %v", k, err)
	}
	bob.reads(history, "before the rotation", alice)
	alice.reads(history, "before the rotation", alice)
	for _, id := range []ConversationID{dialog, group} {
		bob.reads(alice.encrypt(id, "after"), "after", alice)
		text := bob.encrypt(id, "an answer")
		alice.reads(text, "an answer", bob)
		if p, err := stolen.Decrypt(t.Context(), stolen.self, text); err == nil {
			t.Errorf("the stolen device reads %q", p.Data)
		}
	}
	p := carol.decrypt(early)
	if p.Verified {
		t.Error("a message under the keys before, first seen after the rotation, counts as verified")
	}

	// Nobody is given a KeyPackage that the thief has the private parts of, and
	// somebody new knows only the new key.
	dave := w.user("dave")
	third := dave.ensureDialog(alice)
	if r := alice.cleanSync(); !slices.Contains(r.Joined, third) {
		t.Errorf("joined %v", r.Joined)
	}
	alice.reads(dave.encrypt(third, "hello"), "hello", dave)
	fresh := alice.sibling()
	fresh.reads(history, "before the rotation", alice)
	bob.reads(fresh.encrypt(dialog, "from a new device"), "from a new device", alice)
	if kinds := fresh.Events(); !slices.ContainsFunc(kinds, func(e Event) bool { return e.Kind == EventKeysRotated }) {
		t.Errorf("events %v", kinds)
	}
}

// TestThreat44_StolenStateOpensNothing: what the key server has after a rotation
// does not open with anything that the stolen device holds, even if the key
// server hands it over.
func TestThreat44_StolenStateOpensNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	stolen := alice.sibling()
	id := alice.ensureDialog(bob)
	stolen.cleanSync()
	bob.cleanSync()
	if err := alice.Rotate(t.Context(), RotateOptions{Devices: []string{stolen.deviceID()}}); err != nil {
		t.Fatal(err)
	}
	alice.isRotated(nil)
	// The key server is in league: it lets the thief in with Alice's token.
	token := ""
	w.wire.set(func(e *exchange) bool {
		if h := e.request.Header.Get("Authorization"); h != "" {
			token = h
		}
		return false
	}, nil)
	alice.cleanSync()
	w.wire.set(func(e *exchange) bool { e.request.Header.Set("Authorization", token); return false }, nil)
	_, err := stolen.Sync(t.Context(), stolen.self)
	w.wire.set(nil, nil)
	if !errors.Is(err, ErrDropped) {
		t.Errorf("got %v", err)
	}
	if b, err := stolen.Encrypt(t.Context(), stolen.self, id, []byte("x"), nil); err == nil && b != nil {
		bob.cleanSync()
		if p, err := bob.Decrypt(t.Context(), bob.self, b); err == nil && p.Verified {
			t.Errorf("a message of the stolen device is accepted: %+v", p)
		}
	}
}

// TestThreat44_RotationIsCutOff: at the n-th request, for each n, on a device that
// is restarted then; it is remembered, another device can finish it, and the
// keys are replaced once.
func TestThreat44_RotationIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	dialog := alice.ensureDialog(bob)
	bob.cleanSync()
	second := alice.sibling()
	before := alice.ownKey()
	history := alice.encrypt(dialog, "history")
	second.reads(history, "history", alice)
	thief := alice.sibling().deviceID()
	if err := w.cutAt(0, func() error { return alice.Rotate(t.Context(), RotateOptions{Devices: []string{thief}}) }); err == nil {
		t.Fatal("the fault had no effect")
	}
	if _, on, err := second.Rotating(t.Context()); on || err != nil {
		t.Fatalf("a rotation that never began is under way, %v", err)
	}
	op := func(d *device) error {
		if _, on, err := d.Rotating(t.Context()); err != nil || on {
			return errors.Join(err, d.ResumeRotation(t.Context(), nil))
		}
		return d.Rotate(t.Context(), RotateOptions{Devices: []string{thief}})
	}
	err := errors.New("not begun")
	for n := 1; err != nil; n += 2 {
		if n > 120 {
			t.Fatalf("no end: %v", err)
		}
		err = w.cutAt(n, func() error { return op(alice) })
		alice.crash()
		if _, e := alice.Client.store.Refresh(t.Context()); e != nil {
			t.Fatal(e)
		}
		if n == 21 { // the other device takes a turn
			second.mustSync()
			err = second.ResumeRotation(t.Context(), nil)
		}
	}
	for _, d := range []*device{alice, second} {
		d.mustSync()
		d.isRotated(before)
	}
	id, err := alice.identity(t.Context(), alice.self)
	if err != nil || len(id.Rotations) != 1 || len(id.Former) != 1 || id.Next != nil {
		t.Errorf("%d rotations, %v", len(id.Rotations), err)
	}
	bob.mustSync()
	bob.reads(alice.encrypt(dialog, "after"), "after", alice)
	bob.reads(second.encrypt(dialog, "after, too"), "after, too", alice)
	second.reads(history, "history", alice)
}

// TestThreat44_AccountAddedWhileARotationIsCutOff: the key server has the new
// identity key already, the device that was to use it crashed. AddAccount and Sync
// of any device publish KeyPackages of the key that the key server has.
func TestThreat44_AccountAddedWhileARotationIsCutOff(t *testing.T) {
	t.Parallel()
	for name, op := range map[string]func(*device) error{
		"AddAccount": func(d *device) error { return d.AddAccount(t.Context(), d.self) },
		"Sync":       func(d *device) error { _, err := d.Sync(t.Context(), d.self); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			before := alice.ownKey()
			w.wire.set(nil, func(e *exchange) {
				if e.is("POST", "/v1/accounts/rotate") {
					e.status = 0 // no answer
				}
			})
			if err := alice.Rotate(t.Context(), RotateOptions{}); err == nil {
				t.Fatal("the fault had no effect")
			}
			w.wire.set(nil, nil)
			alice.crash()
			if err := op(alice); err != nil {
				t.Fatal(err)
			}
			id := bob.ensureDialog(alice) // by a KeyPackage of the new key
			alice.cleanSync()
			alice.reads(bob.encrypt(id, "hello"), "hello", bob)
			if err := alice.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			alice.isRotated(before)
			if id, err := alice.identity(t.Context(), alice.self); err != nil || len(id.Rotations) != 1 || id.Next != nil {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
}

// cutAt runs op on a network that dies after n requests.
func (w *world) cutAt(n int, op func() error) error {
	seen := 0
	w.wire.set(func(e *exchange) bool {
		if strings.HasSuffix(e.request.URL.Path, "/refresh") {
			return false
		}
		seen++
		return seen > n // status 0: no answer
	}, nil)
	defer w.wire.set(nil, nil)
	return op()
}

// TestThreat52_RotationNeedsTheChainAndTheKeyServer: a key that the pinned one
// has signed is followed when the key server names it; one without a chain
// blocks; a chain without the key server's word waits.
func TestThreat52_RotationNeedsTheChainAndTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := alice.ownKey()
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The key server still names the key before: nothing is encrypted to the new.
	lie := func(change func(*keyapi.Reachability)) func(*exchange) {
		return func(e *exchange) {
			if e.is("GET", "/v1/reachable/") && e.status == 200 {
				r := decodeJSON[keyapi.Reachability](t, e.answered)
				change(&r)
				e.answered = encodeJSON(t, r)
			}
		}
	}
	w.wire.set(nil, lie(func(r *keyapi.Reachability) { r.IdentityKey, r.Rotations = before, nil }))
	if r := bob.mustSync(); len(r.Rotated) != 0 {
		t.Errorf("followed without the key server's word: %+v", r)
	}
	_, err := bob.Encrypt(t.Context(), bob.self, id, []byte("x"), nil)
	var changed *IdentityChangedError
	if !errors.As(err, &changed) || !changed.Rotated || changed.Retired {
		t.Errorf("before the key server's word: %v", err)
	}
	// Another account sees a key without the chain.
	carol := w.user("carol")
	w.wire.set(nil, nil)
	if err := carol.AcceptIdentity(t.Context(), carol.self, alice.self, before); err != nil { // pinned once
		t.Fatal(err)
	}
	w.wire.set(nil, lie(func(r *keyapi.Reachability) { r.Rotations = nil }))
	if r, err := carol.Reach(t.Context(), carol.self, alice.self); err != nil || !r.Changed {
		t.Errorf("a key without a chain: %+v, %v", r, err)
	}
	w.wire.set(nil, nil)
	if r, err := carol.Reach(t.Context(), carol.self, alice.self); err != nil || r.Changed || !bytes.Equal(r.IdentityKey, alice.ownKey()) {
		t.Errorf("a key with its chain: %+v, %v", r, err)
	}
	w.clock.advance(2 * confirmAgain)
	if r := bob.mustSync(); !slices.Contains(r.Rotated, alice.self) {
		t.Errorf("with the key server's word: %+v", r)
	}
	alice.reads(bob.encrypt(id, "goes on"), "goes on", bob)
}

// TestRetiredKeyIsNotAccepted: a group that still shows the key which its owner
// has replaced is not written to, and there is nothing to accept.
func TestRetiredKeyIsNotAccepted(t *testing.T) {
	t.Parallel()
	r := &contactsRecord{Pins: []pinEntry{{Platform: "email", ID: "a@example.org", Key: []byte("k0")}}}
	a := Account{Platform: "email", ID: "a@example.org"}
	r.Pins[0].rotate([]byte("k1"), nil, time.UnixMilli(1000))
	err := r.check(a, []byte("k0"))
	var changed *IdentityChangedError
	if !errors.As(err, &changed) || !changed.Retired {
		t.Fatalf("got %v", err)
	}
	if r.note(memberEntry{Platform: a.Platform, ID: a.ID, IdentityKey: []byte("k0")}, true, time.UnixMilli(2000)) || r.Pins[0].Changed != nil {
		t.Error("a retired key was noted as a changed one")
	}
	// A device whose clock is some minutes ahead may have noted when the epoch began,
	// of a group that was there before; a new one may be a thief's.
	until, last := time.UnixMilli(1000), time.UnixMilli(1000).Add(clockSkew)
	for _, tt := range []struct {
		opened, entered time.Time
		want            bool
	}{
		{until, last, true}, {last, until, true}, {last.Add(time.Millisecond), until, false}, {last, until.Add(time.Millisecond), false},
	} {
		good, err := r.Pins[0].vouches([]byte("k0"), tt.opened, func() (time.Time, error) { return tt.entered, nil })
		if good != tt.want || err != nil {
			t.Errorf("an epoch of %v in a group entered at %v: the retired key counts: %v, %v", tt.opened, tt.entered, good, err)
		}
	}
	broken := errors.New("no archive record now")
	if good, err := r.Pins[0].vouches([]byte("k0"), last, func() (time.Time, error) { return until, broken }); good || !errors.Is(err, broken) {
		t.Errorf("where it cannot be told: %v, %v", good, err)
	}
}

// TestThreat52_RotatedTwiceUnseen: what was written under a key that came and went
// while a contact was away is as good as the rest, and that key is as retired as
// the one that was pinned.
func TestThreat52_RotatedTwiceUnseen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "first"), "first", alice)
	texts := []string{"under the second key", "under the third", "under the fourth"}
	var sent [][]byte
	var keys [][]byte
	for _, text := range texts {
		keys = append(keys, alice.ownKey())
		if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, alice.encrypt(id, text))
	}
	bob.cleanSync()
	for i, text := range texts { // some are late, for a device that was there before
		if p := bob.decrypt(sent[i]); string(p.Data) != text || slices.Contains(p.Warnings, WarningIdentityChanged) {
			t.Errorf("%q: %q, %v", text, p.Data, p.Warnings)
		}
	}
	p, err := bob.pin(t.Context(), bob.self, alice.self)
	if err != nil || p == nil || !bytes.Equal(p.Key, alice.ownKey()) {
		t.Fatalf("pinned: %+v, %v", p, err)
	}
	for i, k := range keys {
		if !p.retired(k) {
			t.Errorf("key %d may come back", i)
		}
	}
	alice.reads(bob.encrypt(id, "an answer"), "an answer", bob)
}

// TestRotationWithClocksThatDiffer: a device whose clock is months behind the one
// that rotated before replaces the keys all the same.
func TestRotationWithClocksThatDiffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	before := alice.ownKey()
	alice.o.Now = func() time.Time { return w.clock.now().Add(-90 * 24 * time.Hour) }
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil && !isCode(err, keyapi.CodeInvalid) {
		t.Fatal(err) // KeyPackages of the past are not taken
	}
	if bytes.Equal(alice.ownKey(), before) {
		t.Error("the identity key is the one before")
	}
}

// TestThreat44_ThiefWasFaster: the thief has replaced the identity key at the key
// server; the user is told, other accounts are rotated, and the rest is done.
func TestThreat44_ThiefWasFaster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	too := account("alice-too")
	if err := alice.AddAccount(t.Context(), too); err != nil {
		t.Fatal(err)
	}
	thief := alice.sibling()
	if err := thief.rotateIdentity(t.Context(), thief.self, 1); err != nil {
		t.Fatal(err)
	}
	err := alice.changeIdentity(t.Context(), alice.self, func(r *identityRecord) error { // what the thief did not share
		r.Seed, r.Rotations, r.Former, r.Round = bytes.Repeat([]byte{1}, 32), nil, nil, 0
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	other, err := alice.identity(t.Context(), too)
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.Rotate(t.Context(), RotateOptions{}); !errors.Is(err, ErrIdentityTaken) {
		t.Errorf("got %v", err)
	}
	if now, err := alice.identity(t.Context(), too); err != nil || now.is(other.public()) {
		t.Errorf("the other account's key was not replaced, %v", err)
	}
	if _, on, err := alice.Rotating(t.Context()); !on || err != nil {
		t.Errorf("the rotation counts as done, %v", err)
	}
}
