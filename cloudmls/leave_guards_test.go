package cloudmls

import (
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// noticeIn gives the notice of an account that a request brings, nil where it brings
// none.
func (d *device) noticeIn(e *exchange) *keyapi.CommitSubmission {
	if !e.is("POST", "/v1/tx") {
		return nil
	}
	c := decodeJSON[keyapi.Tx](d.t, e.sent).Commit
	if c == nil || len(c.Notice) == 0 || c.Sender != d.self {
		return nil
	}
	return c
}

// sentNotices counts those that an account sent since the wire was reset.
func (d *device) sentNotices() (n int) {
	for _, e := range d.w.wire.requests() {
		if d.noticeIn(e) != nil {
			n++
		}
	}
	return n
}

func (e *exchange) refuse(t *testing.T, p *keyapi.Problem) {
	t.Helper()
	e.status, e.answered, e.header = p.Status, encodeJSON(t, p), "application/problem+json"
}

func (d *device) conversationRecord(id ConversationID) *conversationRecord {
	d.t.Helper()
	conv, err := d.reader(d.t.Context(), d.self).conversation(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return conv
}

// TestLeaveTellsWhoeverCanBeTold: one whose inbox takes nothing keeps none of the
// others from hearing that somebody leaves, however many there are.
func TestLeaveTellsWhoeverCanBeTold(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	dave := w.user("dave")
	alice.ensureGroup(id, bob, carol, dave)
	for _, d := range []*device{bob, carol, dave} {
		d.cleanSync()
	}
	w.wire.set(func(e *exchange) bool {
		c := alice.noticeIn(e)
		if c == nil || !slices.Contains(c.Recipients, bob.self) {
			return false
		}
		e.refuse(t, &keyapi.Problem{Status: 507, Code: keyapi.CodeQuota, Accounts: accounts(bob)})
		return true
	}, nil)
	if err := alice.Leave(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	w.wire.set(nil, nil)
	for _, d := range []*device{carol, dave} {
		if _, err := d.sync(t.Context(), d.self); err != nil {
			t.Fatal(err)
		}
		if s := d.state(id); !slices.Equal(s.Leaving, accounts(alice)) {
			t.Errorf("%s was not told: %+v", d.self, s)
		}
	}
}

// TestLeavingIsSaidOnceAnEpoch: in each epoch that does not carry it out, and not
// again in the same one; since when is not forgotten, nor that it is to be looked at.
func TestLeavingIsSaidOnceAnEpoch(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := newTrio(t)
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	first := carol.conversationRecord(id)
	inbox, err := carol.reader(t.Context(), carol.self).inbox()
	if err != nil || !slices.Contains(inbox.Todo, id) {
		t.Errorf("no Sync looks at it: %+v, %v", inbox, err)
	}
	if first.Left == 0 || first.LeftEpoch != first.Epoch || carol.sentNotices() != 1 {
		t.Fatalf("%d notices, %+v", carol.sentNotices(), first)
	}
	for range 2 {
		if err := carol.Leave(t.Context(), carol.self, id); err != nil {
			t.Fatal(err)
		}
	}
	if n := carol.sentNotices(); n != 1 {
		t.Errorf("said %d times in one epoch", n)
	}
	if err := bob.commitFresh(id); err != nil { // he has not heard of it
		t.Fatal(err)
	}
	w.clock.advance(day)
	if _, err := carol.sync(t.Context(), carol.self); err != nil {
		t.Fatal(err)
	}
	if err := carol.proposeLeaving(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	now := carol.conversationRecord(id)
	if now.Epoch != first.Epoch+1 || now.LeftEpoch != now.Epoch || now.Left != first.Left || carol.sentNotices() != 2 {
		t.Errorf("%d notices, %+v", carol.sentNotices(), now)
	}
	if err := carol.proposeLeaving(t.Context(), carol.self, newID(t)); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	w.mended(bob, carol)
	w.wire.reset()
	if err := carol.Leave(t.Context(), carol.self, id); err != nil || carol.sentNotices() != 0 || carol.conversationRecord(id).Removed == 0 {
		t.Errorf("what was left: %v, %d notices", err, carol.sentNotices())
	}
}

// TestLeaveIsNotClaimed: where the others could not be told, for another reason than
// that there is nobody to tell, the account is in the group still, and its user hears
// why.
func TestLeaveIsNotClaimed(t *testing.T) {
	t.Parallel()
	for _, p := range []*keyapi.Problem{
		{Status: 403, Code: keyapi.CodeForbidden},
		{Status: 500, Code: keyapi.CodeInternal},
		{Status: 409, Code: keyapi.CodeInstanceConflict},
	} {
		t.Run(p.Code, func(t *testing.T) {
			t.Parallel()
			w, _, _, carol, id := splitOff(t)
			carol.mustSync()
			if !carol.state(id).Broken {
				t.Fatal("Carol follows the group")
			}
			w.wire.set(func(e *exchange) bool {
				if carol.noticeIn(e) == nil {
					return false
				}
				e.refuse(t, p)
				return true
			}, nil)
			if err := carol.Leave(t.Context(), carol.self, id); !isCode(err, p.Code) || errors.Is(err, ErrBusy) {
				t.Errorf("%v", err)
			}
			if conv := carol.conversationRecord(id); conv.Removed != 0 || conv.Left != 0 || conv.Broken == "" {
				t.Errorf("%+v", conv)
			}
		})
	}
}

// TestLeavingLosesEveryRace: the key server says without end that the epoch is taken.
// That is no leaving, and it ends; so it does where nobody can be asked what took it.
func TestLeavingLosesEveryRace(t *testing.T) {
	t.Parallel()
	w, _, _, carol, id := newTrio(t)
	queue := true
	w.wire.set(func(e *exchange) bool {
		switch {
		case carol.noticeIn(e) != nil:
			e.refuse(t, &keyapi.Problem{Status: 409, Code: keyapi.CodeEpochConflict})
		case e.is("GET", "/v1/delivery") && !queue:
			e.refuse(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
		default:
			return false
		}
		return true
	}, nil)
	if err := carol.Leave(t.Context(), carol.self, id); !errors.Is(err, ErrBusy) {
		t.Errorf("%v", err)
	}
	queue = false
	w.wire.reset()
	if err := carol.Leave(t.Context(), carol.self, id); !isCode(err, keyapi.CodeForbidden) || carol.sentNotices() != 0 {
		t.Errorf("not in step, and %d notices: %v", carol.sentNotices(), err)
	}
	if err := carol.proposeLeaving(t.Context(), carol.self, id); !isCode(err, keyapi.CodeForbidden) || carol.sentNotices() != 1 {
		t.Errorf("%d notices: %v", carol.sentNotices(), err)
	}
	if conv := carol.conversationRecord(id); conv.Left != 0 || conv.Removed != 0 {
		t.Errorf("%+v", conv)
	}
}

// TestLeavingNeedsAGeneration: without one that is reserved at the key server nothing
// is made, or two proposals would be sealed with one key and nonce.
func TestLeavingNeedsAGeneration(t *testing.T) {
	t.Parallel()
	w, _, _, carol, id := newTrio(t)
	carol.mustSync()
	w.wire.set(func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit != nil {
			return false
		}
		e.refuse(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
		return true
	}, nil)
	w.wire.reset()
	if err := carol.Leave(t.Context(), carol.self, id); !isCode(err, keyapi.CodeForbidden) || carol.sentNotices() != 0 {
		t.Errorf("%d notices: %v", carol.sentNotices(), err)
	}
}

// TestLeavingWhereASiblingWas: what a sibling device did in the conversation, while
// this one says that the account leaves, makes that void.
func TestLeavingWhereASiblingWas(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*conversationRecord)
		moved  bool
	}{
		"opened an epoch":      {func(r *conversationRecord) { r.Epoch++ }, true},
		"entered another one":  {func(r *conversationRecord) { r.Group = []byte("another") }, true},
		"heard that it is out": {func(r *conversationRecord) { r.Removed = 1 }, false},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w, _, _, carol, id := newTrio(t)
			phone := carol.sibling()
			conv := carol.conversationRecord(id)
			raced, taken := false, 0
			w.wire.set(func(e *exchange) bool {
				if raced || carol.noticeIn(e) == nil {
					return false
				}
				raced = true
				phone.change(func(_ *state.Tx, v *view) error {
					now, err := v.conversation(id)
					if err != nil {
						return err
					}
					c.change(now)
					return v.put(conversationKey(v.self, id), now)
				})
				return false
			}, func(e *exchange) {
				if carol.noticeIn(e) != nil && e.status < 300 {
					taken++
				}
			})
			err := carol.proposeLeavingOnce(t.Context(), carol.self, conv)
			var moved *movedError
			if !raced || errors.As(err, &moved) != c.moved || !c.moved && err != nil || taken != 0 {
				t.Errorf("raced %v, %d notices were taken, %v", raced, taken, err)
			}
		})
	}
}

// TestLeavingWithTheGroupOfAnotherEpoch: the state was read while a sibling device was
// about to change it.
func TestLeavingWithTheGroupOfAnotherEpoch(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, id := newTrio(t)
	before := carol.conversationRecord(id)
	old, err := carol.reader(t.Context(), carol.self).get(groupKey(carol.self, before.Group))
	if err != nil {
		t.Fatal(err)
	}
	bob.renewKeys(id)
	carol.cleanSync()
	carol.change(func(_ *state.Tx, v *view) error {
		v.putRaw(groupKey(v.self, before.Group), old)
		return nil
	})
	w.wire.reset()
	var moved *movedError
	if err := carol.proposeLeavingOnce(t.Context(), carol.self, carol.conversationRecord(id)); !errors.As(err, &moved) || carol.sentNotices() != 0 {
		t.Errorf("%d notices, %v", carol.sentNotices(), err)
	}
}

// TestLeavingWhileTheGroupIsReplaced: the account leaves the group that took the
// place, too; where it does not hear of that, it has left nothing.
func TestLeavingWhileTheGroupIsReplaced(t *testing.T) {
	t.Parallel()
	for _, hears := range []bool{true, false} {
		w, alice, bob, carol, id := newTrio(t)
		raced, replaced := false, false
		w.wire.set(func(e *exchange) bool {
			switch {
			case !raced && carol.noticeIn(e) != nil:
				raced = true
				if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
					t.Error(err)
				}
				replaced = true
			case replaced && !hears && e.is("GET", "/v1/delivery"):
				e.refuse(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
				return true
			}
			return false
		}, nil)
		err := carol.Leave(t.Context(), carol.self, id)
		w.wire.set(nil, nil)
		if !raced {
			t.Fatal("there was no race")
		}
		if !hears {
			if !isCode(err, keyapi.CodeForbidden) || carol.conversationRecord(id).Left != 0 {
				t.Errorf("%v, %+v", err, carol.conversationRecord(id))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		w.mended(alice, bob, carol)
		for _, d := range []*device{alice, bob} {
			if s := d.state(id); slices.Contains(s.Members, carol.self) {
				t.Errorf("%s still has Carol: %+v", d.self, s)
			}
		}
	}
}

// TestForgetsOnlyWhatIsAsItWas: the own part ends without a word to anybody only where
// the conversation is as it was when nobody was there to ask.
func TestForgetsOnlyWhatIsAsItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	id := alice.ensureGroup(newID(t)).ID
	var moved *movedError
	for what, change := range map[string]func(*conversationRecord){
		"another group":   func(r *conversationRecord) { r.Group = []byte("another") },
		"another epoch":   func(r *conversationRecord) { r.Epoch++ },
		"it was broken":   func(r *conversationRecord) { r.Broken = "for the test" },
		"all of it, anew": func(r *conversationRecord) { r.Group, r.Epoch, r.Broken = nil, 0, "for the test" },
	} {
		was := *alice.conversationRecord(id)
		change(&was)
		if err := alice.forget(t.Context(), alice.self, &was); !errors.As(err, &moved) || alice.conversationRecord(id).Removed != 0 {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := alice.forget(t.Context(), alice.self, &conversationRecord{ID: newID(t)}); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	was := alice.conversationRecord(id)
	for n := range 2 {
		w.wire.reset()
		if err := alice.forget(t.Context(), alice.self, was); err != nil || alice.conversationRecord(id).Removed == 0 {
			t.Fatalf("%v", err)
		}
		if writes := w.wire.count("POST", "/v1/tx"); n > 0 && writes != 0 {
			t.Errorf("%d writes to forget what is forgotten", writes)
		}
	}
}
