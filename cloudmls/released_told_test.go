package cloudmls

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat45_WhatAConfirmedKeyReleasesIsTold: Mallory has seated somebody under Alice's
// name in a group of Bob's, and in a dialog with him, before Bob ever met her. Alice's own
// dialog waits, and takes its place once the key server has named her key: Bob is told,
// though no Sync brings it.
func TestThreat45_WhatAConfirmedKeyReleasesIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID)
	silent := func(e *exchange) {
		if e.is("GET", "/v1/reachable/") {
			e.status, e.answered = 500, []byte("oops")
		}
	}
	f := w.forger()
	for _, b := range []binding{
		{kind: KindGroup, conversation: newID(t), origin: w.ks.Origin}, {kind: KindDialog, conversation: id, origin: w.ks.Origin},
	} {
		mallory.ensureGroup(newID(t), bob)
		d, _ := f.welcome(alice.self, b, bob)
		done := false
		w.wire.set(nil, func(e *exchange) {
			silent(e)
			if done || !e.is("GET", "/v1/delivery/email/"+bob.self.ID) || e.status != 200 {
				return
			}
			page := decodeJSON[keyapi.Deliveries](t, e.answered)
			forged := *d
			forged.Seq = page.Messages[0].Seq
			page.Messages[0] = forged
			e.answered, done = encodeJSON(t, page), true
		})
		bob.mustSync()
	}
	w.wire.set(nil, silent)
	alice.ensureDialog(bob)
	told := func() (n int) {
		s, err := bob.Status(t.Context(), bob.self)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range s.Notices {
			if one.Kind == NoticeReplaced && one.Conversation == id {
				n++
			}
		}
		return n
	}
	if r := bob.mustSync(); !hasProblem(r, ProblemIdentityChanged) || told() != 0 {
		t.Fatalf("the attack does not begin: %+v, told %d times", r, told())
	}
	w.wire.set(nil, nil)
	bob.mustSync()
	if !bytes.Equal(bob.state(id).group(t, bob), alice.state(id).group(t, alice)) {
		t.Fatal("Alice's dialog does not count")
	}
	if n := told(); n != 1 {
		t.Errorf("told %d times", n)
	}
}
