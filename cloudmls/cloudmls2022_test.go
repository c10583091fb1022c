package cloudmls_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// The 19 tests of the CloudMLS library of 2022, in its order, against this SDK's
// public API and a real key server. Where the two differ on purpose, the test
// says how.

// library is a key server and the users of it; what was one global of 2022 is a
// value here.
type library struct {
	t    *testing.T
	keys *evil.Server // an honest one in these tests, but for what 5 and 19 do

	mu  sync.Mutex
	now time.Time
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	l := &library{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	l.keys = evil.NewServer(t, evil.Options{Server: keyserver.Options{Now: l.clock}})
	return l
}

func (l *library) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(time.Millisecond)
	return l.now
}

func (l *library) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

const secretWord = "the password of 2022"

// person is a user signed in on one device.
type person struct {
	*cloudmls.Client
	l     *library
	name  string
	self  cloudmls.Account
	store cloudmls.LocalStore
}

func (l *library) options(store cloudmls.LocalStore) cloudmls.Options {
	key := sha256.Sum256([]byte("vault key"))
	return cloudmls.Options{
		Server: l.keys.Client("any"), Store: store, VaultKey: key[:], Origin: l.keys.Origin, DeviceName: "2022", Now: l.clock,
	}
}

func (l *library) register(names ...string) []*person {
	l.t.Helper()
	var all []*person
	for _, name := range names {
		p := &person{l: l, name: name, store: cloudmls.NewMemoryStore(), self: cloudmls.Account{Platform: "telegram", ID: name}}
		c, recovery, err := cloudmls.Register(l.t.Context(), name, secretWord, l.options(p.store))
		if err != nil {
			l.t.Fatalf("register %s: %v", name, err)
		}
		if recovery == nil || recovery.Code == "" {
			l.t.Fatalf("register %s: no recovery code", name)
		}
		p.Client = c
		l.t.Cleanup(func() { p.Close() })
		if err := c.AddAccount(l.t.Context(), p.self); err != nil {
			l.t.Fatalf("account of %s: %v", name, err)
		}
		all = append(all, p)
	}
	return all
}

// open signs a person in, on the device that has this store.
func (p *person) open(store cloudmls.LocalStore, word string) (*person, error) {
	c, err := cloudmls.Open(p.l.t.Context(), p.name, word, p.l.options(store))
	if err != nil {
		return nil, err
	}
	p.l.t.Cleanup(func() { c.Close() })
	return &person{Client: c, l: p.l, name: p.name, self: p.self, store: store}, nil
}

func (p *person) mustOpen() *person {
	p.l.t.Helper()
	q, err := p.open(cloudmls.NewMemoryStore(), secretWord)
	if err != nil {
		p.l.t.Fatal(err)
	}
	return q
}

