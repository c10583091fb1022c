package cloudmls

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// staysInTouch lets time go by on a device that is online all the while.
func (d *device) staysInTouch(t time.Duration) {
	d.t.Helper()
	for t > 0 {
		step := min(t, awayAfter/2)
		d.w.clock.advance(step)
		d.mustSync()
		t -= step
	}
}

// aged is a dialog in which the epoch of a message that bob has not seen closed a
// while ago.
func aged(t *testing.T) (w *world, alice, bob *device, id ConversationID, old []byte) {
	w = newWorld(t)
	alice, bob = w.user("alice"), w.user("bob")
	id = alice.ensureDialog(bob)
	bob.cleanSync()
	old = alice.encrypt(id, "from the old epoch")
	w.clock.advance(time.Hour)
	alice.renewKeys(id)
	bob.cleanSync()
	return w, alice, bob, id, old
}

// TestAwayIsNotLate: a device that was away when the 14 days ended does not call late
// what may have waited for it, and vouches for it neither; its sibling that was there
// all the time has read it, or calls it late.
func TestAwayIsNotLate(t *testing.T) {
	t.Parallel()
	w, alice, bob, id, old := aged(t)
	phone, tablet := bob.sibling(), bob.sibling() // since before the next epoch closes
	later := alice.encrypt(id, "from the next one")
	phone.reads(later, "from the next one", alice)
	w.clock.advance(time.Hour)
	alice.renewKeys(id)
	for _, d := range []*device{bob, phone, tablet} {
		d.cleanSync()
	}
	for range 30 {
		w.clock.advance(awayAfter / 2)
		phone.mustSync()
		tablet.mustSync()
	}
	tablet.warned(later, WarningLate) // it was there
	phone.reads(later, "from the next one", alice)
	if p := bob.warned(later, WarningAway); p.SenderVerified { // without the key server
		t.Error("a message that nothing vouches for counts as verified")
	}
	bob.mustSync()
	bob.warned(old, WarningAway)
	bob.crash()
	bob.staysInTouch(catchUp + time.Hour)
	bob.warned(old, WarningAway) // what was said of it stays
	bob.warned(later, WarningAway)
}

