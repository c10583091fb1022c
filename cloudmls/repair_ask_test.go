package cloudmls

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// rotatedAndLost is splitOff where Carol replaces her identity key before she asks to
// be let in again, and nobody has heard of the new one.
func rotatedAndLost(t *testing.T) (w *world, alice, bob, carol *device, id ConversationID) {
	t.Helper()
	w, alice, bob, carol, id = splitOff(t)
	if err := carol.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	carol.mustSync()
	if s := carol.state(id); !s.Broken || bytes.Equal(bob.pinnedKey(carol.self).Key, carol.ownKey()) {
		t.Fatalf("the test does not begin: %+v", s)
	}
	return w, alice, bob, carol, id
}

// TestThreat33_RequestOfARotatedMember: members who have not heard that she replaced
// the key that her request is signed with ask the key server, and let her in at once.
func TestThreat33_RequestOfARotatedMember(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := rotatedAndLost(t)
	began := w.clock.now()
	w.wire.reset()
	r := bob.cleanSync()
	if !r.tells(NoticeAsks, carol.self) || !r.tells(NoticeRotated, carol.self) {
		t.Fatalf("Bob: %+v", r)
	}
	if n := w.wire.count("GET", "/v1/reachable/email/"+carol.self.ID); n != 1 {
		t.Errorf("%d questions for one request", n)
	}
	w.mended(alice, bob, carol)
	if d := w.clock.now().Sub(began); d >= time.Hour {
		t.Fatalf("the test takes %v", d)
	}
	if s := carol.state(id); s.Blocked != nil || len(s.Members) != 3 {
		t.Fatalf("Carol: %+v, Bob: %+v", s, bob.state(id))
	}
	alice.reads(carol.encrypt(id, "back"), "back", carol)
	carol.reads(bob.encrypt(id, "welcome back"), "welcome back", bob)
}

// TestRequestThatCannotBeAskedAbout is refused, and granted when it is made again: a
// question without an answer counts for nothing.
func TestRequestThatCannotBeAskedAbout(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := rotatedAndLost(t)
	w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, faults["500 page"])
	if r := bob.mustSync(); !hasProblem(r, ProblemForbidden) || len(bob.state(id).Lost) != 0 {
		t.Fatalf("without an answer: %+v, %+v", r, bob.state(id))
	}
	w.wire.set(nil, nil)
	w.clock.advance(askAgain)
	carol.mustSync()
	if r := bob.mustSync(); !r.tells(NoticeAsks, carol.self) {
		t.Fatalf("a day later: %+v", r)
	}
}

// TestRequestWaitsForTheState: the key server's word that could not be stored loses no
// request, and stops what would be encrypted as if none had come.
func TestRequestWaitsForTheState(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, _ := rotatedAndLost(t)
	asked := false
	w.wire.set(func(e *exchange) bool {
		asked = asked || e.is("GET", "/v1/reachable/")
		if !asked || !e.is("POST", "/v1/tx") {
			return false
		}
		e.status = 500
		return true
	}, nil)
	var unprocessed *unprocessedError
	if _, err := bob.Sync(t.Context(), bob.self); !errors.As(err, &unprocessed) || !asked {
		t.Fatalf("the test's write did not fail: asked %v, %v", asked, err)
	}
	w.wire.set(nil, nil)
	if r := bob.mustSync(); !r.tells(NoticeAsks, carol.self) {
		t.Errorf("%+v", r)
	}
}

// TestThreat52_RequestNeedsAChain: a key that the key server names without a rotation
// that the pinned key has signed lets nobody in, nor out.
func TestThreat52_RequestNeedsAChain(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := rotatedAndLost(t)
	before := bob.pinnedKey(carol.self).Key
	w.wire.set(nil, func(e *exchange) {
		if e.is("GET", "/v1/reachable/email/"+carol.self.ID) && e.status == 200 {
			answer := decodeJSON[keyapi.Reachability](t, e.answered)
			answer.Rotations = nil
			e.answered = encodeJSON(t, answer)
		}
	})
	if r := bob.mustSync(); !hasProblem(r, ProblemForbidden) || r.tells(NoticeAsks, carol.self) || len(bob.state(id).Lost) != 0 {
		t.Errorf("%+v", r)
	}
	if p := bob.pinnedKey(carol.self); !bytes.Equal(p.Key, before) {
		t.Errorf("the pin followed: %+v", p)
	}
}

