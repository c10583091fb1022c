package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func TestDialog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	if id != groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID) {
		t.Fatalf("id %s is not the dialog's", id)
	}
	first := alice.encrypt(id, "hello Bob")
	bob.reads(first, "hello Bob", alice) // syncs by itself
	second := bob.encrypt(id, "hello Alice")
	alice.reads(second, "hello Alice", bob)
	alice.reads(first, "hello Bob", alice)
	bob.reads(first, "hello Bob", alice) // again
	s := bob.state(id)
	if s.Kind != KindDialog || len(s.Members) != 2 || !s.Encrypted || s.Epoch != 1 {
		t.Errorf("state %+v", s)
	}
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: accounts(bob)}); err != nil {
		t.Errorf("ensure again: %v", err)
	}
	if got := alice.state(id).Epoch; got != 1 {
		t.Errorf("ensuring an existing dialog opened epoch %d", got)
	}
}

func TestSelfConversation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	s, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindSelf, Members: accounts(alice)})
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != groupid.Self(PlatformEmail, alice.self.ID) || len(s.Members) != 1 {
		t.Fatalf("state %+v", s)
	}
	note := alice.encrypt(s.ID, "note to self")
	alice.sibling().reads(note, "note to self", alice)
}

func TestAccountsAreCanonical(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	shouted := Account{Platform: PlatformEmail, ID: "BOB@Example.ORG"}
	s, err := alice.Ensure(t.Context(), Account{Platform: PlatformEmail, ID: "Alice@EXAMPLE.org"}, Conversation{Kind: KindDialog, Members: []Account{shouted}})
	if err != nil || s.ID != id {
		t.Fatalf("got %v, %v; want the same dialog", s, err)
	}
}

// TestFlaw35_BinarySafe: 2022 kept one octet per UTF-16 unit, and 200 KB
// overflowed its stack.
func TestFlaw35_BinarySafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, data := range map[string][]byte{
		"utf-8":   []byte("Grüße 日本 😀"),
		"octets":  every,
		"empty":   {},
		"zeros":   make([]byte, 1000),
		"200 KB":  bytes.Repeat([]byte("0123456789abcdef"), 200<<10/16),
		"invalid": {0xff, 0xfe, 0x80, 0},
	} {
		b, err := alice.Encrypt(t.Context(), alice.self, id, data, []byte("aad \x00\xff"))
		if err != nil {
			t.Fatalf("%s: encrypt: %v", name, err)
		}
		p := bob.decrypt(b)
		if !bytes.Equal(p.Data, data) || string(p.AAD) != "aad \x00\xff" {
			t.Errorf("%s: got %d octets, want %d", name, len(p.Data), len(data))
		}
	}
}

func TestSizesArePadded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	if a, b := alice.encrypt(id, "xxx"), alice.encrypt(id, strings.Repeat("x", 100)); len(a) != len(b) {
		t.Errorf("short messages have sizes %d and %d", len(a), len(b))
	}
	last := 0
	for n := range 5000 {
		p := padme(n)
		if p < n || p < last || p < minPadded || n > minPadded && p > n+n*12/100+1 {
			t.Fatalf("padme(%d) = %d after %d", n, p, last)
		}
		last = p
	}
}

// TestSeedFlaw05_GroupIDsAreRandom: 2022 named groups by the two addresses.
func TestSeedFlaw05_GroupIDsAreRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	seen := map[string]bool{}
	alice.ensureDialog(bob)
	alice.ensureDialog(carol)
	alice.ensureGroup(newID(t), bob, carol)
	alice.ensureGroup(newID(t), bob, carol)
	n := 0
	for _, e := range w.wire.requests() {
		if !e.is("POST", "/v1/tx") || e.status != 200 {
			continue
		}
		tx := decodeJSON[keyapi.Tx](t, e.sent)
		if tx.Commit == nil {
			continue
		}
		n++
		g := tx.Commit.Group
		if len(g) != 32 || seen[string(g)] || bytes.Contains(g, tx.Commit.Conversation) || bytes.Contains(g, []byte("alice")) {
			t.Errorf("group_id %x of conversation %x", g, tx.Commit.Conversation)
		}
		seen[string(g)] = true
	}
	if n != 4 {
		t.Fatalf("%d groups were made, want 4", n)
	}
}

func TestBothSidesCreateTheDialogAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	var ids [2]ConversationID
	var wg sync.WaitGroup
	for i, pair := range [][2]*device{{alice, bob}, {bob, alice}} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			s, err := pair[0].Ensure(t.Context(), pair[0].self, Conversation{Kind: KindDialog, Members: accounts(pair[1])})
			if err != nil {
				t.Errorf("%s: %v", pair[0].self, err)
				return
			}
			ids[i] = s.ID
		}()
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if ids[0] != ids[1] {
		t.Fatalf("two conversations: %s, %s", ids[0], ids[1])
	}
	alice.cleanSync()
	bob.cleanSync()
	a, err := alice.reader(t.Context(), alice.self).conversation(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := bob.reader(t.Context(), bob.self).conversation(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Group, b.Group) || len(a.Past)+len(b.Past) != 0 {
		t.Fatalf("two instances: %x, %x", a.Group, b.Group)
	}
	bob.reads(alice.encrypt(ids[0], "one"), "one", alice)
	alice.reads(bob.encrypt(ids[0], "two"), "two", bob)
}

func TestEncryptNeedsAConversation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID)
	if b, err := alice.Encrypt(t.Context(), alice.self, id, []byte("text"), nil); !errors.Is(err, ErrNoConversation) || b != nil {
		t.Errorf("got %q, %v; want ErrNoConversation and nothing", b, err)
	}
	if _, err := alice.Encrypt(t.Context(), bob.self, id, []byte("text"), nil); !errors.Is(err, ErrNoAccount) {
		t.Errorf("another's account: %v, want ErrNoAccount", err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	waited := make(chan error, 1)
	go func() { waited <- bob.Wait(t.Context(), bob.self) }()
	id := alice.ensureDialog(bob)
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if r := bob.cleanSync(); len(r.Joined) != 1 || r.Joined[0] != id {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { waited <- bob.Wait(ctx, bob.self) }()
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
}

func TestWrongConversationsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	telegram := Account{Platform: "telegram", ID: "12345"}
	for name, c := range map[string]Conversation{
		"dialog of three":      {Kind: KindDialog, Members: accounts(bob, carol)},
		"dialog of one":        {Kind: KindDialog, Members: accounts(alice)},
		"another dialog's id":  {Kind: KindDialog, ID: groupid.Dialog(PlatformEmail, bob.self.ID, carol.self.ID), Members: accounts(bob)},
		"group without an id":  {Kind: KindGroup, Members: accounts(bob)},
		"kind unknown":         {Kind: 9, Members: accounts(bob)},
		"two platforms":        {Kind: KindGroup, ID: newID(t), Members: []Account{bob.self, telegram}},
		"self with somebody":   {Kind: KindSelf, Members: accounts(bob)},
		"address unacceptable": {Kind: KindGroup, ID: newID(t), Members: []Account{{Platform: PlatformEmail, ID: "no address"}}},
	} {
		if s, err := alice.Ensure(t.Context(), alice.self, c); err == nil {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if n := w.wire.count("POST", "/v1/keypackages/email/bob@example.org/claim"); n != 0 {
		t.Errorf("%d KeyPackages were used up", n)
	}
}

// TestDialogsHistoryIsToldWhenItChanges: the other side begins a dialog anew, and
// its messages are kept for ever from then on. That is theirs to choose, as they
// can keep what they like anyway; nobody is left in the belief that they are not.
func TestDialogsHistoryIsToldWhenItChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	s, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindDialog, Members: accounts(bob), HistoryDays: 30})
	if err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	who, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity = who.private()
	for _, tt := range []struct {
		days uint32
		want string
	}{
		{0, "; its messages are kept for ever, those of the one before for 30 days"},
		{0, ""},
		{7, "; its messages are kept for 7 days, those of the one before for ever"},
	} {
		d, _ := f.welcome(alice.self, binding{kind: KindDialog, conversation: s.ID, origin: w.ks.Origin, days: tt.days}, bob)
		w.deliver(bob, mallory, d)
		told := bob.notices(NoticeReplaced)
		if len(told) == 0 || told[0].Text != "another group serves the conversation now"+tt.want || bob.state(s.ID).HistoryDays != tt.days {
			t.Errorf("kept for %d days: told %+v", bob.state(s.ID).HistoryDays, told)
		}
	}
}
