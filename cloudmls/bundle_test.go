package cloudmls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// records reads the archive records of a conversation's group as they are.
func (d *device) records(id ConversationID, from, to uint64) []*epochRecord {
	d.t.Helper()
	conv, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil {
		d.t.Fatal(err)
	}
	var all []*epochRecord
	for n := from; n <= to; n++ {
		r, err := d.epoch(d.t.Context(), d.self, conv.Group, n)
		if err != nil {
			d.t.Fatalf("epoch %d: %v", n, err)
		}
		all = append(all, r)
	}
	return all
}

func encodings(t *testing.T, records []*epochRecord) [][]byte {
	t.Helper()
	var all [][]byte
	for _, r := range records {
		b, err := encodeEpoch(r.opened, r.archive)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestMonthsArePacked: the archive records of a past month become one object,
// everything in it opens as before, here, on a device that was away and on a
// new one, and the key server's list is short.
func TestMonthsArePacked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := alice.ensureGroup(newID(t), bob).ID
	bob.cleanSync()
	away := alice.sibling()
	var messages [][]byte
	texts := func(n int) string { return fmt.Sprintf("message %d", n) }
	for n := range 10 {
		messages = append(messages, alice.encrypt(id, texts(n)))
		switch n {
		case 3:
			alice.ensureGroup(id, bob, carol)
		case 6:
			if err := alice.Remove(t.Context(), alice.self, id, accounts(carol)); err != nil {
				t.Fatal(err)
			}
		default:
			alice.renewKeys(id)
		}
	}
	bob.cleanSync()
	carol.cleanSync()
	last := alice.state(id).Epoch
	before := encodings(t, alice.records(id, 1, last))
	single := 0
	for _, b := range before {
		single += len(b)
	}
	if alice.maintain(); len(alice.archived(id)) != len(before) {
		t.Errorf("%d objects in the month itself, of %d", len(alice.archived(id)), len(before))
	}
	w.clock.advance(10 * day)
	for _, d := range []*device{alice, bob} { // sessions end where nobody looks for a month
		d.mustSync()
	}
	away.mustSync()
	w.clock.advance(22 * day)
	alice.maintain()
	if got := alice.archived(id); len(got) != 3 || !slices.Contains(got, "1+") {
		t.Fatalf("after the month: %q", got)
	}
	check := func(d *device) {
		t.Helper()
		if got := encodings(t, d.records(id, 1, last)); !slices.EqualFunc(got, before, bytes.Equal) {
			t.Fatalf("%s: a record is not what it was", d.self)
		}
		for n, m := range messages {
			if p := d.decrypt(m); string(p.Data) != texts(n) || p.Sender != alice.self {
				t.Fatalf("message %d: %q from %s", n, p.Data, p.Sender)
			}
		}
	}
	check(alice)
	away.mustSync()
	check(away)
	check(alice.sibling())
	alice.crash()
	w.wire.fail(anything, faults["down"])
	check(alice) // what it packed it also has
	w.wire.set(nil, nil)
	w.wire.reset()
	alice.maintain()
	if n := w.wire.count("POST", "/v1/tx"); n != 0 {
		t.Errorf("%d changes where nothing is to be done", n)
	}
	// Bob was in it for as long, and packs by himself.
	bob.mustSync()
	bob.maintain()
	for n, m := range messages {
		if p := bob.decrypt(m); string(p.Data) != texts(n) {
			t.Errorf("Bob reads %q", p.Data)
		}
	}
	if got := bob.archived(id); len(got) != 3 {
		t.Errorf("Bob's objects: %q", got)
	}
}

// TestManyEpochsArePackedEarly: a group that changes all the time does not wait
// for the end of the month.
func TestManyEpochsArePackedEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.ensureGroup(newID(t)).ID
	var messages [][]byte
	for n := range packAtOnce + 4 {
		messages = append(messages, alice.encrypt(id, fmt.Sprint(n)))
		alice.renewKeys(id)
	}
	alice.maintain()
	if got := alice.archived(id); len(got) > 3 {
		t.Errorf("%d objects: %q", len(got), got)
	}
	for n, m := range messages {
		alice.reads(m, fmt.Sprint(n), alice)
	}
}

// TestPackedTwice: two devices that pack at once, and one that writes meanwhile,
// lose nothing.
func TestPackedTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.ensureGroup(newID(t)).ID
	second := alice.sibling()
	var messages [][]byte
	for n := range 8 {
		messages = append(messages, alice.encrypt(id, fmt.Sprint(n)))
		alice.renewKeys(id)
	}
	second.mustSync()
	for n, m := range messages { // so that it has the records at hand
		second.reads(m, fmt.Sprint(n), alice)
	}
	w.clock.advance(20 * day)
	alice.mustSync()
	second.mustSync()
	w.clock.advance(20 * day)
	var wg sync.WaitGroup
	for _, d := range []*device{alice, second, alice, second} {
		wg.Go(func() {
			if err := d.Maintain(t.Context()); err != nil {
				t.Errorf("maintain: %v", err)
			}
		})
	}
	wg.Go(func() {
		if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("meanwhile"), nil); err != nil {
			t.Errorf("encrypt: %v", err)
		}
	})
	wg.Wait()
	second.mustSync()
	for n, m := range messages {
		for _, d := range []*device{second, alice} {
			if p := d.decrypt(m); string(p.Data) != fmt.Sprint(n) {
				t.Errorf("got %q", p.Data)
			}
		}
	}
	bundles := 0
	for _, name := range alice.archived(id) {
		if strings.HasSuffix(name, "+") {
			bundles++
		}
	}
	if bundles != 1 {
		t.Errorf("%q", alice.archived(id))
	}
}