// TestRequestsMakeNobodyAskWithoutEnd: an evil key server, which alone can say that a
// request came from a member, has one question an hour for each, whatever it delivers;
// what comes from others, for others, or would not count anyway, has none.
func TestRequestsMakeNobodyAskWithoutEnd(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, bob, carol, mallory := h.user("alice"), h.user("bob"), h.user("carol"), h.user("mallory")
	id, other := newID(t), newID(t)
	alice.ensureGroup(id, bob, carol)
	alice.ensureGroup(other, bob)
	conv, err := alice.member(t.Context(), alice.self, id)
	if err != nil {
		t.Fatal(err)
	}
	thief, err := mallory.identity(t.Context(), mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	asked := func(what string, want int, claims, sender Account, change func(*repairRequest, *keyapi.Delivery)) {
		t.Helper()
		r := &repairRequest{reason: 4, origin: h.ks.Origin, account: claims, conversation: id, group: conv.Group, epoch: conv.Epoch}
		d := keyapi.Delivery{Type: keyapi.DeliveryNotice, Conversation: id[:], Kind: KindGroup, Group: conv.Group, Epoch: conv.Epoch, Sender: sender}
		if change != nil {
			change(r, &d)
		}
		d.Message = r.sign(thief.private())
		before := h.evil.Count(evil.To("GET", "/v1/reachable"))
		if result := h.deliver(alice, &d); result.tells(NoticeAsks, claims) || len(alice.state(id).Lost) != 0 {
			t.Errorf("%s: the request counts: %+v", what, result)
		}
		if n := h.evil.Count(evil.To("GET", "/v1/reachable")) - before; n != want {
			t.Errorf("%s: %d questions instead of %d", what, n, want)
		}
	}
	asked("sent by another member", 0, carol.self, bob.self, nil)
	asked("sent by a stranger", 0, carol.self, mallory.self, nil)
	asked("of a stranger", 0, mallory.self, mallory.self, nil)
	asked("of the reader", 0, alice.self, alice.self, nil)
	asked("another key server's", 0, carol.self, carol.self, func(r *repairRequest, _ *keyapi.Delivery) { r.origin = "https://evil.example" })
	asked("for another conversation", 0, carol.self, carol.self, func(r *repairRequest, _ *keyapi.Delivery) { r.conversation = other })
	asked("delivered in another conversation", 0, carol.self, carol.self, func(_ *repairRequest, d *keyapi.Delivery) { d.Conversation = other[:] })
	asked("delivered in no conversation", 0, carol.self, carol.self, func(_ *repairRequest, d *keyapi.Delivery) {
		unknown := newID(t)
		d.Conversation = unknown[:]
	})
	asked("for another group", 0, carol.self, carol.self, func(r *repairRequest, _ *keyapi.Delivery) { r.group = []byte("another") })
	asked("of an epoch to come", 0, carol.self, carol.self, func(r *repairRequest, _ *keyapi.Delivery) { r.epoch += 7 })
	asked("as a Commit", 0, carol.self, carol.self, func(_ *repairRequest, d *keyapi.Delivery) { d.Type = keyapi.DeliveryCommit })

	asked("of a member", 1, carol.self, carol.self, nil)
	asked("once more", 0, carol.self, carol.self, nil)
	asked("with other words", 0, carol.self, carol.self, func(r *repairRequest, _ *keyapi.Delivery) { r.reason = repairLeave })
	asked("of another member", 1, bob.self, bob.self, nil)
	for range 3 { // and never more rarely: the owner's request may be among them
		h.clock.advance(confirmAgain)
		asked("an hour later", 1, carol.self, carol.self, nil)
	}
	h.clock.advance(confirmAgain)
	alice.asked.forRequest(nil).spend(h.clock.now())
	asked("when all questions were asked", 0, carol.self, carol.self, nil)
	h.clock.advance(askWindow)
	asked("when there are some again", 1, carol.self, carol.self, nil)
}

// TestRequestsOnOnePage: many of one member on one page are one question.
func TestRequestsOnOnePage(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	alice, carol, mallory := h.user("alice"), h.user("carol"), h.user("mallory")
	thief, err := mallory.identity(t.Context(), mallory.self)
	if err != nil {
		t.Fatal(err)
	}
	var ids []ConversationID
	for range 3 {
		ids = append(ids, alice.ensureGroup(newID(t), carol).ID)
	}
	for _, id := range ids {
		conv, err := alice.member(t.Context(), alice.self, id)
		if err != nil {
			t.Fatal(err)
		}
		r := &repairRequest{reason: 4, origin: h.ks.Origin, account: carol.self, conversation: id, group: conv.Group, epoch: conv.Epoch}
		h.evil.Deliver(keyapi.Delivery{
			Type: keyapi.DeliveryNotice, Conversation: id[:], Kind: KindGroup, Group: conv.Group, Epoch: conv.Epoch,
			Sender: carol.self, Message: r.sign(thief.private()),
		}, alice.self)
	}
	before := h.evil.Count(evil.To("GET", "/v1/reachable"))
	alice.mustSync()
	if n := h.evil.Count(evil.To("GET", "/v1/reachable")) - before; n != 1 {
		t.Errorf("%d questions", n)
	}
}

// TestRequestsThatAreNoQuestion: what is no request, and what comes for a conversation
// in which this account can let nobody in.
func TestRequestsThatAreNoQuestion(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := splitOff(t)
	other := bob.ensureGroup(newID(t), carol).ID
	carol.mustSync()
	if !carol.state(id).Broken {
		t.Fatal("Carol has not lost track")
	}
	thief, err := bob.identity(t.Context(), bob.self)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(what string, want bool, id ConversationID, change func(*keyapi.Delivery)) {
		t.Helper()
		conv, err := carol.reader(t.Context(), carol.self).conversation(id)
		if err != nil {
			t.Fatal(err)
		}
		r := &repairRequest{reason: 4, origin: w.ks.Origin, account: bob.self, conversation: id, group: conv.Group, epoch: conv.Epoch}
		message := r.sign(thief.private())
		message[len(message)-1] ^= 1 // by no key of Bob's
		d := &keyapi.Delivery{Type: keyapi.DeliveryNotice, Conversation: id[:], Group: conv.Group, Epoch: conv.Epoch, Sender: bob.self, Message: message}
		if change != nil {
			change(d)
		}
		if p, err := carol.unknownSigner(t.Context(), carol.self, d); err != nil || (p != nil) != want {
			t.Errorf("%s: %+v, %v", what, p, err)
		}
	}
	asks("a request", true, other, nil)
	asks("for a group that she lost track of", false, id, nil)
	asks("in half a conversation", false, other, func(d *keyapi.Delivery) { d.Conversation = d.Conversation[:8] })
	asks("half a request", false, other, func(d *keyapi.Delivery) { d.Message = d.Message[:20] })
	asks("no request", false, other, func(d *keyapi.Delivery) { d.Message = []byte{0, 1, 0, 2, 3} })
	asks("nothing", false, other, func(d *keyapi.Delivery) { d.Message = nil })
	own, err := carol.identity(t.Context(), carol.self)
	if err != nil {
		t.Fatal(err)
	}
	conv, err := carol.reader(t.Context(), carol.self).conversation(other)
	if err != nil {
		t.Fatal(err)
	}
	contacts, err := carol.knownContacts(t.Context(), carol.self)
	if err != nil {
		t.Fatal(err)
	}
	for what, a := range map[string]Account{"her own": carol.self, "of somebody who is not in the group": alice.self} {
		r := &repairRequest{reason: 4, origin: w.ks.Origin, account: a, conversation: other, group: conv.Group, epoch: conv.Epoch}
		signed := r.sign(own.private())
		if _, no := carol.checkRequest(carol.self, conv, contacts, r, signed[len(signed)-64:]); no == nil || errors.Is(no.err, errUnsigned) {
			t.Errorf("a request %s: %v", what, no)
		}
	}
	if err := bob.Remove(t.Context(), bob.self, other, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	carol.mustSync()
	asks("for a group that she was removed from", false, other, nil)
}
