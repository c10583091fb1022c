package cloudmls

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// heldWelcome is one that waits until an account's other key is accepted.
func heldWelcome(seq uint64, size int, sender Account) *keyapi.Delivery {
	return &keyapi.Delivery{Seq: seq, Conversation: make([]byte, 16), Sender: sender, Message: make([]byte, size)}
}

// heldSeqs lists what is held, oldest first.
func (r *inboxRecord) heldSeqs() (seqs []uint64) {
	for _, h := range r.Held {
		seqs = append(seqs, h.Seq)
	}
	return seqs
}

// TestHeldWelcomesAreBounded: Welcomes that wait until another identity key is
// accepted have room in the inbox record together. The oldest make room, told;
// nothing that others send makes a record that cannot be stored, which would stop
// the account for good.
func TestHeldWelcomesAreBounded(t *testing.T) {
	t.Parallel()
	r := &inboxRecord{Version: recordVersion}
	told := 0
	for i := range uint64(3 * maxHeld) {
		a := account(fmt.Sprint(i))
		told += len(r.hold(heldWelcome(i, maxHeldSize, a), a))
		if r.heldSize() > maxHeldTotal {
			t.Fatalf("%d octets are held", r.heldSize())
		}
	}
	if want := maxHeldTotal / maxHeldSize; len(r.Held) != want || told != 3*maxHeld-want || r.Held[0].Seq != uint64(3*maxHeld-want) {
		t.Errorf("%d are held, from %d on, and %d told; want the last %d", len(r.Held), r.Held[0].Seq, told, want)
	}
	before := r.heldSeqs()
	alice := account("alice")
	if p := r.hold(heldWelcome(999, maxHeldSize+1, alice), alice); len(p) != 1 || p[0].Seq != 999 || p[0].Kind != ProblemForbidden || p[0].Err == nil ||
		!slices.Equal(r.heldSeqs(), before) {
		t.Errorf("one that is too large: %+v", p)
	}
	r = &inboxRecord{Version: recordVersion}
	for i := range uint64(maxHeld) {
		a := account(fmt.Sprint(i))
		if p := r.hold(heldWelcome(i, 1, a), a); len(p) != 0 {
			t.Fatalf("Welcome %d made room: %+v", i, p)
		}
	}
	if p := r.hold(heldWelcome(999, 1, alice), alice); len(r.Held) != maxHeld || len(p) != 1 || p[0].Seq != 0 || p[0].Sender != account("0") {
		t.Errorf("%d small ones are held, %+v", len(r.Held), p)
	}
}

// TestThreat45_HeldWelcomesHaveShares: whoever shows one key after another under the
// name of one account pushes out what waits for that account, its oldest first, and
// nothing that waits for others, be it by number or by size; and whoever does that
// with several names pushes out what they have most of, before the one Welcome of
// somebody else.
func TestThreat45_HeldWelcomesHaveShares(t *testing.T) {
	t.Parallel()
	bob, mallory := account("bob"), account("mallory")
	for name, size := range map[string]int{"small": 1, "large": maxHeldSize/maxHeldOfOne + 1, "as large as fits": maxHeldSize / maxHeldOfOne} {
		r := &inboxRecord{Version: recordVersion}
		r.hold(heldWelcome(1, 1, bob), bob)
		fit := min(maxHeldOfOne, maxHeldSize/size)
		for i := range uint64(2 * maxHeld) {
			p := r.hold(heldWelcome(100+i, size, mallory), mallory)
			if i < uint64(fit) && len(p) != 0 || i >= uint64(fit) && (len(p) != 1 || p[0].Seq != 100+i-uint64(fit) || p[0].Sender != mallory) {
				t.Fatalf("%s, Welcome %d: told %+v", name, i, p)
			}
		}
		n, octets := r.heldFor(mallory)
		if n != fit || octets > maxHeldSize || !slices.Contains(r.heldSeqs(), 1) {
			t.Errorf("%s: %d of Mallory's with %d octets are held: %v", name, n, octets, r.heldSeqs())
		}
	}
	for name, size := range map[string]int{"small": 1, "large": maxHeldSize / maxHeldOfOne} {
		r := &inboxRecord{Version: recordVersion}
		r.hold(heldWelcome(1, size, bob), bob) // the oldest of all
		for i := range uint64(4 * maxHeld) {
			a := account(fmt.Sprint("mallory", i%8))
			r.hold(heldWelcome(100+i, size, a), a)
		}
		if !slices.Contains(r.heldSeqs(), 1) || len(r.Held) > maxHeld || r.heldSize() > maxHeldTotal {
			t.Errorf("%s: %v are held, %d octets", name, r.heldSeqs(), r.heldSize())
		}
		if p := r.hold(heldWelcome(2, size, bob), bob); len(p) != 1 || p[0].Sender == bob || len(r.Held) != maxHeld {
			t.Errorf("%s: for a second one %+v made room, %v are held", name, p, r.heldSeqs())
		}
	}
}

