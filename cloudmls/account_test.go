package cloudmls

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestFlaw30_PrivatePartsFirst: 2022 published before it stored, and an error
// in between lost the private keys of a group.
func TestFlaw30_PrivatePartsFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	second := account("bob-second")
	uploaded := false
	w.wire.set(nil, func(e *exchange) {
		if uploaded || !e.is("POST", "/v1/keypackages/email/bob-second") {
			return
		}
		uploaded, e.status = true, 0 // it arrived; the device dies at once
		bob.Close()
	})
	if err := bob.AddAccount(t.Context(), second); err == nil {
		t.Fatal("the crash had no effect")
	}
	w.wire.set(nil, nil)
	if !uploaded {
		t.Fatal("nothing was uploaded")
	}
	id := newID(t)
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: []Account{second}}); err != nil {
		t.Fatal(err)
	}
	message := alice.encrypt(id, "to the published KeyPackage")
	fresh := bob.sibling() // the first device is at the bottom of the sea
	p, err := fresh.Decrypt(t.Context(), second, message)
	if err != nil || string(p.Data) != "to the published KeyPackage" {
		t.Fatalf("got %v, %v", p, err)
	}
}

// TestFlaw30_FailedUploadIsRepeated: and what was stored but not published does
// no harm.
func TestFlaw30_FailedUploadIsRepeated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	second := account("alice-second")
	for name, fault := range faults {
		w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/keypackages/") }, fault)
		if err := alice.AddAccount(t.Context(), second); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w.wire.set(nil, nil)
	if err := alice.AddAccount(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := alice.AddAccount(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	list, err := alice.Accounts(t.Context())
	if err != nil || !slices.Equal(list, []Account{second, alice.self}) {
		t.Errorf("accounts %v, %v", list, err)
	}
	bob := w.user("bob")
	if _, err := bob.Ensure(t.Context(), bob.self, Conversation{Kind: KindDialog, Members: []Account{second}}); err != nil {
		t.Error(err)
	}
}

func TestPoolIsRefilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	available := func() (n keyapi.KeyPackageCount) {
		err := bob.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) (err error) {
			n, err = bob.o.Server.KeyPackageCount(ctx, token, bob.self)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range n.Suites {
			if s.Suite == uint16(suitePQ) { // what everybody here prefers
				n.Available, n.LastResort = s.Available, s.LastResort
			}
		}
		return n
	}
	if n := available(); n.Available != defaultKeyPackages || !n.LastResort {
		t.Fatalf("after registration: %+v", n)
	}
	for range defaultKeyPackages + 2 { // more than there are: the last resort serves
		alice.ensureGroup(newID(t), bob)
	}
	if n := available(); n.Available != 0 {
		t.Fatalf("after the rush: %+v", n)
	}
	bob.cleanSync()
	if n := available(); n.Available != defaultKeyPackages {
		t.Errorf("after a Sync: %+v", n)
	}
	list, err := bob.Conversations(t.Context(), bob.self)
	if err != nil || len(list) != defaultKeyPackages+2 {
		t.Errorf("%d conversations, %v", len(list), err)
	}
}

func TestAccountOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	err := alice.AddAccount(t.Context(), bob.self)
	var p *keyapi.Problem
	if !errors.As(err, &p) || p.Code != keyapi.CodeTaken || p.Status != http.StatusConflict {
		t.Fatalf("got %v", err)
	}
	if list, err := alice.Accounts(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("accounts %v, %v", list, err)
	}
	r, err := alice.Reach(t.Context(), alice.self, bob.self)
	if err != nil || !r.HasAccount || r.Pinned || len(r.IdentityKey) != 32 {
		t.Errorf("reach %+v, %v", r, err)
	}
	r, err = alice.Reach(t.Context(), alice.self, account("nobody"))
	if err != nil || r.HasAccount || r.Pinned {
		t.Errorf("reach nobody %+v, %v", r, err)
	}
	alice.ensureDialog(bob)
	if r, err = alice.Reach(t.Context(), alice.self, bob.self); err != nil || !r.Pinned || r.Changed {
		t.Errorf("reach after a dialog %+v, %v", r, err)
	}
}

// TestAWrongClockDropsNoPrivateParts: a device whose clock is more than a year
// ahead refills the pool. What the key server still hands out opens.
func TestAWrongClockDropsNoPrivateParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	o := w.options(NewMemoryStore())
	o.Now = func() time.Time { return w.clock.now().Add(400 * 24 * time.Hour) }
	ahead, err := Open(t.Context(), bob.username, password, o)
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	if err := ahead.AddAccount(t.Context(), bob.self); err == nil {
		t.Error("the key server took KeyPackages of next year")
	}
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "still there"), "still there", alice)
	w.clock.advance(lastResortAge)
	if err := bob.AddAccount(t.Context(), bob.self); err != nil {
		t.Fatal(err)
	}
	r, err := bob.reader(t.Context(), bob.self).keyPackages()
	if err != nil {
		t.Fatal(err)
	}
	now := w.clock.now()
	if !slices.ContainsFunc(r.Packages, func(p keyPackageEntry) bool {
		return p.LastResort && now.Sub(time.UnixMilli(p.Created)).Abs() < time.Hour
	}) {
		t.Error("the last-resort KeyPackage of next year keeps the pool from being renewed")
	}
}

// TestExpiredPrivatePartsAreDropped: in the end they are.
func TestExpiredPrivatePartsAreDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	before, err := alice.reader(t.Context(), alice.self).keyPackages()
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(keyPackageLifetime + keepExpired + time.Hour)
	if err := alice.AddAccount(t.Context(), alice.self); err != nil {
		t.Fatal(err)
	}
	after, err := alice.reader(t.Context(), alice.self).keyPackages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range before.Packages {
		if after.find(string(p.Ref)) != nil {
			t.Fatal("private parts are kept for ever")
		}
	}
}