// TestMaintainWithFaults lets each request of a Maintain that packs and deletes
// fail, before and after the key server carried it out: after the next one
// everything is as if nothing had happened.
func TestMaintainWithFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	limited, kept := alice.limitedGroup(5), alice.ensureGroup(newID(t)).ID
	n := 0
	for _, lost := range []bool{false, true} {
		for at := range 8 {
			var due, ever [][]byte
			for range packFrom {
				due, ever = append(due, alice.encrypt(limited, "due")), append(ever, alice.encrypt(kept, fmt.Sprint(n)))
				alice.renewKeys(limited)
				alice.renewKeys(kept)
			}
			w.pass(30, alice)
			alice.crash()
			w.clock.advance(3 * day)
			seen := 0
			hit := func(e *exchange) bool {
				if strings.HasSuffix(e.request.URL.Path, "/refresh") {
					return false
				}
				seen++
				return seen == at+1
			}
			fail := faults["down"]
			if lost {
				w.wire.set(nil, func(e *exchange) {
					if hit(e) {
						fail(e)
					}
				})
			} else {
				w.wire.set(func(e *exchange) bool {
					if !hit(e) {
						return false
					}
					fail(e)
					return true
				}, nil)
			}
			_ = alice.Maintain(t.Context())
			w.wire.set(nil, nil)
			alice.crash()
			alice.mustSync()
			alice.maintain()
			for _, m := range due {
				alice.cannotRead(m, NeverDeleted)
			}
			for _, m := range ever {
				if p := alice.decrypt(m); string(p.Data) != fmt.Sprint(n) {
					t.Fatalf("fault at request %d, carried out %v: got %q", at, lost, p.Data)
				}
			}
			n++
		}
	}
	if got := alice.shelves(limited); len(got) > 2 {
		t.Errorf("archive keys of %q", got)
	}
	text := "afterwards"
	alice.reads(alice.encrypt(limited, text), text, alice)
}

// TestBundleSharesTheRoster: members who stay cost nothing in later epochs.
func TestBundleSharesTheRoster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	var people []*device
	for _, name := range []string{"b", "c", "d", "e", "f", "g"} {
		people = append(people, w.user(name))
	}
	id := alice.ensureGroup(newID(t), people...).ID
	for range 7 {
		alice.renewKeys(id)
	}
	records := alice.records(id, 1, 8)
	alone := 0
	for _, b := range encodings(t, records) {
		alone += len(b)
	}
	b, err := pack(records)
	if err != nil {
		t.Fatal(err)
	}
	one := len(encodings(t, records)[0])
	if len(b) > one+7*(one/2) {
		t.Errorf("8 records take %d octets together, %d apart, one alone %d", len(b), alone, one)
	}
	x, err := decodeBundle(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	rest, err := x.records(5)
	if err != nil || len(rest) != 4 || !slices.EqualFunc(encodings(t, rest), encodings(t, records[4:]), bytes.Equal) {
		t.Errorf("%d records from the fifth on, %v", len(rest), err)
	}
	if _, err := x.epoch(9); !errors.Is(err, errBundle) {
		t.Errorf("an epoch that is not in it: %v", err)
	}
	if _, err := pack([]*epochRecord{records[0], records[2]}); !errors.Is(err, errBundle) {
		t.Errorf("epochs with a gap: %v", err)
	}
	for n := range b {
		if _, err := decodeBundle(bytes.Clone(b[:n])); !errors.Is(err, errBundle) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
	if _, err := decodeBundle(append(bytes.Clone(b), 0)); !errors.Is(err, errBundle) {
		t.Errorf("with an octet more: %v", err)
	}
}

func FuzzDecodeBundle(f *testing.F) {
	v := decodeJSON[sdkVectors](&testing.T{}, readVectors(f))
	r, err := decodeEpoch(v.Epoch.ArchiveRecord)
	if err != nil {
		f.Fatal(err)
	}
	b, err := encodeBundle([]*epochRecord{r})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{bundleVersion, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decodeBundle(bytes.Clone(b))
		if err != nil {
			return
		}
		all, err := x.records(0)
		if err != nil {
			return // an epoch after the first is malformed
		}
		again, err := encodeBundle(all)
		if err != nil {
			return
		}
		y, err := decodeBundle(again)
		if err != nil || y.first != x.first || y.last != x.last {
			t.Fatalf("a bundle that opens is not the same once it is packed again: %v", err)
		}
	})
}
