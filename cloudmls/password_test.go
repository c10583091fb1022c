package cloudmls

import (
	"errors"
	"strings"
	"testing"
)

// TestThreat06_AtTheKeyServer: a change of password against a real key server;
// conversations go on, and the other device follows with the new password.
func TestThreat06_AtTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	old := bob.encrypt(id, "before")
	if err := alice.ChangePassword(t.Context(), "wrong", "a new password"); !errors.Is(err, ErrCredentials) {
		t.Errorf("a wrong password: %v", err)
	}
	if err := alice.ChangePassword(t.Context(), password, "a new password"); err != nil {
		t.Fatal(err)
	}
	bob.reads(alice.encrypt(id, "after"), "after", alice)
	if _, err := phone.Sync(t.Context(), phone.self); !errors.Is(err, ErrSignedOut) {
		t.Errorf("the other device: %v", err)
	}
	if _, err := Open(t.Context(), alice.username, password, w.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
		t.Errorf("the old password: %v", err)
	}
	slot := phone.Client.store.Slot()
	phone.Close()
	c, err := Open(t.Context(), alice.username, "a new password", w.options(phone.store))
	if err != nil {
		t.Fatal(err)
	}
	phone.Client = c
	if got := c.store.Slot(); got != slot {
		t.Errorf("slot %d, was %d", got, slot)
	}
	phone.reads(old, "before", bob)
	bob.reads(phone.encrypt(id, "from the phone"), "from the phone", alice)
}

// TestThreat07_AtTheKeyServer: the recovery code on a new device.
func TestThreat07_AtTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := NewMemoryStore()
	c, first, err := Register(t.Context(), "alice-user", password, w.options(store))
	if err != nil {
		t.Fatal(err)
	}
	alice := &device{Client: c, w: w, t: t, username: "alice-user", self: account("alice"), store: store}
	if err := c.AddAccount(t.Context(), alice.self); err != nil {
		t.Fatal(err)
	}
	bob := w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	message := bob.encrypt(id, "read after recovery")
	w.wire.reset()
	typo := "X" + first.Code[1:]
	if strings.HasPrefix(first.Code, "X") {
		typo = "Y" + first.Code[1:]
	}
	if _, _, err := Recover(t.Context(), alice.username, typo, "recovered", w.options(NewMemoryStore())); !errors.Is(err, ErrRecoveryCode) {
		t.Errorf("a typo: %v", err)
	}
	if n := len(w.wire.requests()); n != 0 {
		t.Errorf("%d requests for a typo", n)
	}
	fresh := &device{w: w, t: t, username: alice.username, self: alice.self, store: NewMemoryStore()}
	var second *Recovery
	if fresh.Client, second, err = Recover(t.Context(), alice.username, strings.ToLower(first.Code), "recovered", w.options(fresh.store)); err != nil {
		t.Fatal(err)
	}
	fresh.reads(message, "read after recovery", bob)
	bob.reads(fresh.encrypt(id, "here again"), "here again", alice)
	fresh.crash()
	fresh.cleanSync()
	if _, err := alice.Sync(t.Context(), alice.self); !errors.Is(err, ErrSignedOut) {
		t.Errorf("the lost device: %v", err)
	}
	if _, _, err := Recover(t.Context(), alice.username, first.Code, "x", w.options(NewMemoryStore())); !errors.Is(err, ErrRecovery) {
		t.Errorf("the used code: %v", err)
	}
	if _, err := Open(t.Context(), alice.username, password, w.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
		t.Errorf("the forgotten password: %v", err)
	}
	third, err := fresh.ReplaceRecoveryCode(t.Context(), "recovered")
	if err != nil || third.Code == second.Code {
		t.Fatalf("another code: %v", err)
	}
	if _, _, err := Recover(t.Context(), alice.username, second.Code, "x", w.options(NewMemoryStore())); !errors.Is(err, ErrRecovery) {
		t.Errorf("the replaced code: %v", err)
	}
	again, _, err := Recover(t.Context(), alice.username, third.Code, "recovered again", w.options(NewMemoryStore()))
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestThreat13_RevokedDevice: a device that is revoked is out at once, its slot
// stays used, and it comes back as another one, with the password.
func TestThreat13_RevokedDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	phone.cleanSync()
	list, err := alice.Devices(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	lost := list[0]
	if lost.This || !list[1].This || lost.Slot != phone.Client.store.Slot() || list[1].Slot != alice.Client.store.Slot() {
		t.Fatalf("%+v", list)
	}
	for _, d := range list {
		if !d.SignedIn || d.LastSeen.IsZero() || d.Added.IsZero() || d.Name != "test" {
			t.Errorf("%+v", d)
		}
	}
	if err := alice.RevokeDevice(t.Context(), list[1].ID); err == nil {
		t.Error("a device revokes itself")
	}
	if err := alice.RevokeDevice(t.Context(), "00"); !errors.Is(err, ErrNoDevice) {
		t.Errorf("an unknown device: %v", err)
	}
	if err := bob.RevokeDevice(t.Context(), lost.ID); !errors.Is(err, ErrNoDevice) {
		t.Errorf("another user's: %v", err)
	}
	if err := alice.RevokeDevice(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.Sync(t.Context(), phone.self); !errors.Is(err, ErrSignedOut) {
		t.Errorf("the revoked device: %v", err)
	}
	if _, err := phone.Encrypt(t.Context(), phone.self, id, []byte("x"), nil); !errors.Is(err, ErrSignedOut) {
		t.Errorf("the revoked device encrypts: %v", err)
	}
	if list, err = alice.Devices(t.Context()); err != nil || len(list) != 1 || !list[0].This {
		t.Errorf("%+v, %v", list, err)
	}
	phone.Close()
	c, err := Open(t.Context(), alice.username, password, w.options(phone.store))
	if err != nil {
		t.Fatal(err)
	}
	phone.Client = c
	if c.store.Slot() == lost.Slot {
		t.Error("the slot was given out again")
	}
	bob.reads(phone.encrypt(id, "found again"), "found again", alice)
}

// TestDevicesShowForeignSessions: who knows the password and signs in without
// being listed is seen, and can be thrown out.
func TestDevicesShowForeignSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/tx") }, faults["down"])
	if _, err := Open(t.Context(), alice.username, password, w.options(NewMemoryStore())); err == nil {
		t.Fatal("the sign-in was not cut off")
	}
	w.wire.set(nil, nil)
	list, err := alice.Devices(t.Context())
	if err != nil || len(list) != 2 || list[0].Slot != 0 || !list[0].SignedIn || list[0].This {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := alice.RevokeDevice(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	if list, err = alice.Devices(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}
