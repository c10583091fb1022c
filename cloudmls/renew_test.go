package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func (d *device) certified(id ConversationID) int64 {
	d.t.Helper()
	r, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil {
		d.t.Fatal(err)
	}
	m, _ := rosterFind(r.Members, d.self)
	return m.Certified
}

// TestFlaw30_RenewalReachesEveryGroup: a leaf's certificate is renewed before it
// ends, in silent groups too, and the next epoch's state is in the transaction
// that publishes the Commit.
func TestFlaw30_RenewalReachesEveryGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	ids := []ConversationID{alice.ensureDialog(bob), newID(t)}
	alice.ensureGroup(ids[1], bob)
	bob.cleanSync()
	w.clock.advance(50 * 24 * time.Hour)
	w.wire.reset()
	if err := alice.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := alice.state(ids[0]).Epoch; got != 1 {
		t.Errorf("renewed long before the end: epoch %d", got)
	}
	w.clock.advance(20 * 24 * time.Hour)
	before := []int64{alice.certified(ids[0]), alice.certified(ids[1])}
	w.wire.reset()
	for range 2 { // the second time there is nothing to do
		if err := alice.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	commits := 0
	for _, e := range w.wire.requests() {
		if e.is("POST", "/v1/tx") && isCommit(t, e, alice) {
			commits++
			if tx := decodeJSON[keyapi.Tx](t, e.sent); len(tx.Put) < 3 {
				t.Errorf("a Commit with %d objects of state", len(tx.Put))
			}
		}
	}
	if commits != len(ids) {
		t.Errorf("%d Commits for %d groups", commits, len(ids))
	}
	bob.cleanSync()
	for i, id := range ids {
		if now := alice.certified(id); now <= before[i] {
			t.Errorf("certificate of %d, before %d", now, before[i])
		}
		bob.reads(alice.encrypt(id, "renewed"), "renewed", alice)
	}
}

// TestFlaw30_RenewalWithoutTheKeyServer: Maintain says so, changes nothing, and
// succeeds the next time.
func TestFlaw30_RenewalWithoutTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	w.clock.advance(70 * 24 * time.Hour)
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/tx") }, faults["500 page"])
	if err := alice.Maintain(t.Context()); err == nil {
		t.Error("no error")
	}
	w.wire.set(nil, nil)
	if err := alice.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "x, renewed"), "x, renewed", alice)
}

// TestFlaw06_OwnKeysAreRefreshed: that others open epochs does not keep a member
// from refreshing its own keys.
func TestFlaw06_OwnKeysAreRefreshed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	before := alice.certified(id)
	w.clock.advance(6 * 24 * time.Hour)
	bob.ensureGroup(id, carol)
	w.clock.advance(2 * 24 * time.Hour)
	alice.encrypt(id, "the epoch is young, the keys are not")
	if now := alice.certified(id); now <= before {
		t.Error("the keys were not refreshed")
	}
	epoch := alice.state(id).Epoch
	alice.encrypt(id, "once is enough")
	if got := alice.state(id).Epoch; got != epoch {
		t.Errorf("refreshed twice: epoch %d after %d", got, epoch)
	}
}