// TestHeldWelcomesAreWeighed: neither does a large Welcome of one account give way to
// many small ones of another where there are too many, nor small ones to large ones
// where they are too large.
func TestHeldWelcomesAreWeighed(t *testing.T) {
	t.Parallel()
	bob, mallory, carol := account("bob"), account("mallory"), account("carol")
	many := &inboxRecord{Version: recordVersion}
	many.hold(heldWelcome(1, maxHeldTotal/maxHeld+1, bob), bob)
	for i := range uint64(maxHeld - 1) {
		a := mallory
		if i >= maxHeldOfOne {
			a = account(fmt.Sprint(i))
		}
		many.hold(heldWelcome(100+i, 1, a), a)
	}
	if p := many.hold(heldWelcome(2, 1, carol), carol); len(p) != 1 || p[0].Sender != mallory || p[0].Seq != 100 {
		t.Errorf("too many: %+v made room", p)
	}
	large := &inboxRecord{Version: recordVersion}
	large.hold(heldWelcome(1, 1, bob), bob)
	large.hold(heldWelcome(2, 1, bob), bob)
	for i := range uint64(maxHeldTotal/maxHeldSize - 1) {
		a := account(fmt.Sprint(i))
		large.hold(heldWelcome(100+i, maxHeldSize, a), a)
	}
	if p := large.hold(heldWelcome(3, maxHeldSize, carol), carol); len(p) != 1 || p[0].Seq != 100 {
		t.Errorf("too large: %+v made room", p)
	}
}

// TestHeldWelcomesDoNotBlock: the same where a Sync holds one more than a record
// has room for.
func TestHeldWelcomesDoNotBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	err := bob.update(t.Context(), bob.self, func(_ *state.Tx, v *view) error {
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		for len(inbox.Held) < 11 { // nearly 15 MiB in base64
			inbox.Held = append(inbox.Held, heldDelivery{
				Conversation: []byte(fmt.Sprintf("conversation %2d ", len(inbox.Held)))[:16], Message: make([]byte, maxHeldSize), Changed: alice.self,
			})
		}
		return v.put(inboxKey(bob.self), inbox)
	})
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.ballast = 900_000
	d, _ := f.welcome(alice.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, bob)
	r := w.deliver(bob, mallory, d)
	if !hasProblem(r, ProblemIdentityChanged) || !hasProblem(r, ProblemForbidden) {
		t.Errorf("%+v", r.Problems)
	}
	inbox, err := bob.reader(t.Context(), bob.self).inbox()
	if err != nil || inbox.heldSize() > maxHeldTotal || !slices.ContainsFunc(inbox.Held, func(h heldDelivery) bool { return string(h.Group) == string(d.Group) }) {
		t.Errorf("%d octets are held, %v", inbox.heldSize(), err)
	}
	mallory.mustSync()
	other := bob.ensureDialog(mallory)
	mallory.mustSync()
	mallory.reads(bob.encrypt(other, "goes on"), "goes on", bob)
}
