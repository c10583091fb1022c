package cloudmls

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// purgeable gives a conversation's group as purgeHistory takes it.
func (d *device) purgeable(id ConversationID) *instance {
	d.t.Helper()
	conv, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil {
		d.t.Fatal(err)
	}
	all := conv.instances()
	return all[len(all)-1]
}

// change writes to the state of an account.
func (d *device) change(fn func(tx *state.Tx, v *view) error) {
	d.t.Helper()
	if err := d.update(d.t.Context(), d.self, fn); err != nil {
		d.t.Fatal(err)
	}
}

// TestThreat43_PurgeTellsWhatItCannotRead: a conversation that cannot be read is an
// error of whoever deletes or packs its history, and not one without history.
func TestThreat43_PurgeTellsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.limitedGroup(4)
	for range packFrom + 1 {
		alice.renewKeys(id)
	}
	i := alice.purgeable(id)
	alice.change(func(_ *state.Tx, v *view) error {
		v.putRaw(conversationKey(alice.self, id), []byte("no record"))
		return nil
	})
	if err := alice.purgeHistory(t.Context(), alice.self, i, w.clock.now()); err == nil {
		t.Error("its history is deleted, or so it seems")
	}
	if err := alice.packHistory(t.Context(), alice.self, i); err == nil {
		t.Error("its history is packed, or so it seems")
	}
}

// TestThreat43_PurgeDeletesWhatThePolicySays: nothing of a group whose history is kept
// for ever, whatever was believed before, nor of one that is not known any more.
func TestThreat43_PurgeDeletesWhatThePolicySays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.ensureGroup(newID(t)).ID
	message := alice.encrypt(id, "kept for ever")
	alice.renewKeys(id)
	i := alice.purgeable(id)
	i.days = 1
	other := &instance{conversation: id, group: []byte("another"), days: 1, spans: []epochSpan{{0, 5}}}
	unknown := &instance{conversation: newID(t), group: []byte("another"), days: 1, spans: []epochSpan{{0, 5}}}
	for range 3 {
		w.clock.advance(40 * day)
		w.wire.reset()
		for _, i := range []*instance{i, other, unknown} {
			if err := alice.purgeHistory(t.Context(), alice.self, i, w.clock.now()); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.wire.count("POST", "/v1/tx"); n != 0 {
			t.Errorf("%d transactions", n)
		}
	}
	if p := alice.decrypt(message); string(p.Data) != "kept for ever" {
		t.Errorf("got %q", p.Data)
	}
}

// TestThreat43_LongHistoryIsDeletedWhole: more epochs are due than one transaction
// deletes. All of them go before anything is sealed anew.
func TestThreat43_LongHistoryIsDeletedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.limitedGroup(4)
	w.clock.advance(60 * day)
	const last = 2*purgeStep + 100
	alice.change(func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(id)
		if err != nil {
			return err
		}
		conv.JoinEpoch, conv.Epoch = 0, last+10
		h := &historyRecord{Version: recordVersion, Marks: []historyMark{{last, w.clock.now().Add(-5 * day).UnixMilli()}}}
		if err := v.put(historyKey(v.self, conv.Group), h); err != nil {
			return err
		}
		return v.put(conversationKey(v.self, id), conv)
	})
	if err := alice.purgeHistory(t.Context(), alice.self, alice.purgeable(id), w.clock.now()); err != nil {
		t.Fatal(err)
	}
	if h := alice.historyOf(id); h.From != last+1 || slices.ContainsFunc(h.Marks, func(m historyMark) bool { return m.Epoch <= last }) {
		t.Errorf("%+v, want all up to epoch %d deleted", h, last)
	}
}

