package cloudmls

import (
	"fmt"
	"testing"
	"time"
)

// TestQuestionsAndAClockThatWasSetBack: a question that was noted by a clock of the
// future keeps nobody waiting until then, nor does one that is new here.
func TestQuestionsAndAClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	self := account("self")
	p := &pinEntry{Platform: PlatformEmail, ID: "a", Key: []byte("key"), Unconfirmed: true}
	var x asked
	due := func() bool { return len(x.due(self, []*pinEntry{p}, now)) == 1 }
	if !due() {
		t.Error("nobody was asked yet, and it is not time to ask")
	}
	x.note(self, p, now.Add(400*day))
	if !due() {
		t.Error("who was asked in the next year is not asked in this one")
	}
	x.note(self, p, now)
	x.note(self, p, now)
	x.note(self, p, now.Add(confirmAgain))
	if due() {
		t.Error("clocks that differ by an hour make one ask at once")
	}
}

// TestThreat44_AskedIsBounded: what is remembered of questions is bounded, and
// accounts of which no rotation is known, of which anybody can invent as many as they
// like, take nobody's turn.
func TestThreat44_AskedIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	self := account("self")
	var x asked
	contact := &pinEntry{Platform: PlatformEmail, ID: "contact", Key: []byte{1}, Next: []byte{2}}
	x.note(self, contact, now)
	for i := range maxAsked + 1 {
		x.note(self, &pinEntry{Platform: PlatformEmail, ID: fmt.Sprint(i), Key: []byte{1}, Next: []byte{2}, Unconfirmed: true}, now)
		if len(x.keys) > maxAsked {
			t.Fatalf("%d keys are remembered", len(x.keys))
		}
	}
	if len(x.turns) != 1 || !x.turns[turnOf(self, contact)].Equal(now) {
		t.Errorf("%d turns are remembered, the contact's %v", len(x.turns), x.turns[turnOf(self, contact)])
	}
	for i := range maxAsked + 1 {
		x.note(self, &pinEntry{Platform: PlatformEmail, ID: fmt.Sprint(i), Key: []byte{1}, Next: []byte{2}}, now)
		if len(x.turns) > maxAsked || len(x.keys) > maxAsked {
			t.Fatalf("%d turns and %d keys are remembered", len(x.turns), len(x.keys))
		}
	}
}

// TestBudgetsAreApart: members who send requests use up nothing of what is for others,
// no question counts twice as given back, and of two accounts of a user neither takes
// the other's turn.
func TestBudgetsAreApart(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	drain := func(b *budget) (n int) {
		for b.take(now) {
			n++
		}
		return n
	}
	pin := &pinEntry{Platform: PlatformEmail, ID: "a", Key: []byte{1}, Next: []byte{2}}
	shown := &pinEntry{Platform: PlatformEmail, ID: "b", Key: []byte{1}, Unconfirmed: true}
	var x asked
	for _, c := range []struct {
		what string
		b    *budget
		want int
	}{
		{"requests", x.forRequest(shown), requestBudget},
		{"rotations", x.forSync(pin), rotationBudget},
		{"others at a Sync", x.forSync(shown), askBudget},
		{"others for a reader", x.forReader(shown), askBudget},
	} {
		if n := drain(c.b); n != c.want {
			t.Errorf("%s: %d questions, want %d", c.what, n, c.want)
		}
	}
	var b budget
	b.take(now)
	b.giveBack()
	b.giveBack()
	if n := drain(&b); n != askBudget {
		t.Errorf("%d questions, with one that nobody took", n)
	}
	work, home := account("work"), account("home")
	x.note(work, pin, now)
	if list := x.due(home, []*pinEntry{pin}, now); len(list) != 1 {
		t.Error("what the one account asked about is not asked about for the other")
	}
	other := &pinEntry{Platform: PlatformEmail, ID: "c", Key: []byte{1}, Next: []byte{2}, Since: 1}
	if list := x.page(home, []*pinEntry{other, pin}); list[0] != pin {
		t.Error("a turn of the one account is the other's as well")
	}
}