// TestBackForLong: what turns up a week after the device came back is late; so is what
// comes from somebody who left, whether the device was away or not.
func TestBackForLong(t *testing.T) {
	t.Parallel()
	w, _, bob, _, old := aged(t)
	w.clock.advance(lateAfter + time.Hour)
	bob.mustSync()
	bob.staysInTouch(catchUp + time.Hour)
	bob.warned(old, WarningLate)

	alice, carol := w.user("alma"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	left := carol.encrypt(id, "I am still here")
	w.clock.advance(2 * awayAfter)
	if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(2 * awayAfter)
	bob.mustSync()
	bob.warned(left, WarningLate)
}

// TestPresence: absences are those that contain the deadline and ended lately.
func TestPresence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	touch := func() {
		t.Helper()
		if err := bob.inTouch(bob.self); err != nil {
			t.Fatal(err)
		}
	}
	away := func(what string, deadline time.Time, want bool) {
		t.Helper()
		if got, err := bob.wasAway(bob.self, deadline); err != nil || got != want {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	away("before it was ever in touch", w.clock.now(), false)
	touch()
	away("before it was first in touch", w.clock.now().Add(-time.Hour), false)
	w.clock.advance(awayAfter - time.Minute)
	begin := w.clock.now()
	away("a short absence that goes on", begin.Add(-time.Hour), false)
	touch()
	away("a short absence", begin.Add(-time.Hour), false)
	w.clock.advance(awayAfter + time.Hour)
	away("one that goes on", begin.Add(time.Hour), true)
	touch()
	end := w.clock.now()
	away("before it", begin.Add(-time.Hour), false)
	away("in it", begin.Add(awayAfter), true)
	away("after it", end.Add(time.Hour), false)
	w.clock.advance(catchUp - time.Hour)
	touch()
	away("in it, a week later", begin.Add(awayAfter), true)
	w.clock.advance(2 * time.Hour)
	away("in it, more than a week later", begin.Add(awayAfter), false)
	touch()
	r, err := bob.presence(bob.self)
	if err != nil || slices.ContainsFunc(r.Away, func(a absence) bool { return a.To < end.Add(time.Hour).UnixMilli() }) {
		t.Errorf("%+v, %v", r, err)
	}

	// A clock that was wrong for a while leaves no absence behind.
	w.clock.advance(time.Hour)
	touch()
	right := w.clock.now()
	w.clock.advance(400 * 24 * time.Hour)
	touch()
	w.clock.advance(-400 * 24 * time.Hour)
	touch()
	away("while the clock was wrong", right.Add(30*24*time.Hour), false)
}

// TestPresenceToTheMillisecond: what is an absence, and what it covers, at its bounds.
func TestPresenceToTheMillisecond(t *testing.T) {
	t.Parallel()
	const hour, day, start = 3600_000, 86_400_000, 1_772_366_400_000
	for _, tt := range []struct {
		what    string
		touches []int64 // after the first one, which is at start
		changed bool    // by the last of them
		away    []absence
	}{
		{"within the hour", []int64{hour - 1}, false, nil},
		{"an hour later", []int64{hour}, true, nil},
		{"nearly a day later", []int64{day - 1}, true, nil},
		{"a day later", []int64{day}, true, []absence{{0, day}}},
		{"a week after that", []int64{day, 8 * day}, true, []absence{{0, day}, {day, 8 * day}}},
		{"more than a week after that", []int64{day, 8*day + 1}, true, []absence{{day, 8*day + 1}}},
		{"a clock that was set back", []int64{-1}, true, nil},
		{"a clock that was set back to when it came back", []int64{day, day + hour, day}, true, []absence{{0, day}}},
		{"a clock that was set back to before that", []int64{day, day - 1}, true, nil},
	} {
		r := &presenceRecord{Version: recordVersion}
		changed := r.touch(start)
		for _, ms := range tt.touches {
			changed = r.touch(start + ms)
		}
		want := slices.Clone(tt.away)
		for i := range want {
			want[i] = absence{want[i].From + start, want[i].To + start}
		}
		if changed != tt.changed || !slices.Equal(r.Away, want) {
			t.Errorf("%s: changed %v, away %v, want %v", tt.what, changed, r.Away, want)
		}
		if last := start + tt.touches[len(tt.touches)-1]; changed && r.Last != last {
			t.Errorf("%s: last in touch %d, not %d", tt.what, r.Last, last)
		}
	}
	over, going := presenceRecord{Last: start + 2*day, Away: []absence{{start, start + 2*day}}}, presenceRecord{Last: start}
	for _, tt := range []struct {
		what          string
		r             presenceRecord
		deadline, now int64
		want          bool
	}{
		{"when it was last in touch", over, 0, 2 * day, false},
		{"just after that", over, 1, 2 * day, true},
		{"when it came back", over, 2 * day, 2*day + hour, true},
		{"after it came back", over, 2*day + 1, 2*day + hour, false},
		{"a week later", over, day, 9 * day, true},
		{"more than a week later", over, day, 9*day + 1, false},
		{"gone for nearly a day", going, 1, day - 1, false},
		{"gone for a day", going, 1, day, true},
		{"gone for a day, before it", going, 0, day, false},
		{"gone for a day, to come", going, day + 1, day, false},
		{"never in touch", presenceRecord{}, day, day, false},
	} {
		if tt.what == "more than a week later" {
			tt.r.Last = start + 9*day // it has been in touch since
		}
		if got := tt.r.awayAt(start+tt.deadline, start+tt.now); got != tt.want {
			t.Errorf("%s: away %v", tt.what, got)
		}
	}
}

// TestPresenceOnTheDisk: it is written once an hour at most, and where it cannot be
// written, or read, that is said: a device that does not know when it was in touch
// must not say what it would say if it did.
func TestPresenceOnTheDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	disk := &fullStore{LocalStore: bob.store, room: -1}
	bob.store = disk
	bob.crash()
	for i, room := range []int{-1, 0, 0} {
		disk.room = room
		if err := bob.inTouch(bob.self); err != nil {
			t.Fatalf("the %dth time within the hour: %v", i+1, err)
		}
	}
	w.clock.advance(touchEvery)
	if err := bob.inTouch(bob.self); !errors.Is(err, errDiskFull) {
		t.Errorf("a full disk: %v", err)
	}
	disk.room = -1
	if err := bob.Client.store.Cache("sdk/presence").Put(bob.self.String(), []byte(`{"v":2}`)); err != nil {
		t.Fatal(err)
	}
	if err := bob.inTouch(bob.self); err == nil {
		t.Error("a record that cannot be read is replaced")
	}
	if away, err := bob.wasAway(bob.self, w.clock.now()); err == nil || away {
		t.Errorf("a record that cannot be read: away %v, %v", away, err)
	}
	if _, err := bob.Sync(t.Context(), bob.self); err == nil {
		t.Error("a Sync says nothing of it")
	}
}