func accountsOf(people []*person) []cloudmls.Account {
	var all []cloudmls.Account
	for _, p := range people {
		all = append(all, p.self)
	}
	slices.SortFunc(all, func(a, b cloudmls.Account) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return all
}

func (p *person) sync() cloudmls.SyncResult {
	p.l.t.Helper()
	r, err := p.Sync(p.l.t.Context(), p.self)
	if err != nil || len(r.Problems) != 0 {
		p.l.t.Fatalf("%s: sync: %+v, %v", p.name, r, err)
	}
	return r
}

func (p *person) send(id cloudmls.ConversationID, text string) []byte {
	p.l.t.Helper()
	b, err := p.Encrypt(p.l.t.Context(), p.self, id, []byte(text), nil)
	if err != nil {
		p.l.t.Fatalf("%s: encrypt: %v", p.name, err)
	}
	if len(text) >= 8 && evil.Find(b, []byte(text)) != "" {
		p.l.t.Fatalf("%s: the ciphertext holds the text", p.name)
	}
	return b
}

func (p *person) reads(message []byte, text string, from *person) {
	p.l.t.Helper()
	m, err := p.Decrypt(p.l.t.Context(), p.self, message)
	if err != nil {
		p.l.t.Fatalf("%s: decrypt %q: %v", p.name, text, err)
	}
	if string(m.Data) != text || m.Sender != from.self || !m.Verified {
		p.l.t.Fatalf("%s: %q of %s, verified %v; want %q of %s", p.name, m.Data, m.Sender, m.Verified, text, from.self)
	}
}

func (p *person) never(message []byte, why cloudmls.NeverReason) {
	p.l.t.Helper()
	var never *cloudmls.NeverError
	if m, err := p.Decrypt(p.l.t.Context(), p.self, message); !errors.As(err, &never) || never.Reason != why {
		p.l.t.Fatalf("%s: %+v, %v; want never: %s", p.name, m, err, why)
	}
}

// group gives a group as a person has it after a Sync.
func (p *person) group(id cloudmls.ConversationID, epoch uint64, members ...*person) {
	p.l.t.Helper()
	p.sync()
	s, err := p.Conversation(p.l.t.Context(), p.self, id)
	if err != nil {
		p.l.t.Fatalf("%s: %v", p.name, err)
	}
	if s.Epoch != epoch || !slices.Equal(s.Members, accountsOf(members)) || !s.Encrypted || s.Blocked != nil {
		p.l.t.Fatalf("%s: %+v; want epoch %d of %d people", p.name, s, epoch, len(members))
	}
}

func (l *library) id() cloudmls.ConversationID {
	l.t.Helper()
	id, err := groupid.New()
	if err != nil {
		l.t.Fatal(err)
	}
	return id
}

// ensure is the active side: somebody is added by name.
func (p *person) ensure(id cloudmls.ConversationID, members ...*person) {
	p.l.t.Helper()
	_, err := p.Ensure(p.l.t.Context(), p.self, cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: accountsOf(members)})
	if err != nil {
		p.l.t.Fatalf("%s: ensure: %v", p.name, err)
	}
}

func (p *person) remove(id cloudmls.ConversationID, members ...*person) {
	p.l.t.Helper()
	if err := p.Remove(p.l.t.Context(), p.self, id, accountsOf(members)); err != nil {
		p.l.t.Fatalf("%s: remove: %v", p.name, err)
	}
}

func TestCloudMLS2022_01_EverybodyRegisters(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob", "carol")
	if len(people) != 3 {
		t.Fatal(len(people))
	}
	_, _, err := cloudmls.Register(t.Context(), "alice", "another password", l.options(cloudmls.NewMemoryStore()))
	var p *keyapi.Problem
	if !errors.As(err, &p) || p.Code != keyapi.CodeTaken {
		t.Errorf("a name that is taken: %v", err)
	}
}

// isAuthenticated of 2022 is that a device has a client which is usable.
func TestCloudMLS2022_02_SignInAndSignOut(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	alice := l.register("alice")[0]
	alice.sync()
	if err := alice.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.Sync(t.Context(), alice.self); !errors.Is(err, cloudmls.ErrClosed) {
		t.Errorf("signed out: %v", err)
	}
	if _, err := cloudmls.Resume(t.Context(), l.options(alice.store)); err == nil {
		t.Error("a device that was signed out goes on without the password")
	}
	again, err := alice.open(alice.store, secretWord)
	if err != nil {
		t.Fatal(err)
	}
	again.sync()
	if devices, err := again.Devices(t.Context()); err != nil || len(devices) != 1 || !devices[0].SignedIn {
		t.Errorf("%+v, %v", devices, err)
	}
}

