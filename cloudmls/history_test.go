package cloudmls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

const day = 24 * time.Hour

// limitedGroup makes a group whose history is kept for some days.
func (d *device) limitedGroup(days uint32, members ...*device) ConversationID {
	d.t.Helper()
	s, err := d.Ensure(d.t.Context(), d.self, Conversation{
		ID: newID(d.t), Kind: KindGroup, Members: accounts(members...), HistoryDays: days,
	})
	if err != nil {
		d.t.Fatalf("%s: group: %v", d.self, err)
	}
	if s.HistoryDays != days {
		d.t.Fatalf("history of %d days, want %d", s.HistoryDays, days)
	}
	return s.ID
}

func (d *device) maintain() []ConversationID {
	d.t.Helper()
	if err := d.Maintain(d.t.Context()); err != nil {
		d.t.Fatalf("%s: maintain: %v", d.self, err)
	}
	return d.DeletedHistory()
}

// pass lets days go by, in steps, with everybody looking after their state.
func (w *world) pass(days int, devices ...*device) {
	w.t.Helper()
	for days > 0 {
		step := min(days, 3)
		w.clock.advance(time.Duration(step) * day)
		days -= step
		for _, d := range devices {
			d.mustSync()
			d.maintain()
		}
	}
}

// renewKeys opens a new epoch.
func (d *device) renewKeys(id ConversationID) {
	d.t.Helper()
	_, err := d.commit(d.t.Context(), d.self, id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
	if err != nil {
		d.t.Fatalf("%s: renew: %v", d.self, err)
	}
}

// archived lists the names of the epoch objects of the group that serves a
// conversation.
func (d *device) archived(id ConversationID) []string {
	d.t.Helper()
	if _, err := d.Client.store.Refresh(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	keys, err := d.Client.store.List(d.t.Context(), state.TypeEpoch)
	if err != nil {
		d.t.Fatal(err)
	}
	var names []string
	for _, k := range keys {
		r, err := d.reader(d.t.Context(), d.self).conversation(id)
		if err != nil {
			d.t.Fatal(err)
		}
		if group := fmt.Sprintf("%x/", r.Group); k.Account == d.self && bytes.HasPrefix([]byte(k.Name), []byte(group)) {
			names = append(names, k.Name[len(group):])
		}
	}
	return names
}

func (d *device) shelves(id ConversationID) (months []string) {
	d.t.Helper()
	r, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil {
		d.t.Fatal(err)
	}
	err = d.Client.store.Update(d.t.Context(), func(tx *state.Tx) error {
		months = tx.Shelves(shelfScope(tx, epochKey(d.self, r.Group, 0)))
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return months
}

// TestThreat43_DeletedHistory: what a conversation's policy says is deleted opens
// on no device afterwards: not on the one that deleted it, not on its sibling,
// which was away meanwhile, not on a new one, and not before the policy says.
func TestThreat43_DeletedHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.limitedGroup(10, bob)
	kept := alice.ensureGroup(newID(t), bob).ID
	bob.cleanSync()
	away := alice.sibling()
	old := alice.encrypt(id, "of the first of March")
	ever := alice.encrypt(kept, "kept for ever")
	bob.reads(old, "of the first of March", alice)
	away.reads(old, "of the first of March", alice)
	alice.renewKeys(id)
	bob.mustSync()
	first := alice.archived(id)[0]

	w.pass(9, alice, bob)
	bob.reads(old, "of the first of March", alice) // not a day too early
	mid := alice.encrypt(id, "of the tenth of March")
	w.pass(9, alice, bob)
	for _, d := range []*device{alice, bob} {
		d.cannotRead(old, NeverDeleted)
		d.reads(mid, "of the tenth of March", alice)
	}
	if got := alice.archived(id); len(got) == 0 || got[0] == first {
		t.Errorf("epochs %q are archived, with the deleted %s", got, first)
	}
	months := alice.shelves(id)
	if len(months) != 1 || months[0] != "2026-03" {
		t.Fatalf("archive keys of %q", months)
	}
	w.pass(30, alice, bob) // past March and ten days
	for _, d := range []*device{alice, bob} {
		d.cannotRead(old, NeverDeleted)
		d.cannotRead(mid, NeverDeleted)
		d.reads(ever, "kept for ever", alice)
	}
	if got := alice.shelves(id); len(got) != 1 || got[0] != "2026-04" {
		t.Errorf("archive keys of %q are left, in the middle of April", got)
	}
	text := "the conversation goes on"
	bob.reads(alice.encrypt(id, text), text, alice)

	// The sibling was away all the time, and has read the message before.
	p, err := away.Decrypt(t.Context(), away.self, old)
	if err == nil && p.Verified {
		t.Log("opened before it looked at the key server, as it may")
	}
	away.mustSync()
	away.cannotRead(old, NeverDeleted)
	if m := away.maintain(); len(m) != 1 || m[0] != id {
		t.Errorf("the sibling was not told: %+v", m)
	}
	if m := away.maintain(); len(m) != 0 {
		t.Errorf("the sibling was told again: %+v", m)
	}
	away.crash()
	away.cannotRead(old, NeverDeleted)
	seen := 0
	if err := away.Client.store.Cache("sdk/seen").ForEach(func(string, []byte) error { seen++; return nil }); err != nil || seen != 0 {
		t.Errorf("%d notes on deleted messages are left, %v", seen, err)
	}
	fresh := alice.sibling()
	fresh.cannotRead(old, NeverDeleted)
	fresh.reads(ever, "kept for ever", alice)
}

// TestThreat43_MonthIsMovedInSteps: more is left of a month than one transaction
// takes to the next one. The month's key is destroyed all the same, once nothing lies
// under it, and nothing is lost that is not due.
func TestThreat43_MonthIsMovedInSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.limitedGroup(10, bob)
	bob.cleanSync()
	var sent [][]byte
	for range 5 {
		sent = append(sent, alice.encrypt(id, "of March"))
		alice.renewKeys(id)
	}
	w.clock.advance(50 * 24 * time.Hour) // nobody has looked: what is over is so from now on
	alice.moveStep = 1                   // one record at a time
	before := alice.historyOf(id)
	alice.maintain() // sees the time
	w.clock.advance(25 * time.Hour)
	w.wire.reset()
	alice.maintain()
	if got := alice.shelves(id); slices.Contains(got, "2026-03") {
		t.Errorf("archive keys of %q are left", got)
	}
	if h := alice.historyOf(id); h.Dropped != before.Dropped+1 {
		t.Errorf("%d keys were destroyed", h.Dropped)
	}
	if n := w.wire.count("POST", "/v1/tx"); n < len(sent) {
		t.Errorf("%d transactions for %d records", n, len(sent))
	}
	for _, b := range sent {
		if p := alice.decrypt(b); string(p.Data) != "of March" {
			t.Errorf("got %q", p.Data)
		}
	}
}

func (d *device) historyOf(id ConversationID) *historyRecord {
	d.t.Helper()
	h, err := d.history(d.t.Context(), d.self, d.state(id).group(d.t, d))
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// TestThreat43_ClocksDeleteNothing: a clock that is wrong by months, forwards or
// backwards, this device's or the key server's or both, deletes nothing before
// it is due.
func TestThreat43_ClocksDeleteNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	own := &clock{t: w.clock.now()}
	alice.Client.o.Now = own.now
	id := alice.limitedGroup(30, bob)
	bob.cleanSync()
	message := alice.encrypt(id, "still due to be read")
	alice.renewKeys(id)
	together := func(d time.Duration) { w.clock.advance(d); own.advance(d) }
	for range 5 {
		together(day)
		alice.maintain()
	}
	alice.reads(message, "still due to be read", alice)

	for _, wrong := range []time.Duration{90 * day, -90 * day, 400 * day, 25 * time.Hour, -25 * time.Hour} {
		own.advance(wrong) // this device's alone
		err := alice.Maintain(t.Context())
		var clock *ClockError
		if !errors.As(err, &clock) {
			t.Fatalf("own clock %v off: %v", wrong, err)
		}
		own.advance(-wrong)
	}
	// Both are one: the computer runs the key server too.
	for range 20 {
		together(90 * day)
		alice.maintain()
		together(2 * time.Hour)
		alice.maintain()
		together(-90*day - 2*time.Hour)
		alice.maintain()
	}
	alice.reads(message, "still due to be read", alice)
	if len(alice.shelves(id)) == 0 {
		t.Error("an archive key was destroyed")
	}
	for range 40 { // and with right clocks it is deleted
		together(day)
		alice.maintain()
	}
	alice.cannotRead(message, NeverDeleted)
}

// TestThreat43_EpochOfTheFuture: an epoch that was opened by a device whose clock
// was ahead by a year is ended, and what was sent in it deleted, like any other.
func TestThreat43_EpochOfTheFuture(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	own := &clock{t: w.clock.now()}
	alice.Client.o.Now = own.now
	s, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: newID(t), Kind: KindGroup, HistoryDays: 4})
	if err != nil {
		t.Fatal(err)
	}
	own.advance(400 * day)
	alice.renewKeys(s.ID)
	message := alice.encrypt(s.ID, "dated next year")
	own.advance(-400 * day)
	for range 4 {
		w.clock.advance(day)
		own.advance(day)
		alice.maintain()
	}
	alice.reads(message, "dated next year", alice) // not a day too early
	for range 11 {
		w.clock.advance(day)
		own.advance(day)
		alice.maintain()
	}
	alice.cannotRead(message, NeverDeleted)
}

