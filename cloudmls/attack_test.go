package cloudmls

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// TestReuseGuardHoldsTheWholeSlot: two devices never share a nonce, even if the
// key server gave both the same generations.
func TestReuseGuardHoldsTheWholeSlot(t *testing.T) {
	t.Parallel()
	mask := []byte{0x5a, 0xa5, 1, 2}
	seen := map[uint16]uint16{}
	for slot := range 1 << 16 {
		guard := [4]byte{0, 0, 7, 8}
		partitionGuard(&guard, uint16(slot), mask)
		first := binary.BigEndian.Uint16(guard[:2])
		if other, twice := seen[first]; twice {
			t.Fatalf("slots %d and %d share a guard", other, slot)
		}
		seen[first] = uint16(slot)
		if guard[2] != 7 || guard[3] != 8 {
			t.Fatalf("slot %d touches the random octets", slot)
		}
	}
	w := newWorld(t)
	alice := w.user("alice")
	sibling := alice.sibling()
	random := map[[2]byte]bool{}
	for range 64 {
		a, err := alice.reuseGuard([]byte("group"), 7)
		if err != nil {
			t.Fatal(err)
		}
		b, err := sibling.reuseGuard([]byte("group"), 7)
		if err != nil {
			t.Fatal(err)
		}
		slots := alice.Client.store.Slot() ^ sibling.Client.store.Slot()
		if got := binary.BigEndian.Uint16(a[:2]) ^ binary.BigEndian.Uint16(b[:2]); got != slots || got == 0 {
			t.Fatalf("guards %x and %x are not apart by the slots", *a, *b)
		}
		random[[2]byte(a[2:])] = true
	}
	if len(random) < 32 {
		t.Errorf("%d different random parts in 64 guards", len(random))
	}
}

// TestNoHiddenSecondLeaf: a member cannot seat a second leaf under the name of
// somebody who is in the group already: no list of members would show who reads
// along.
func TestNoHiddenSecondLeaf(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	ghost, err := mls.ParseKeyPackage(w.forger().keyPackage(alice.self))
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.rogueCommit(id, mls.CommitOptions{Add: []*mls.KeyPackage{ghost}}); err != nil {
		t.Fatalf("rogue Commit: %v", err)
	}
	if r := carol.mustSync(); !hasProblem(r, ProblemForbidden) {
		t.Errorf("%+v", r)
	}
	if _, err := carol.Encrypt(t.Context(), carol.self, id, []byte("secret"), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("Carol still encrypts: %v", err)
	}
}

// TestSiblingSurvivesReentry: leaving a group and coming back is no roll-back of
// the sender object for the user's other devices.
func TestSiblingSurvivesReentry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := carol.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	phone.cleanSync()
	for range 3 * blockSize {
		phone.encrypt(id, "raises the counter")
	}
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.cleanSync()
	alice.ensureGroup(id, bob, carol)
	carol.cleanSync()
	alice.reads(phone.encrypt(id, "from the phone"), "from the phone", carol)
	alice.reads(carol.encrypt(id, "from the laptop"), "from the laptop", carol)
}