func TestCloudMLS2022_03_WrongPassword(t *testing.T) {
	t.Parallel()
	alice := newLibrary(t).register("alice")[0]
	if _, err := alice.open(cloudmls.NewMemoryStore(), "not the password"); !errors.Is(err, cloudmls.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	nobody := &person{l: alice.l, name: "nobody"}
	if _, err := nobody.open(cloudmls.NewMemoryStore(), secretWord); !errors.Is(err, cloudmls.ErrCredentials) {
		t.Errorf("an unknown name: %v", err)
	}
}

// The key store of 2022 is the sealed state: there after signing in, gone from the
// device after signing out, and the same one the next time.
func TestCloudMLS2022_04_SameKeysAfterEachSignIn(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	before, err := alice.ComparisonCode(t.Context(), alice.self, bob.self)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := alice.SealPersonal(t.Context(), alice.self, []byte("a draft"))
	if err != nil {
		t.Fatal(err)
	}
	if err := alice.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := cloudmls.Resume(t.Context(), l.options(alice.store)); err == nil {
		t.Error("keys are left on the device")
	}
	for name, store := range map[string]cloudmls.LocalStore{"the same device": alice.store, "another device": cloudmls.NewMemoryStore()} {
		again, err := alice.open(store, secretWord)
		if err != nil {
			t.Fatal(err)
		}
		after, err := again.ComparisonCode(t.Context(), alice.self, bob.self)
		if err != nil || after.String() != before.String() {
			t.Errorf("%s: another identity key: %v", name, err)
		}
		if b, err := again.OpenPersonal(t.Context(), alice.self, sealed); err != nil || string(b) != "a draft" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// Lifetimes were 30 days in 2022 and are 90 here.
func TestCloudMLS2022_05_Lifetime(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	claim := evil.ToAccount("POST", "/v1/keypackages", bob.self, "/claim")
	alice.ensure(l.id(), bob)
	var packages [][]byte
	for _, e := range l.keys.Log() {
		if e.Method == "POST" && e.Path == "/v1/keypackages/telegram/bob" && e.Status == 200 {
			packages = append(packages, uploaded(t, e)...)
		}
	}
	if len(packages) < 3 {
		t.Fatalf("%d KeyPackages were published", len(packages))
	}
	ensure := func(n int) error { // of the first pool, the post-quantum one
		lie := l.keys.Once(claim, evil.Say(200, keyapi.ClaimedKeyPackage{KeyPackage: packages[n]}))
		defer lie.Stop()
		_, err := alice.Ensure(t.Context(), alice.self, cloudmls.Conversation{ID: l.id(), Kind: cloudmls.KindGroup, Members: accountsOf(people[1:])})
		return err
	}
	if err := ensure(0); err != nil {
		t.Errorf("now: %v", err)
	}
	l.advance(89 * 24 * time.Hour)
	if err := ensure(1); err != nil {
		t.Errorf("after 89 days: %v", err)
	}
	l.advance(2 * 24 * time.Hour)
	var missing *cloudmls.MissingKeyPackagesError
	if err := ensure(2); !errors.As(err, &missing) {
		t.Errorf("after 91 days: %v", err)
	}
}

// PackageData of 2022 are the private parts of KeyPackages in the sealed state:
// any device of the user joins by them, and they are renewed.
func TestCloudMLS2022_06_KeyPackagesAreKeptAndRenewed(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	first := l.id()
	alice.ensure(first, bob)
	text := alice.send(first, "for a KeyPackage of the other device")
	phone := bob.mustOpen()
	phone.reads(text, "for a KeyPackage of the other device", alice)
	uploads := func() (all [][]byte) {
		for _, e := range l.keys.Log() {
			if e.Method == "POST" && e.Path == "/v1/keypackages/telegram/bob" {
				all = append(all, uploaded(t, e)...)
			}
		}
		return all
	}
	before := uploads()
	l.advance(8 * 24 * time.Hour)
	phone.sync()
	after := uploads()
	if len(after) <= len(before) {
		t.Error("nothing was renewed after a week")
	}
	seen := map[string]bool{}
	for _, b := range after {
		if seen[string(b)] {
			t.Error("a KeyPackage was published twice")
		}
		seen[string(b)] = true
	}
}

// uploaded gives the KeyPackages of an upload.
func uploaded(t *testing.T, e *evil.Exchange) [][]byte {
	t.Helper()
	u, err := evil.Sent[keyapi.KeyPackageUpload](e)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.LastResort) > 0 {
		return append([][]byte{u.LastResort}, u.KeyPackages...)
	}
	return u.KeyPackages
}

func TestCloudMLS2022_07_SeveralAccounts(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	mail, upper := cloudmls.Account{Platform: "email", ID: "alice@example.org"}, cloudmls.Account{Platform: "telegram", ID: "ALICE/2"}
	for _, a := range []cloudmls.Account{mail, upper} {
		if err := alice.AddAccount(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	want := []cloudmls.Account{mail, upper, alice.self}
	for name, d := range map[string]*person{"here": alice, "on another device": alice.mustOpen()} {
		if got, err := d.Accounts(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	err := bob.AddAccount(t.Context(), mail)
	var p *keyapi.Problem
	if !errors.As(err, &p) || p.Code != keyapi.CodeTaken {
		t.Errorf("an account of somebody else: %v", err)
	}
}

func TestCloudMLS2022_08_PassiveCreation(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob", "carol")
	id := l.id()
	people[0].update(id, people)
	for _, p := range people {
		p.group(id, 1, people...)
	}
}

func TestCloudMLS2022_09_ActiveCreation(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob", "carol")
	id := l.id()
	people[0].create(id, people)
	for _, p := range people {
		p.group(id, 1, people...)
	}
}

func TestCloudMLS2022_10_EverybodyReadsAll(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob", "carol")
	id := l.id()
	people[0].create(id, people)
	for n, from := range []int{0, 1, 2, 0} {
		text := fmt.Sprintf("Grüße %d, 日本 😀", n)
		message := people[from].send(id, text)
		for _, p := range people {
			p.reads(message, text, people[from])
		}
		people[n%3].mustOpen().reads(message, text, people[from])
	}
}

// addAndRemove is 11 and 12: the roster changes by what change does.
func (l *library) addAndRemove(change func(by *person, id cloudmls.ConversationID, now []*person)) {
	people := l.register("alice", "bob", "carol", "dave")
	alice, bob, carol, dave := people[0], people[1], people[2], people[3]
	id := l.id()
	change(alice, id, people[:3])
	one := alice.send(id, "message one")
	change(bob, id, people)
	for _, p := range people {
		p.group(id, 2, people...)
	}
	two := bob.send(id, "message two")
	without := []*person{alice, bob, dave}
	change(alice, id, without)
	three := dave.send(id, "message three")
	for _, p := range without {
		p.group(id, 3, without...)
	}
	alice.reads(one, "message one", alice)
	bob.reads(one, "message one", alice)
	carol.reads(one, "message one", alice) // what she could read she still can
	dave.never(one, cloudmls.NeverBeforeJoin)
	for _, p := range people {
		p.reads(two, "message two", bob)
	}
	for _, p := range without {
		p.reads(three, "message three", dave)
	}
	carol.never(three, cloudmls.NeverAfterRemoval)
	if _, err := carol.Encrypt(l.t.Context(), carol.self, id, []byte("hello?"), nil); !errors.Is(err, cloudmls.ErrNotMember) {
		l.t.Errorf("a removed member encrypts: %v", err)
	}
}

func TestCloudMLS2022_11_PassiveAddAndRemove(t *testing.T) {
	t.Parallel()
	newLibrary(t).addAndRemove(func(by *person, id cloudmls.ConversationID, now []*person) { by.update(id, now) })
}

func TestCloudMLS2022_12_ActiveAddAndRemove(t *testing.T) {
	t.Parallel()
	made := false
	newLibrary(t).addAndRemove(func(by *person, id cloudmls.ConversationID, now []*person) {
		switch {
		case !made:
			by.create(id, now)
			made = true
		case len(now) == 4:
			by.add(id, now[3:]...)
			by.add(id, now[3:]...) // those who are in it already are ignored
		default:
			by.remove(id, by.l.named("carol"))
		}
	})
}

// named is somebody by name, for lists of members.
func (l *library) named(name string) *person {
	return &person{l: l, name: name, self: cloudmls.Account{Platform: "telegram", ID: name}}
}

// oneFiveNone is 13 and 14: a group of one, five more, and none of them again.
func (l *library) oneFiveNone(first func(by *person, id cloudmls.ConversationID), add, remove func(by *person, id cloudmls.ConversationID, five []*person)) {
	people := l.register("alice", "bob", "carol", "dave", "erin", "frank")
	alice, five := people[0], people[1:]
	id := l.id()
	first(alice, id)
	alone := alice.send(id, "to myself")
	alice.reads(alone, "to myself", alice)
	start, err := alice.Conversation(l.t.Context(), alice.self, id)
	if err != nil {
		l.t.Fatal(err)
	}
	add(alice, id, five)
	for _, p := range people {
		p.group(id, start.Epoch+1, people...)
	}
	all := five[4].send(id, "to all")
	for _, p := range people {
		p.reads(all, "to all", five[4])
	}
	remove(alice, id, five)
	alice.group(id, start.Epoch+2, alice)
	again := alice.send(id, "alone again")
	for _, p := range five {
		p.sync()
		p.never(again, cloudmls.NeverAfterRemoval)
		p.never(alone, cloudmls.NeverBeforeJoin)
	}
	alice.reads(again, "alone again", alice)
}

// A list without anybody else is not taken for "remove all" when it comes from a
// platform: that is more likely a mistake. So the group of one, and the end of it,
// are made by name here, and the five in between by the list.
func TestCloudMLS2022_13_PassiveOneFiveNone(t *testing.T) {
	t.Parallel()
	newLibrary(t).oneFiveNone(
		func(by *person, id cloudmls.ConversationID) { by.ensure(id) },
		func(by *person, id cloudmls.ConversationID, five []*person) { by.update(id, append(five, by)) },
		func(by *person, id cloudmls.ConversationID, five []*person) { by.remove(id, five...) })
}

func TestCloudMLS2022_14_ActiveOneFiveNone(t *testing.T) {
	t.Parallel()
	newLibrary(t).oneFiveNone(
		func(by *person, id cloudmls.ConversationID) { by.ensure(id) },
		func(by *person, id cloudmls.ConversationID, five []*person) { by.add(id, five...) },
		func(by *person, id cloudmls.ConversationID, five []*person) { by.remove(id, five...) })
}

// updateAge is after how long a member renews its keys when it writes.
const updateAge = 7*24*time.Hour + time.Minute

func TestCloudMLS2022_15_Dialog(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	s, err := alice.Ensure(t.Context(), alice.self, cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: accountsOf(people)})
	if err != nil {
		t.Fatal(err)
	}
	one := alice.send(s.ID, "of epoch 1")
	bob.group(s.ID, 1, people...)
	for _, p := range people { // each renews its keys once
		p.sync()
		l.advance(updateAge)
		p.send(s.ID, "renewed")
	}
	for _, p := range people {
		p.group(s.ID, 3, people...)
		p.reads(one, "of epoch 1", alice)
		p.mustOpen().reads(one, "of epoch 1", alice)
	}
}

// A KeyPackage serves once here, so that what is renewed in groups are the
// members' leaves; everybody does it when its keys are a week old.
func TestCloudMLS2022_16_EverybodyRenews(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob", "carol", "dave")
	id := l.id()
	people[0].create(id, people)
	for _, p := range people {
		p.sync()
		l.advance(updateAge)
		p.send(id, "renewed")
	}
	for _, p := range people {
		p.group(id, 5, people...)
	}
	text := people[3].send(id, "in epoch 5")
	for _, p := range people {
		p.reads(text, "in epoch 5", people[3])
	}
}

func TestCloudMLS2022_17_OldEpochs(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	id := l.id()
	alice.create(id, people)
	first := alice.send(id, "of the first epoch")
	group := func() []keyapi.ObjectID { return evil.Changed(evil.State{}, l.keys.ObjectsOf("alice"), 9) }
	live := group()
	for range 3 {
		l.advance(updateAge)
		alice.send(id, "renewed")
	}
	if now := group(); len(live) != 1 || !slices.Equal(now, live) {
		t.Errorf("%d live groups are kept of four epochs", len(now))
	}
	bob.sync()
	bob.reads(first, "of the first epoch", alice) // the archive record of it is
}

func TestCloudMLS2022_18_ConcurrentCreation(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	var wg sync.WaitGroup
	var ids [2]cloudmls.ConversationID
	for i, p := range people {
		wg.Go(func() {
			s, err := p.Ensure(t.Context(), p.self, cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: accountsOf(people)})
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
				return
			}
			ids[i] = s.ID
		})
	}
	wg.Wait()
	if ids[0] != ids[1] || ids[0].IsZero() {
		t.Fatalf("%x and %x", ids[0], ids[1])
	}
	for i, p := range people {
		p.group(ids[0], 1, people...)
		text := fmt.Sprint("from ", p.name)
		people[1-i].reads(p.send(ids[0], text), text, p)
	}
}

// Decided: garbage is refused, with a typed error to whoever asked and a Problem
// in the Sync that found it; it changes nothing and blocks nothing.
func TestCloudMLS2022_19_Garbage(t *testing.T) {
	t.Parallel()
	l := newLibrary(t)
	people := l.register("alice", "bob")
	alice, bob := people[0], people[1]
	id := l.id()
	alice.create(id, people)
	bob.group(id, 1, people...)
	before, err := bob.Conversation(t.Context(), bob.self, id)
	if err != nil {
		t.Fatal(err)
	}
	c := l.keys.Conversation(cloudmls.KindGroup, keyserver.ConversationID(id))
	objects := l.keys.ObjectsOf("bob")
	sent := 0
	for _, kind := range []string{keyapi.DeliveryWelcome, keyapi.DeliveryCommit} {
		for _, message := range [][]byte{nil, []byte("garbage"), make([]byte, 4096), alice.send(id, "an application message")} {
			l.keys.Deliver(keyapi.Delivery{
				Type: kind, Conversation: id[:], Kind: cloudmls.KindGroup, Group: c.Group, Epoch: 2, Sender: alice.self, Message: message,
			}, bob.self)
			sent++
		}
	}
	r, err := bob.Sync(t.Context(), bob.self)
	if err != nil || len(r.Problems) != sent || len(r.Joined)+len(r.Changed)+len(r.Removed)+len(r.Replaced) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, p := range r.Problems {
		if p.Err == nil || p.Kind != cloudmls.ProblemGarbage && p.Kind != cloudmls.ProblemNoKeyPackage {
			t.Errorf("%+v", p)
		}
	}
	after, err := bob.Conversation(t.Context(), bob.self, id)
	if err != nil || after.Epoch != before.Epoch || !slices.Equal(after.Members, before.Members) || after.Blocked != nil {
		t.Errorf("%+v became %+v, %v", before, after, err)
	}
	for _, object := range []byte{5, 6, 8, 9, 10, 11, 12} { // identity, KeyPackages, conversation, group, sender, epoch, contacts
		if ids := evil.Changed(objects, l.keys.ObjectsOf("bob"), object); len(ids) != 0 {
			t.Errorf("objects of type %d changed", object)
		}
	}
	for name, message := range map[string][]byte{"nothing": nil, "text": []byte("garbage"), "zeros": make([]byte, 4096)} {
		var never *cloudmls.NeverError
		if m, err := bob.Decrypt(t.Context(), bob.self, message); !errors.As(err, &never) || m != nil {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	alice.reads(bob.send(id, "goes on"), "goes on", bob)
	bob.reads(alice.send(id, "goes on"), "goes on", alice)
}
