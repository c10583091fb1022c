package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// sendsNotice delivers octets to somebody as a notice of a member.
func (d *device) sendsNotice(id ConversationID, to *device, b []byte) {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	s := d.notice(d.self, conv, b)
	s.Recipients = accounts(to)
	if err := d.update(d.t.Context(), d.self, func(tx *state.Tx, _ *view) error { return tx.SetCommit(*s) }); err != nil {
		d.t.Fatal(err)
	}
}

// wantsOut makes a member's request to be removed.
func (d *device) wantsOut(id ConversationID) []byte {
	d.t.Helper()
	conv, err := d.member(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatal(err)
	}
	who, err := d.identity(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	r := &repairRequest{reason: repairLeave, origin: d.o.Origin, account: d.self, conversation: id, group: conv.Group, epoch: conv.Epoch}
	return r.sign(who.private())
}

// TestOldRequestExpelsNobody: Carol asked to be removed, was, and came back. Bob
// keeps her request and sends it once more, to somebody who came after it, and to
// those who have another group since.
func TestOldRequestExpelsNobody(t *testing.T) {
	t.Parallel()
	for name, victimOf := range map[string]func(id ConversationID, w *world, alice, bob *device) *device{
		"to a new member": func(id ConversationID, w *world, alice, _ *device) *device {
			dave := w.user("dave")
			alice.ensureGroup(id, dave)
			dave.mustSync()
			return dave
		},
		"in another group": func(id ConversationID, _ *world, alice, _ *device) *device {
			if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
				t.Fatal(err)
			}
			return alice
		},
		"to a new member of another group": func(id ConversationID, w *world, alice, bob *device) *device {
			dave := w.user("dave")
			alice.ensureGroup(id, dave)
			dave.mustSync()
			bob.mustSync()
			if _, err := bob.Replace(t.Context(), bob.self, id); err != nil {
				t.Fatal(err)
			}
			alice.mustSync()
			dave.mustSync()
			return dave
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
			id := newID(t)
			alice.ensureGroup(id, bob, carol)
			bob.cleanSync()
			carol.cleanSync()
			request := carol.wantsOut(id)
			carol.sendsNotice(id, alice, request)
			w.mended(alice, bob, carol)
			if slices.Contains(alice.state(id).Members, carol.self) {
				t.Fatal("the request does not count when it is new")
			}
			alice.ensureGroup(id, bob, carol)
			victim := victimOf(id, w, alice, bob)
			bob.mustSync()
			carol.mustSync()
			bob.sendsNotice(id, victim, request)
			victim.mustSync()
			if l := victim.state(id).Leaving; len(l) != 0 {
				t.Errorf("an old request counts: %v", l)
			}
			w.mended(victim, alice, bob)
			if !slices.Contains(victim.state(id).Members, carol.self) {
				t.Error("Carol was expelled")
			}
		})
	}
}

// TestRequestAfterAReplacement: the Welcome into the group that took the place of
// Carol's is kept from her. She asks, naming the group that the key server names,
// is let in, and her request is void from then on; so is one that names another.
func TestRequestAfterAReplacement(t *testing.T) {
	t.Parallel()
	w := newHostile(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	before := carol.state(id).group(t, carol)
	w.evil.Withhold(carol.self, func(d *keyapi.Delivery) bool { return d.Type == keyapi.DeliveryWelcome && d.Epoch == firstEpoch })
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	if err := carol.renew(t.Context(), carol.self, id, func(*conversationRecord) bool { return true }); !errors.Is(err, ErrBroken) {
		t.Fatalf("a Commit in the group before: %v", err)
	}
	carol.mustSync() // asks
	var request []byte
	for _, s := range w.submitted("carol") {
		if isRepairRequest(s.Notice) {
			request = s.Notice
		}
	}
	r, _, err := parseRepairRequest(request)
	if err != nil || !bytes.Equal(r.group, before) || !bytes.Equal(r.serving, alice.state(id).group(t, alice)) {
		t.Fatalf("the request %+v, %v", r, err)
	}
	conv, err := bob.member(t.Context(), bob.self, id)
	if err != nil {
		t.Fatal(err)
	}
	entry, _ := rosterFind(conv.Members, carol.self)
	elsewhere, first := *r, *r
	elsewhere.serving, first.serving = []byte("another group"), nil
	if r.void(conv, entry) || !elsewhere.void(conv, entry) || !first.void(conv, entry) {
		t.Error("the wrong requests count")
	}
	w.mended(bob, alice, carol)
	if s := carol.state(id); s.Blocked != nil || !bytes.Equal(s.group(t, carol), alice.state(id).group(t, alice)) {
		t.Fatalf("Carol was not let in: %+v", s)
	}
	bob.reads(carol.encrypt(id, "back"), "back", carol)
	epoch := bob.state(id).Epoch
	carol.sendsNotice(id, bob, request)
	w.mended(bob)
	if s := bob.state(id); s.Epoch != epoch || len(s.Lost) != 0 {
		t.Errorf("the request counts once more: %+v", s)
	}
}
