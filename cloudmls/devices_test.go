package cloudmls

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

func isCommit(t *testing.T, e *exchange, by *device) bool {
	t.Helper()
	tx := decodeJSON[keyapi.Tx](t, e.sent)
	return tx.Commit != nil && tx.Commit.Sender == by.self
}

// TestSecondDeviceReadsEverything: user name and password are all it takes,
// for own sent messages and those of others, of every epoch.
func TestSecondDeviceReadsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	type sent struct {
		from *device
		text string
		b    []byte
	}
	var all []sent
	talk := func(n int, people ...*device) {
		for _, d := range people {
			text := fmt.Sprintf("%d from %s", n, d.self.ID)
			d.cleanSync()
			all = append(all, sent{d, text, d.encrypt(id, text)})
		}
	}
	talk(1, alice, bob, carol)
	alice.ensureGroup(id, dave)
	talk(2, alice, bob, dave)
	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	talk(3, alice, bob, dave)

	fresh := alice.sibling()
	for _, m := range all {
		fresh.reads(m.b, m.text, m.from)
	}
	text := fresh.encrypt(id, "from the new device")
	bob.reads(text, "from the new device", alice)
	alice.reads(text, "from the new device", alice)
	fresh.reads(bob.encrypt(id, "welcome"), "welcome", bob)
	accounts, err := fresh.Accounts(t.Context())
	if err != nil || len(accounts) != 1 || accounts[0] != alice.self {
		t.Errorf("accounts of the new device: %v, %v", accounts, err)
	}
}

// TestDevicesNeverShareAGeneration: two devices of one user send at the same
// time through one leaf.
func TestDevicesNeverShareAGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	second := alice.sibling()
	third := alice.sibling()
	bob.cleanSync()
	const each = 40 // more than one block
	var mu sync.Mutex
	var all [][]byte
	var wg sync.WaitGroup
	for _, d := range []*device{alice, second, third} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				b, err := d.Encrypt(t.Context(), d.self, id, fmt.Appendf(nil, "%d", i), nil)
				if err != nil {
					t.Errorf("encrypt: %v", err)
					return
				}
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, b := range all {
		p := bob.decrypt(b)
		place := fmt.Sprintf("%d/%d", p.Epoch, p.Generation)
		if seen[place] {
			t.Fatalf("place %s was used twice", place)
		}
		seen[place] = true
		if len(p.Warnings) != 0 {
			t.Errorf("warnings %v", p.Warnings)
		}
	}
	if len(seen) != 3*each {
		t.Errorf("%d messages arrived, want %d", len(seen), 3*each)
	}
}

// TestDevicesNeverShareAHandshakeGeneration: every attempt at a Commit uses up
// its own, whichever device makes it and whether or not it is accepted.
func TestDevicesNeverShareAHandshakeGeneration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	second := alice.sibling()
	conv, err := alice.member(t.Context(), alice.self, id)
	if err != nil {
		t.Fatal(err)
	}
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/tx") && isCommit(t, e, alice) }, faults["500 page"])
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(carol)}); err == nil {
		t.Fatal("the fault had no effect")
	}
	w.wire.set(nil, nil)
	var got []uint32
	for _, d := range []*device{second, alice, second, alice} {
		n, err := d.reserveHandshake(t.Context(), d.self, conv)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n)
	}
	if !slices.Equal(got, []uint32{1, 2, 3, 4}) { // the failed attempt had 0
		t.Errorf("generations %v", got)
	}
	alice.ensureGroup(id, carol)
	bob.reads(second.encrypt(id, "still in step"), "still in step", alice)
}

// TestOneDeviceUsesItsClientConcurrently checks the same within one Client.
func TestOneDeviceUsesItsClientConcurrently(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	ids := []ConversationID{alice.ensureDialog(bob), alice.ensureDialog(carol), newID(t)}
	alice.ensureGroup(ids[2], bob, carol)
	type place struct {
		id         ConversationID
		generation uint32
	}
	var mu sync.Mutex
	seen := map[place]bool{}
	var wg sync.WaitGroup
	for n := range 24 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			id := ids[n%3]
			b, err := alice.Encrypt(t.Context(), alice.self, id, []byte("x"), nil)
			if err != nil {
				t.Errorf("encrypt: %v", err)
				return
			}
			p, err := alice.Decrypt(t.Context(), alice.self, b)
			if err != nil {
				t.Errorf("decrypt: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if at := (place{id, p.Generation}); seen[at] {
				t.Errorf("generation %d twice", p.Generation)
			} else {
				seen[at] = true
			}
		}()
	}
	wg.Wait()
}

func TestSiblingFollowsCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob)
	second := alice.sibling()
	second.ensureGroup(id, carol) // the other device commits
	alice.cleanSync()
	if s := alice.state(id); s.Epoch != 2 || len(s.Members) != 3 {
		t.Fatalf("first device: %+v", s)
	}
	alice.ensureGroup(id, dave) // and the first one goes on from there
	text := second.encrypt(id, "from the second device")
	for _, d := range []*device{alice, bob, carol, dave} {
		d.reads(text, "from the second device", alice)
	}
	bob.ensureGroup(id) // no change
	if err := bob.Remove(t.Context(), bob.self, id, accounts(dave)); err != nil {
		t.Fatal(err)
	}
	second.cleanSync()
	alice.cleanSync()
	if a, b := alice.state(id), second.state(id); a.Epoch != 4 || b.Epoch != 4 {
		t.Errorf("epochs %d and %d, want 4", a.Epoch, b.Epoch)
	}
}