// TestSeatedNameIsNotBelieved: Mallory invites Bob to a group in which a leaf of
// her own making bears Alice's name, whom Bob has never met. A certificate is no
// proof of the name in it: only what the key server confirms is pinned for good.
func TestSeatedNameIsNotBelieved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	f := w.forger()
	id := newID(t)
	d, theirs := f.welcome(alice.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob)
	w.deliver(bob, mallory, d)
	m, err := theirs.Protect([]byte("it is me, Alice"), mls.ProtectOptions{
		AuthenticatedData: authData(theirs.EpochAuthenticator(), uint32(theirs.OwnLeaf()), 0, nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if p := bob.decrypt(b); p.Verified {
		t.Error("Mallory's message is shown as verified to be Alice's")
	}
	var changed *IdentityChangedError
	if _, err := bob.Encrypt(t.Context(), bob.self, id, []byte("secret"), nil); !errors.As(err, &changed) {
		t.Errorf("Bob writes to the false Alice: %v", err)
	}
	dialog := bob.ensureDialog(alice) // the true one can be reached all the same
	alice.reads(bob.encrypt(dialog, "hello"), "hello", bob)
}

// TestUnconfirmedPinIsNotVerified: as long as the key server does not confirm a
// key, clear text stays forbidden and nothing is verified.
func TestUnconfirmedPinIsNotVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	w.wire.set(func(e *exchange) bool {
		if e.is("GET", "/v1/reachable/") {
			e.status = 500
			return true
		}
		return false
	}, nil)
	id := alice.ensureDialog(bob)
	text := alice.encrypt(id, "hello")
	bob.mustSync()
	bob.warned(text, WarningIdentityUnknown)
	if _, pinned, err := bob.Pinned(t.Context(), bob.self, alice.self); err != nil || !pinned {
		t.Errorf("pinned %v, %v", pinned, err)
	}
	w.wire.set(nil, nil)
	w.clock.advance(2 * confirmAgain)
	bob.cleanSync()
	if p := bob.decrypt(text); !p.Verified {
		t.Errorf("after the key server confirmed: %v", p.Warnings)
	}
}

// TestOversizedDeliveryDoesNotBlock: a stranger's Welcome that the state has no
// room for is refused like any other, and what comes after it is processed.
func TestOversizedDeliveryDoesNotBlock(t *testing.T) {
	t.Parallel()
	v := &view{puts: map[state.Key][]byte{{Name: "a"}: make([]byte, state.MaxData+1)}}
	var r *refusal
	if err := v.checkSizes(); !errors.As(err, &r) || r.kind != ProblemTooLarge {
		t.Errorf("one record: %v", err)
	}
	half := make([]byte, maxChange/2)
	v.puts = map[state.Key][]byte{{Name: "a"}: half, {Name: "b"}: half, {Name: "c"}: {1}}
	if err := v.checkSizes(); !errors.As(err, &r) || r.kind != ProblemTooLarge {
		t.Errorf("together: %v", err)
	}
	w := newWorld(t)
	bob, mallory := w.user("bob"), w.user("mallory")
	f := w.forger()
	f.ballast = 15 << 20
	d, _ := f.welcome(mallory.self, binding{kind: KindGroup, conversation: newID(t), origin: w.ks.Origin}, bob)
	if r := w.deliver(bob, mallory, d); !hasProblem(r, ProblemTooLarge) {
		t.Errorf("%+v", r)
	}
	if r := bob.cleanSync(); len(r.Problems) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestUnprocessedDeliveryIsNotOffline: that a delivery cannot be worked in is not
// taken for a dead network, in which one may write to the last known members.
func TestUnprocessedDeliveryIsNotOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	bob.encrypt(id, "reserves a block")
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	w.wire.set(func(e *exchange) bool {
		if e.is("POST", "/v1/tx") {
			e.status = 500
			return true
		}
		return false
	}, nil)
	if b, err := bob.Encrypt(t.Context(), bob.self, id, []byte("Carol reads this"), nil); err == nil || b != nil {
		t.Error("Bob writes to somebody whose removal he was told of")
	}
}

// splitCommit makes a valid Commit that only its maker can follow, publishes it
// and enters the epoch.
func (d *device) splitCommit(id ConversationID) {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	g, sender, err := d.reader(d.t.Context(), d.self).group(conv.Group, conv.Epoch)
	if err != nil {
		d.t.Fatal(err)
	}
	g.SetPSKs(func(mls.PreSharedKeyID) ([]byte, error) { return []byte("nobody else has this"), nil })
	psk := mls.PreSharedKeyID{Type: mls.PSKExternal, ID: []byte("x"), Nonce: make([]byte, 32)}
	pending, err := g.Commit(mls.CommitOptions{Proposals: []mls.Proposal{&mls.PreSharedKey{ID: psk}}})
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := submit(d.self, conv, g, pending)
	if err != nil {
		d.t.Fatal(err)
	}
	err = d.update(d.t.Context(), d.self, func(tx *state.Tx, v *view) error {
		if err := v.openEpoch(conv, pending.Staged.Group(), sender.SignatureKey, d.w.clock.now()); err != nil {
			return err
		}
		return tx.SetCommit(*s)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestSplitIsNoticedAndHealed: a Commit that a member signed and that is invalid
// for us may have been followed by others, with fewer people in the group.
// Nothing is sent to the old ones then; being added again heals it.
func TestSplitIsNoticedAndHealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	bob.splitCommit(id)
	if r := carol.mustSync(); !hasProblem(r, ProblemGarbage) || !carol.state(id).Broken {
		t.Fatalf("%+v; want the split noticed", r)
	}
	if _, err := carol.Encrypt(t.Context(), carol.self, id, []byte("to whom?"), nil); !errors.Is(err, ErrBroken) {
		t.Errorf("Carol still encrypts: %v", err)
	}
	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	bob.ensureGroup(id, carol)
	carol.mustSync()
	if carol.state(id).Broken {
		t.Fatal("still broken after being added again")
	}
	bob.reads(carol.encrypt(id, "back"), "back", carol)
	carol.reads(bob.encrypt(id, "welcome"), "welcome", bob)
}

// TestSiblingRenewsWhileSyncing: a sibling device changes the leaf's signature key
// between this device's look at the head and its look at the queue.
func TestSiblingRenewsWhileSyncing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := bob.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	phone.cleanSync()
	raced := false
	w.wire.set(func(e *exchange) bool {
		if !raced && e.is("GET", "/v1/delivery/email/"+bob.self.ID) {
			raced = true
			w.clock.advance(updateAfter + 1)
			phone.encrypt(id, "with fresh keys")
		}
		return false
	}, nil)
	bob.cleanSync()
	w.wire.set(nil, nil)
	if s := bob.state(id); !raced || s.Epoch != 2 || s.Broken {
		t.Fatalf("raced %v, %+v", raced, s)
	}
	alice.reads(bob.encrypt(id, "and on"), "and on", bob)
}

// TestFlaw06_LeftGroupIsForgotten: of a group that the account is not in any
// more only the archive records stay; nothing that could act in it.
func TestFlaw06_LeftGroupIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	group := bob.state(id).group(t, bob)
	v := bob.reader(t.Context(), bob.self)
	if _, err := v.get(groupKey(bob.self, group)); err != nil {
		t.Fatal(err)
	}
	if err := alice.Remove(t.Context(), alice.self, id, accounts(bob)); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	if _, err := v.get(groupKey(bob.self, group)); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the live group: %v", err)
	}
	s, err := v.sender(group)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.SignatureKey) != 0 || s.NextApp < mls.MaxGeneration || s.NextHandshake < maxHandshakes {
		t.Errorf("the sender object can still be used: next %d, %d", s.NextApp, s.NextHandshake)
	}
}