// TestThreat43_WhenAMonthIsPast: the key of a month is destroyed when the month is past
// by as many days as the policy says, and not before, nor that of the present one,
// whatever the time is said to be; nothing is written where nothing is due.
func TestThreat43_WhenAMonthIsPast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.limitedGroup(10)
	sent := [][]byte{alice.encrypt(id, "of March")}
	alice.renewKeys(id)
	sent = append(sent, alice.encrypt(id, "of March"))
	w.clock.advance(35 * day)
	alice.renewKeys(id)
	last := alice.encrypt(id, "of April")
	end, err := endOfMonth("2026-03")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at     time.Time
		months []string
	}{
		{end.Add(10*day - time.Millisecond), []string{"2026-03", "2026-04"}},
		{end.Add(10 * day), []string{"2026-04"}},
	} {
		for n := range 2 {
			w.wire.reset()
			if err := alice.purgeHistory(t.Context(), alice.self, alice.purgeable(id), c.at); err != nil {
				t.Fatal(err)
			}
			if writes := w.wire.count("POST", "/v1/tx"); n > 0 && writes != 0 {
				t.Errorf("%v: %d transactions for nothing", c.at, writes)
			}
		}
		if got := alice.shelves(id); !slices.Equal(got, c.months) {
			t.Errorf("%v: archive keys of %q, want %q", c.at, got, c.months)
		}
	}
	for _, b := range sent {
		if p := alice.decrypt(b); string(p.Data) != "of March" {
			t.Errorf("got %q", p.Data)
		}
	}
	if err := alice.purgeHistory(t.Context(), alice.self, alice.purgeable(id), end.Add(400*day)); err != nil {
		t.Fatal(err)
	}
	if got := alice.shelves(id); !slices.Equal(got, []string{"2026-04"}) {
		t.Errorf("archive keys of %q, in the present month", got)
	}
	if p := alice.decrypt(last); string(p.Data) != "of April" {
		t.Errorf("got %q", p.Data)
	}
}

// TestThreat43_MonthOfNoCalendar: a key whose month is none is kept, and told.
func TestThreat43_MonthOfNoCalendar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.limitedGroup(10)
	i := alice.purgeable(id)
	alice.change(func(tx *state.Tx, v *view) error {
		k := epochKey(v.self, i.group, 9)
		return tx.PutArchived(k, []byte("x"), state.Shelf{Scope: shelfScope(tx, k), Month: "never"})
	})
	alice.change(func(_ *state.Tx, v *view) error { // nothing lies under it
		v.delete(epochKey(v.self, i.group, 9))
		return nil
	})
	if err := alice.purgeHistory(t.Context(), alice.self, i, w.clock.now().Add(400*day)); err == nil || !strings.Contains(err.Error(), "month") {
		t.Errorf("there is no such month: %v", err)
	}
	if got := alice.shelves(id); !slices.Contains(got, "never") {
		t.Errorf("archive keys of %q are left", got)
	}
}

// monthOfBundles makes a history of March that lies in two bundles and a few records,
// and gives the messages of its epochs. It is April then.
func monthOfBundles(w *world, alice *device) (id ConversationID, messages [][]byte) {
	w.t.Helper()
	id = alice.limitedGroup(10)
	pack := func() {
		w.t.Helper()
		if err := alice.packHistory(w.t.Context(), alice.self, alice.purgeable(id)); err != nil {
			w.t.Fatal(err)
		}
	}
	for range packAtOnce + 6 {
		messages = append(messages, alice.encrypt(id, fmt.Sprint(len(messages))))
		alice.renewKeys(id)
		pack()
	}
	w.clock.advance(35 * day)
	pack()
	if h := alice.historyOf(id); len(h.Bundles) != 2 || !slices.Equal(alice.shelves(id), []string{"2026-03"}) {
		w.t.Fatalf("%+v, archive keys of %q", h, alice.shelves(id))
	}
	return id, messages
}