// TestSiblingsCommitAtOnce: both devices own the same leaf; neither may make a
// Commit that the other's stored state does not know.
func TestSiblingsCommitAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob)
	second := alice.sibling()
	var wg sync.WaitGroup
	for d, add := range map[*device]*device{alice: carol, second: dave} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := d.Ensure(t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(add)}); err != nil {
				t.Errorf("ensure: %v", err)
			}
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, d := range []*device{alice, second, bob, carol, dave} {
		d.cleanSync()
		if s := d.state(id); s.Epoch != 3 || len(s.Members) != 4 {
			t.Fatalf("%s: %+v", d.self, s)
		}
	}
	text := alice.encrypt(id, "all here")
	for _, d := range []*device{second, bob, carol, dave} {
		d.reads(text, "all here", alice)
	}
}

func TestPersonalData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	sealed, err := alice.SealPersonal(t.Context(), alice.self, []byte("draft"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := alice.sibling().OpenPersonal(t.Context(), alice.self, sealed)
	if err != nil || string(got) != "draft" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got, err := bob.OpenPersonal(t.Context(), bob.self, sealed); err == nil {
		t.Errorf("Bob read %q", got)
	}
	sealed[len(sealed)-1] ^= 1
	if got, err := alice.OpenPersonal(t.Context(), alice.self, sealed); err == nil {
		t.Errorf("altered data opened: %q", got)
	}
}

func TestTwoAccountsOfOneUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	work := account("alice-at-work")
	if err := alice.AddAccount(t.Context(), work); err != nil {
		t.Fatal(err)
	}
	a, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	b, err := alice.identity(t.Context(), work)
	if err != nil {
		t.Fatal(err)
	}
	if string(a.Seed) == string(b.Seed) {
		t.Error("two accounts share an identity key, which links them for ever")
	}
	id := newID(t)
	bob.ensureGroup(id, alice)
	if _, err := bob.Ensure(t.Context(), bob.self, Conversation{ID: id, Kind: KindGroup, Members: []Account{work}}); err != nil {
		t.Fatal(err)
	}
	m := bob.encrypt(id, "to both")
	for _, self := range []Account{alice.self, work} {
		p, err := alice.Decrypt(t.Context(), self, m)
		if err != nil || string(p.Data) != "to both" {
			t.Errorf("%s: %v, %v", self, p, err)
		}
	}
	m, err = alice.Encrypt(t.Context(), work, id, []byte("from work"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := bob.decrypt(m); p.Sender != work {
		t.Errorf("sender %s", p.Sender)
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	second := alice.sibling()
	if err := second.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Encrypt(t.Context(), second.self, id, []byte("x"), nil); err == nil {
		t.Error("a device that signed out encrypts")
	}
	if _, err := Resume(t.Context(), w.options(second.store)); err == nil {
		t.Error("a device that signed out resumes")
	}
	bob.reads(alice.encrypt(id, "still here"), "still here", alice)
}

// TestFlaw06_KeysAreRefreshed: after 200 messages and after a week the member commits
// to fresh keys, so that what was stolen before is of no use after (F6).
func TestFlaw06_KeysAreRefreshed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	leafKey := func() string {
		g, _, err := alice.reader(t.Context(), alice.self).group(alice.state(id).group(t, alice), alice.state(id).Epoch)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range g.Members() {
			if m.Leaf == g.OwnLeaf() {
				return string(m.SignatureKey) + string(m.EncryptionKey)
			}
		}
		return ""
	}
	first := leafKey()
	for n := range updateAfterMessages + 1 {
		bob.reads(alice.encrypt(id, fmt.Sprint(n)), fmt.Sprint(n), alice)
	}
	if e := alice.state(id).Epoch; e != 2 {
		t.Fatalf("epoch %d after %d messages, want 2", e, updateAfterMessages+1)
	}
	second := leafKey()
	w.clock.advance(updateAfter)
	bob.reads(alice.encrypt(id, "a week later"), "a week later", alice)
	if e := alice.state(id).Epoch; e != 3 {
		t.Fatalf("epoch %d after a week, want 3", e)
	}
	if third := leafKey(); first == second || second == third {
		t.Error("a refresh kept the leaf's keys")
	}
}

// TestFlaw06_OnlyTheCurrentGroupIsKept: 2022 kept all secrets of every epoch
// for ever. Of past epochs only what reading takes may remain.
func TestFlaw06_OnlyTheCurrentGroupIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob)
	group := alice.state(id).group(t, alice)
	v := alice.reader(t.Context(), alice.self)
	before, _, err := v.group(group, alice.state(id).Epoch)
	if err != nil {
		t.Fatal(err)
	}
	alice.ensureGroup(id, carol)
	bob.cleanSync()
	now, _, err := v.group(group, alice.state(id).Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if now.Epoch() != before.Epoch()+1 {
		t.Fatalf("the stored group is of epoch %d", now.Epoch())
	}
	old, err := v.get(epochKey(alice.self, group, uint64(before.Epoch())))
	if err != nil {
		t.Fatal(err)
	}
	token, err := commitToken(before)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{old, old[1:], old[9:]} {
		if _, err := mls.UnmarshalGroup(b, nil, validateCredential); err == nil {
			t.Error("the archive record of a past epoch is a group")
		}
	}
	if bytes.Contains(old, token) {
		t.Error("the archive record holds more than reading takes")
	}
}
