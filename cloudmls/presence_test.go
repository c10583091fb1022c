package cloudmls

import (
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
		if err := bob.inTouch(t.Context(), bob.self); err != nil {
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
