package cloudmls

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// TestInventedMembersUseUpNoLookUps: somebody invites Bob to a group of hundreds
// of members that nobody is. He asks the key server about few of them at a time,
// and ever more rarely, so that it goes on to tell him of those that he writes to.
func TestInventedMembersUseUpNoLookUps(t *testing.T) {
	t.Parallel()
	limits := keyservertest.Unlimited()
	limits.LookUps = keyserver.Rate{Burst: 200, Every: time.Minute}
	w := newWorldWith(t, keyserver.Options{Limits: limits})
	bob, mallory, carol := w.user("bob"), w.user("mallory"), w.user("carol")
	dialog := bob.ensureDialog(carol)
	who, err := mallory.identity(t.Context(), mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.identity, f.invented = who.private(), 300
	id := newID(t)
	d, _ := f.welcome(mallory.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob)
	w.wire.reset()
	if r := w.deliver(bob, mallory, d); !slices.Contains(r.Joined, id) {
		t.Fatalf("the attack does not begin: %+v", r)
	}
	lookUps := func(what string, limit int) {
		t.Helper()
		if n := w.wire.count("GET", "/v1/reachable"); n > limit {
			t.Errorf("%s: %d look-ups", what, n)
		}
		w.wire.reset()
	}
	lookUps("a Sync", confirmPage)
	for range 10 {
		bob.mustSync()
	}
	lookUps("ten more", askBudget-confirmPage)
	for range 24 {
		if _, err := bob.Reach(t.Context(), bob.self, carol.self); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(askWindow)
		w.wire.reset()
		bob.encrypt(dialog, "hello carol")
		lookUps("an Encrypt", confirmPage+1)
	}
}

// TestSenderWhoIsGoneIsAskedAboutOnce, not with each of their messages.
func TestSenderWhoIsGoneIsAskedAboutOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	alice.ensureGroup(id, bob)
	var all [][]byte
	for range 5 {
		all = append(all, alice.encrypt(id, "hello"))
	}
	gone := func(e *exchange) {
		if e.is("GET", "/v1/reachable/") && e.status == 200 {
			e.answered = encodeJSON(t, keyapi.Reachability{Account: alice.self})
		}
	}
	w.wire.set(nil, gone)
	bob.mustSync()
	w.clock.advance(confirmAgain)
	w.wire.reset()
	for _, b := range all {
		bob.warned(b, WarningIdentityUnknown)
	}
	n := 0
	for _, e := range w.wire.requests() {
		if e.is("GET", "/v1/reachable") && e.status == 200 { // not those whose token had expired
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d look-ups for %d messages", n, len(all))
	}
	w.wire.set(nil, nil)
	bob.warned(all[0], WarningIdentityUnknown)
	w.clock.advance(confirmLater)
	bob.reads(all[0], "hello", alice)
}

// TestQuestionsAreSpread: whom the key server was asked about least comes first,
// and the pauses grow.
func TestQuestionsAreSpread(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	self := account("self")
	r := &contactsRecord{}
	for _, name := range []string{"a", "b", "c"} {
		r.note(memberEntry{Platform: PlatformEmail, ID: name, IdentityKey: []byte(name)}, false, now)
	}
	var x asked
	names := func() (s string) {
		for _, p := range x.due(self, r.toConfirm(nil), now) {
			s += p.ID
		}
		return s
	}
	x.note(self, &r.Pins[0], now)
	if got := names(); got != "bc" {
		t.Errorf("after one question: %q", got)
	}
	now = now.Add(confirmAgain)
	x.note(self, &r.Pins[1], now)
	if got := names(); got != "ca" {
		t.Errorf("after an hour: %q", got)
	}
	for _, pause := range []time.Duration{confirmLater, confirmRarely, confirmRarely} {
		x.note(self, &r.Pins[0], now)
		now = now.Add(pause - time.Second)
		if got := names(); got[len(got)-1] == 'a' {
			t.Errorf("asked again within %v: %q", pause, got)
		}
		if now = now.Add(time.Second); names()[2] != 'a' {
			t.Errorf("not asked again after %v: %q", pause, names())
		}
	}
}

// TestBudgetOfQuestions: it is full again after an hour, whatever the clock does.
func TestBudgetOfQuestions(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var b budget
	drain := func() (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	if n := drain(); n != askBudget {
		t.Errorf("%d questions", n)
	}
	b.giveBack()
	if n := drain(); n != 1 {
		t.Errorf("%d questions after one was given back", n)
	}
	for _, d := range []time.Duration{askWindow, -365 * 24 * time.Hour} {
		if now = now.Add(d); drain() != askBudget {
			t.Errorf("after %v there are none", d)
		}
	}
	now = now.Add(askWindow)
	b.spend(now)
	if n := drain(); n != 0 {
		t.Errorf("%d questions after the rest was spent", n)
	}
	if (*budget)(nil).take(now) != true {
		t.Error("who is written to is not asked about")
	}
}

// TestThreat44_RotationsOfContactsAreAskedFirst: somebody has shown Bob hundreds of
// members that nobody is, and the questions about them are used up. That a contact has
// replaced a key, which may be in a thief's hands, he finds out at the next Sync.
func TestThreat44_RotationsOfContactsAreAskedFirst(t *testing.T) {
	t.Parallel()
	for name, syncs := range map[string]int{"the invented ones are in front": 0, "their questions are used up": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			bob, mallory, zoe := w.user("bob"), w.user("mallory"), w.user("zoe") // after nobody1 … in the record
			bob.ensureDialog(zoe)
			zoe.cleanSync()
			who, err := mallory.identity(t.Context(), mallory.self)
			if err != nil {
				t.Fatal(err)
			}
			f := w.forger()
			f.identity, f.invented = who.private(), 200
			id := newID(t)
			d, _ := f.welcome(mallory.self, binding{kind: KindGroup, conversation: id, origin: w.ks.Origin}, bob)
			if r := w.deliver(bob, mallory, d); !slices.Contains(r.Joined, id) {
				t.Fatalf("the attack does not begin: %+v", r)
			}
			for range syncs {
				bob.mustSync()
			}
			before := zoe.ownKey()
			if err := zoe.Rotate(t.Context(), RotateOptions{}); err != nil {
				t.Fatal(err)
			}
			if syncs == 0 { // rotations without questions left keep none of the others waiting
				bob.asked.rotating.of(rotationBudget).spend(w.clock.now())
				w.wire.reset()
				if r := bob.mustSync(); len(r.Rotated) != 0 || w.wire.count("GET", "/v1/reachable") < confirmPage {
					t.Errorf("without questions for rotations: %+v after %d look-ups", r, w.wire.count("GET", "/v1/reachable"))
				}
				w.clock.advance(askWindow)
			}
			w.wire.reset()
			if r := bob.mustSync(); !slices.Equal(r.Rotated, []Account{zoe.self}) {
				t.Errorf("the next Sync says %+v after %d look-ups", r, w.wire.count("GET", "/v1/reachable"))
			}
			contacts, err := bob.reader(t.Context(), bob.self).contacts()
			if err != nil {
				t.Fatal(err)
			}
			if p := contacts.find(zoe.self); bytes.Equal(p.Key, before) || !bytes.Equal(p.Key, zoe.ownKey()) {
				t.Errorf("the key before still counts: %+v", p)
			}
		})
	}
}