// TestThreat43_BundlesAreMoved: what is left of a month's bundles lies under the
// present month's key, and nowhere else, before the month's own is destroyed, so much
// at once as one transaction takes.
func TestThreat43_BundlesAreMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, messages := monthOfBundles(w, alice)
	end, err := endOfMonth("2026-03")
	if err != nil {
		t.Fatal(err)
	}
	h := alice.historyOf(id)
	due := h.Bundles[0][0] + 2
	at := end.Add(10 * day)
	alice.change(func(_ *state.Tx, v *view) error {
		h.Marks = []historyMark{{due, at.Add(-10 * day).UnixMilli()}}
		return v.put(historyKey(v.self, alice.purgeable(id).group), h)
	})
	objects := len(alice.archived(id))
	alice.moveStep = 1
	w.wire.reset()
	if err := alice.purgeHistory(t.Context(), alice.self, alice.purgeable(id), at); err != nil {
		t.Fatal(err)
	}
	if n := w.wire.count("POST", "/v1/tx"); n != objects {
		t.Errorf("%d transactions for %d objects", n, objects)
	}
	after := alice.historyOf(id)
	if after.From != due+1 || after.Dropped != h.Dropped+1 || len(after.Bundles) != 2 || after.Bundles[0] != (epochSpan{due + 1, h.Bundles[0][1]}) || after.Bundles[1] != h.Bundles[1] {
		t.Errorf("%+v, before %+v", after, h)
	}
	names := alice.archived(id)
	if len(names) != objects || !slices.Contains(names, fmt.Sprintf("%d+", due+1)) || slices.Contains(names, fmt.Sprintf("%d+", h.Bundles[0][0])) {
		t.Errorf("objects %q", names)
	}
	if got := alice.shelves(id); len(got) != 1 || got[0] == "2026-03" {
		t.Errorf("archive keys of %q", got)
	}
	for _, d := range []*device{alice, alice.sibling()} {
		for n, b := range messages {
			if epoch := uint64(n); epoch <= due {
				d.cannotRead(b, NeverDeleted)
			} else if p := d.decrypt(b); string(p.Data) != fmt.Sprint(n) {
				t.Errorf("message %d: got %q", n, p.Data)
			}
		}
		d.crash() // nothing in memory
	}
}

// TestThreat43_MonthIsKeptForWhatCannotBeMoved: as long as something that lies under a
// month's key cannot be read, the key is not destroyed, and whoever wanted it is told.
func TestThreat43_MonthIsKeptForWhatCannotBeMoved(t *testing.T) {
	t.Parallel()
	for what, spoil := range map[string]func(tx *state.Tx, v *view, group []byte, h *historyRecord) error{
		"a bundle that is none": func(tx *state.Tx, v *view, group []byte, h *historyRecord) error {
			k := bundleKey(v.self, group, h.Bundles[0][0])
			return tx.PutArchived(k, []byte("no bundle"), state.Shelf{Scope: shelfScope(tx, k), Month: "2026-03"})
		},
		"a bundle that is not there": func(_ *state.Tx, v *view, group []byte, h *historyRecord) error {
			v.delete(bundleKey(v.self, group, h.Bundles[1][0]))
			return nil
		},
		"a bundle of epochs that are deleted": func(_ *state.Tx, v *view, group []byte, h *historyRecord) error {
			h.From = h.Bundles[0][1] + 1
			return v.put(historyKey(v.self, group), h)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice := w.user("alice")
			id, messages := monthOfBundles(w, alice)
			end, err := endOfMonth("2026-03")
			if err != nil {
				t.Fatal(err)
			}
			i, h := alice.purgeable(id), alice.historyOf(id)
			alice.change(func(tx *state.Tx, v *view) error { return spoil(tx, v, i.group, h) })
			if err := alice.purgeHistory(t.Context(), alice.self, i, end.Add(20*day)); err == nil {
				t.Error("no error")
			}
			if got := alice.shelves(id); !slices.Contains(got, "2026-03") {
				t.Errorf("archive keys of %q are left", got)
			}
			n := len(messages) - 1
			if p := alice.decrypt(messages[n]); string(p.Data) != fmt.Sprint(n) {
				t.Errorf("got %q", p.Data)
			}
		})
	}
}

// TestThreat43_MonthIsKeptOffline: a device that does not have the records of a month,
// and cannot fetch them, destroys no key.
func TestThreat43_MonthIsKeptOffline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id, messages := monthOfBundles(w, alice)
	end, err := endOfMonth("2026-03")
	if err != nil {
		t.Fatal(err)
	}
	phone := alice.sibling()
	i := phone.purgeable(id)
	phone.historyOf(id)
	w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/objects") }, faults["down"])
	if err := phone.purgeHistory(t.Context(), phone.self, i, end.Add(20*day)); err == nil {
		t.Error("no error")
	}
	w.wire.set(nil, nil)
	if got := phone.shelves(id); !slices.Contains(got, "2026-03") {
		t.Errorf("archive keys of %q are left", got)
	}
	for n, b := range messages {
		if p := phone.decrypt(b); string(p.Data) != fmt.Sprint(n) {
			t.Errorf("got %q", p.Data)
		}
	}
}