// TestPoolsOfBothSuites: both are filled, with a last resort each, and each is
// refilled by itself.
func TestPoolsOfBothSuites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	count := func() keyapi.KeyPackageCount {
		t.Helper()
		var n keyapi.KeyPackageCount
		err := bob.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) (err error) {
			n, err = bob.o.Server.KeyPackageCount(ctx, token, bob.self)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	full := func() {
		t.Helper()
		n := count()
		if len(n.Suites) != 2 {
			t.Fatalf("%+v", n)
		}
		for _, s := range n.Suites {
			if s.Available != defaultKeyPackages || !s.LastResort || !slices.Contains(suites(), mls.CipherSuite(s.Suite)) {
				t.Errorf("%+v", s)
			}
		}
	}
	full()
	for range defaultKeyPackages {
		err := alice.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) error {
			_, err := alice.o.Server.ClaimKeyPackageOf(ctx, token, bob.self, uint16(suitePQ))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.clock.advance(poolInterval)
	if err := bob.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	full()
	w.clock.advance(lastResortAge)
	w.wire.reset()
	if err := bob.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.wire.count("POST", "/v1/keypackages/"); n != 2 {
		t.Errorf("%d uploads of last-resort KeyPackages, want 2", n)
	}
}

// TestThreat37_LifetimeTooLong: more than 120 days is not taken, whatever the key
// server hands out.
func TestThreat37_LifetimeTooLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.forger()
	now := w.clock.now()
	id := &identityRecord{Seed: f.identity.Seed()}
	for days, ok := range map[time.Duration]bool{120: true, 121: false} {
		life := lifetime(now)
		life.NotAfter = life.NotBefore + uint64(days*24*time.Hour/time.Second)
		signature, credential, err := id.certify(account("alice"), suite, life)
		if err != nil {
			t.Fatal(err)
		}
		capabilities := mls.DefaultCapabilities(suite, extensionBinding)
		kp, _, err := mls.NewKeyPackage(mls.KeyPackageOptions{
			CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: life, Capabilities: &capabilities,
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := kp.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		_, err = checkKeyPackage(b, account("alice"), &contactsRecord{}, now)
		var bad *BadKeyPackageError
		if (err == nil) != ok || !ok && !(errors.As(err, &bad) && strings.Contains(err.Error(), "120 days")) {
			t.Errorf("%d days: %v", days, err)
		}
	}
}

// TestSignOutKeepsTheData: EndSession ends the session at the key server; what is
// cached can be read, and the password continues.
func TestSignOutKeepsTheData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	text := bob.encrypt(id, "kept")
	alice.reads(text, "kept", bob)
	token := []byte(nil)
	w.wire.set(func(e *exchange) bool { token = []byte(e.request.Header.Get("Authorization")); return false }, nil)
	if err := alice.EndSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wire.set(nil, nil)
	if _, err := w.ks.Client().Sessions(t.Context(), string(bytes.TrimPrefix(token, []byte("Bearer ")))); !isCode(err, keyapi.CodeUnauthorized) {
		t.Errorf("the session goes on: %v", err)
	}
	told := 0
	o := w.options(alice.store)
	o.SignedOut = func() { told++ }
	c, err := Resume(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	alice.Client = c
	alice.reads(text, "kept", bob)
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("x"), nil); !errors.Is(err, ErrSignedOut) || told != 1 || alice.SignedIn() {
		t.Errorf("got %v, told %d times", err, told)
	}
	if c, err = Open(t.Context(), alice.username, password, w.options(alice.store)); err != nil {
		t.Fatal(err)
	}
	alice.Client = c
	t.Cleanup(func() { c.Close() })
	bob.reads(alice.encrypt(id, "and on"), "and on", alice)
}

// TestFlaw06_KeysOfTheFuture: a leaf that was made by a device whose clock was ahead
// by a year is renewed by the next message, once, and not in a year.
func TestFlaw06_KeysOfTheFuture(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"a group from before": true, "a group from then": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			own := &clock{t: w.clock.now()}
			alice.Client.o.Now = own.now
			var id ConversationID
			if before {
				id = alice.ensureGroup(newID(t), bob).ID
			}
			own.advance(400 * day)
			if !before {
				id = alice.ensureGroup(newID(t)).ID // nobody's KeyPackage is good next year
			}
			alice.encrypt(id, "dated next year")
			ahead := alice.state(id).Epoch
			own.advance(-400 * day)
			for _, text := range []string{"dated today", "once is enough"} {
				alice.encrypt(id, text)
				if now := alice.state(id).Epoch; now != ahead+1 {
					t.Errorf("%s: epoch %d, want %d", text, now, ahead+1)
				}
			}
			alice.ensureGroup(id, bob)
			bob.cleanSync()
			bob.reads(alice.encrypt(id, "hello"), "hello", alice)
		})
	}
}