// TestThreat43_LeftAndReplaced: what was sent in a group that was left is deleted,
// though its last epoch is never ended for this account: the others have gone on
// in another group.
func TestThreat43_LeftAndReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.limitedGroup(4, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	message := alice.encrypt(id, "for four days")
	bob.reads(message, "for four days", alice)
	if err := bob.Leave(t.Context(), bob.self, id); err != nil {
		t.Fatal(err)
	}
	alice.mustSync()
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	w.pass(4, alice, bob, carol)
	bob.reads(message, "for four days", alice)
	w.pass(12, alice, bob, carol)
	for _, d := range []*device{alice, bob, carol} {
		d.cannotRead(message, NeverDeleted)
	}
	if s := bob.state(id); !s.Removed || !s.Left {
		t.Errorf("%+v", s)
	}
	carol.cleanSync()
	text := "without Bob"
	carol.reads(alice.encrypt(id, text), text, alice)
}

func TestClockRecord(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := &clockRecord{}
	for i, step := range []struct {
		by   time.Duration
		want bool
	}{
		{0, false}, {23 * time.Hour, false}, {time.Hour, true}, {6 * day, true}, {-time.Hour, true},
		{8 * day, false}, {day, true}, {-3 * day, false}, {12 * time.Hour, false}, {12 * time.Hour, true}, {400 * day, false},
	} {
		at = at.Add(step.by)
		if got := r.see(at); got != step.want {
			t.Fatalf("step %d: %v, want %v", i, got, step.want)
		}
	}
}

// TestHistoryPolicyStays: a conversation has one policy, which its members
// agree on.
func TestHistoryPolicyStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.limitedGroup(30, bob)
	bob.cleanSync()
	if s := bob.state(id); s.HistoryDays != 30 {
		t.Errorf("the other member has a history of %d days", s.HistoryDays)
	}
	for _, d := range []*device{alice, bob} {
		_, err := d.Ensure(t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, HistoryDays: 31})
		var other *HistoryError
		if !errors.As(err, &other) || other.Have != 30 || other.Want != 31 {
			t.Errorf("another policy: %v", err)
		}
		if _, err := d.Ensure(t.Context(), d.self, Conversation{ID: id, Kind: KindGroup}); err != nil {
			t.Errorf("any policy: %v", err)
		}
	}
}