// TestThreat44_RotationsTakeTurns: those who sign one rotation after another of keys of
// their own come after contacts whose rotations were asked about longer ago, and of those never
// asked about the ones known longest come first.
func TestThreat44_RotationsTakeTurns(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	self := account("self")
	r := &contactsRecord{}
	for i := range 2 * rotationBudget { // accounts that exist
		r.Pins = append(r.Pins, pinEntry{Platform: PlatformEmail, ID: fmt.Sprintf("a%02d", i), Key: []byte{1}, Next: []byte{2}, Since: 2})
	}
	for i := range 2 * confirmPage {
		r.Pins = append(r.Pins, pinEntry{Platform: PlatformEmail, ID: fmt.Sprintf("b%02d", i), Key: []byte{1}, Next: []byte{2}, Unconfirmed: true})
	}
	r.Pins = append(r.Pins, pinEntry{Platform: PlatformEmail, ID: "z", Key: []byte{1}, Next: []byte{2}, Since: 1})
	contact := &r.Pins[len(r.Pins)-1]
	var x asked
	page := func() []*pinEntry { return x.page(self, x.due(self, r.toConfirm(nil), now)) }
	ask := func() {
		for _, p := range page() {
			x.note(self, p, now)
		}
	}
	list := page()
	if len(list) != rotationBudget+confirmPage || list[0] != contact || !list[rotationBudget-1].rotating() || list[rotationBudget].rotating() {
		t.Fatalf("%d questions, the first about %s", len(list), list[0].ID)
	}
	for i := range 3 { // the others sign anew each time
		now = now.Add(time.Minute)
		ask()
		for j := range 2 * rotationBudget {
			r.Pins[j].Next = []byte{byte(3 + i)}
		}
	}
	contact.Next, contact.Since = []byte{9}, 3 // not known longest: it has waited longest
	if turn := slices.Index(page(), contact); turn != 0 {
		t.Errorf("the contact's turn is %d", turn)
	}
}

// TestThreat44_RotationsHaveQuestionsOfTheirOwn, which nothing else uses up, and they
// none of the others'.
func TestThreat44_RotationsHaveQuestionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	invented := &pinEntry{Key: []byte{1}, Next: []byte{2}, Unconfirmed: true}
	known := &pinEntry{Key: []byte{1}, Next: []byte{2}}
	for _, order := range [][]*pinEntry{{invented, known}, {known, invented}} {
		var x asked
		for _, p := range order {
			n := 0
			for x.forSync(p).take(now) {
				n++
			}
			if want := map[*pinEntry]int{invented: askBudget, known: rotationBudget}[p]; n != want {
				t.Errorf("%d questions instead of %d", n, want)
			}
		}
		if !x.forReader(known).take(now) {
			t.Error("none is left for a message that is read")
		}
	}
}