// TestKeyPackagesAreBounded: claiming KeyPackages without using them does not
// fill the record of their private parts up.
func TestKeyPackagesAreBounded(t *testing.T) {
	t.Parallel()
	r := &keyPackagesRecord{Packages: []keyPackageEntry{{Created: 1, LastResort: true}}}
	for i := range int64(maxKept + 10) {
		r.Packages = append(r.Packages, keyPackageEntry{Created: 2 + i})
	}
	if !r.trim(nil) {
		t.Error("it is full")
	}
	if n := len(r.Packages); n != maxKept || !r.Packages[0].LastResort || r.Packages[1].Created != 13 || r.Packages[n-1].Created != maxKept+11 {
		t.Errorf("%d kept, from %+v", n, r.Packages[:2])
	}
}

// TestKeyPackagesLeaveRoomInTheState: those of the post-quantum suite are so large
// that as many as maxKept are more than an object holds.
func TestKeyPackagesLeaveRoomInTheState(t *testing.T) {
	t.Parallel()
	alice := newWorld(t).user("alice")
	r, err := alice.reader(t.Context(), alice.self).keyPackages()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(r.Packages, func(p keyPackageEntry) bool { return p.suite() == uint16(suitePQ) && !p.LastResort })
	j := slices.IndexFunc(r.Packages, func(p keyPackageEntry) bool { return p.suite() == uint16(suitePQ) && p.LastResort })
	if i < 0 || j < 0 {
		t.Fatal("no post-quantum KeyPackages")
	}
	single, last := r.Packages[i], r.Packages[j]
	full := &keyPackagesRecord{Version: recordVersion, Packages: []keyPackageEntry{last}}
	for n := range maxKept {
		single.Created = int64(n)
		full.Packages = append(full.Packages, single)
	}
	if b, err := encodeRecord(full); err != nil || len(b) <= state.MaxData {
		t.Fatalf("the attack does not begin: %d octets, %v", len(b), err)
	}
	if !full.trim(nil) {
		t.Error("it is full")
	}
	b, err := encodeRecord(full)
	if n := len(full.Packages); err != nil || len(b) > keptOctets || n < 500 || !full.Packages[0].LastResort || full.Packages[n-1].Created != maxKept-1 {
		t.Errorf("%d octets, %d kept, %v", len(b), n, err)
	}
	full.Packages = full.Packages[:0]
	for n := range maxKept { // a clock that runs wild may make that many
		last.Created = int64(n)
		full.Packages = append(full.Packages, last)
	}
	if !full.trim(nil) {
		t.Error("it is full")
	}
	if b, err := encodeRecord(full); err != nil || len(b) > keptOctets || full.Packages[len(full.Packages)-1].Created != maxKept-1 {
		t.Errorf("last resort: %d octets, %v", len(b), err)
	}
}
