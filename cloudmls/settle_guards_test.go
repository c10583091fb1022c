package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// pairApart is Alice and Bob in a group, where deliveries and objects are apart.
func pairApart(t *testing.T) (a *apart, alice, bob *device, id ConversationID) {
	t.Helper()
	a = newApart(t)
	alice, bob, id = a.user("alice"), a.user("bob"), newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	return a, alice, bob, id
}

// left stages a Commit that the delivery server has taken, or not, and whose answer is
// lost.
func (d *device) left(a *apart, id ConversationID, taken bool) *stagedRecord {
	d.t.Helper()
	lose := func(e *exchange) bool {
		if e.is("POST", "/v1/tx") && decodeJSON[keyapi.Tx](d.t, e.sent).Commit != nil {
			e.status = 0
			return true
		}
		return false
	}
	if taken {
		a.wire.set(nil, func(e *exchange) { lose(e) })
	} else {
		a.wire.set(lose, nil)
	}
	if err := d.commitFresh(id); err == nil {
		d.t.Fatal("the answer came")
	}
	a.wire.set(nil, nil)
	s := d.staged(id)
	if s == nil {
		d.t.Fatal("nothing is staged")
	}
	return s
}

// TestThreat25_StoredOnlyWhatIsNotVoid: a Commit is stored, and shown to the delivery
// server, only as long as what it was made of is in the state and no other one is.
func TestThreat25_StoredOnlyWhatIsNotVoid(t *testing.T) {
	t.Parallel()
	a, alice, _, id := pairApart(t)
	s := alice.left(a, id, false)
	before := alice.state(id).Epoch
	commit := func(ready error, s *stagedRecord) (*conversationRecord, error) {
		a.wire.reset()
		return alice.commitApart(t.Context(), alice.self, s, func(*view) error { return ready })
	}
	another := *s
	another.Submission.TokenHash = []byte("of another Commit")
	var moved *movedError
	if _, err := commit(nil, &another); !errors.As(err, &moved) || !alice.staged(id).is(s) {
		t.Errorf("a sibling device was faster: %v", err)
	}
	if _, err := commit(errDead, s); !errors.Is(err, errDead) {
		t.Errorf("what it was made of is gone: %v", err)
	}
	if err := alice.drop(t.Context(), alice.self, s); err != nil {
		t.Fatal(err)
	}
	if _, err := commit(&movedError{}, s); !errors.As(err, &moved) || alice.staged(id) != nil {
		t.Errorf("a void one is stored (%v)", err)
	}
	alice.change(func(_ *state.Tx, v *view) error {
		return v.put(stagedIndexKey(v.self), &stagedIndex{Version: recordVersion, Staged: []ConversationID{id}})
	})
	if _, err := commit(nil, s); err == nil || errors.As(err, &moved) {
		t.Errorf("whether one is stored cannot be read: %v", err)
	}
	if _, err := alice.settle(t.Context(), alice.self, id); err == nil || errors.As(err, &moved) {
		t.Errorf("one that cannot be read is settled: %v", err)
	}
	if n := len(a.commits()); n != 0 {
		t.Errorf("%d Commits were shown", n)
	}
	alice.change(func(_ *state.Tx, v *view) error { v.delete(stagedIndexKey(v.self)); return nil })
	alice.change(func(_ *state.Tx, v *view) error { return v.stage(s) }) // whose answer is lost
	if conv, err := commit(nil, s); err != nil || conv == nil || conv.Epoch != before+1 {
		t.Errorf("the same one again: %v, %v", conv, err)
	}
	alice.nothingStaged()
}

// TestThreat25_AcceptedLongAgo: a staged Commit was accepted, and the delivery server
// remembers of it no more than that the epoch is taken by it. It takes its place by
// that answer alone.
func TestThreat25_AcceptedLongAgo(t *testing.T) {
	t.Parallel()
	a, alice, bob, id := pairApart(t)
	s := alice.left(a, id, true)
	before := alice.state(id).Epoch
	a.clock.advance(2 * day)
	bob.mustSync()
	conv, err := alice.settle(t.Context(), alice.self, id)
	if err != nil || conv == nil || conv.Epoch != before+1 || !bytes.Equal(conv.Group, s.Submission.Group) {
		t.Fatalf("%v, %v", conv, err)
	}
	alice.nothingStaged()
	if alice.state(id).Epoch != before+1 {
		t.Error("the state does not have it")
	}
}

// TestThreat25_WinnerIsNamed: whoever lost learns which Commit was faster, which may
// not be sent to this account.
func TestThreat25_WinnerIsNamed(t *testing.T) {
	t.Parallel()
	a, alice, bob, id := pairApart(t)
	s := alice.left(a, id, false)
	bob.renewKeys(id)
	_, err := alice.settle(t.Context(), alice.self, id)
	var moved *movedError
	if !errors.As(err, &moved) || !moved.taken || moved.winner == nil || moved.winner.Sender != bob.self || s.delivered(moved.winner) {
		t.Fatalf("%v, %+v", err, moved)
	}
	if s := alice.staged(id); s == nil {
		t.Error("it was dropped before the faster one is in the state")
	}
}

// TestThreat25_RefusedAndTheStateCannotFollow: a Commit stays where it is not known
// whether it served the conversation, and where it could not be forgotten.
func TestThreat25_RefusedAndTheStateCannotFollow(t *testing.T) {
	t.Parallel()
	a, alice, _, id := pairApart(t)
	s := alice.left(a, id, false)
	var refused *refusedError
	var kept *keptError
	still := func(what string, err error) {
		t.Helper()
		if err == nil || errors.As(err, &refused) || errors.As(err, &kept) {
			t.Errorf("%s: %v", what, err)
		}
		a.wire.set(nil, nil)
		a.storeWire.set(nil, nil)
		if !s.is(alice.staged(id)) {
			t.Errorf("%s: it is staged no more", what)
		}
	}
	answer := encodeJSON(t, &keyapi.Problem{Status: 409, Code: keyapi.CodeInstanceConflict, Instance: &keyapi.Instance{Group: []byte("another")}})
	a.wire.set(func(e *exchange) bool {
		switch {
		case e.is("POST", "/v1/tx"):
			e.status, e.answered, e.header = 409, answer, "application/problem+json"
		case e.is("GET", "/v1/delivery"):
			e.status = 0
		default:
			return false
		}
		return true
	}, nil)
	_, err := alice.settle(t.Context(), alice.self, id)
	still("the queue cannot be read", err)
	a.refuseCommits(&keyapi.Problem{Status: 400, Code: keyapi.CodeInvalid})
	a.storeWire.set(func(e *exchange) bool {
		if e.is("POST", "/v1/tx") {
			e.status = 0
			return true
		}
		return false
	}, nil)
	_, err = alice.settle(t.Context(), alice.self, id)
	still("it could not be forgotten", err)
	for _, p := range []*keyapi.Problem{{Status: 429, Code: keyapi.CodeRateLimited}, {Status: 500, Code: keyapi.CodeInternal}, {Status: 409, Code: keyapi.CodeConflict}} {
		a.refuseCommits(p)
		_, err = alice.settle(t.Context(), alice.self, id)
		still(p.Code, err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = alice.settle(cancelled, alice.self, id)
	still("whoever waited has gone", err)
}

// TestThreat25_RefusedGroupIsGivenUp: a new group whose first member cannot be told of
// it is not kept, in a conversation that is new as in one that has a group.
func TestThreat25_RefusedGroupIsGivenUp(t *testing.T) {
	t.Parallel()
	a, alice, bob, id := pairApart(t)
	for code, status := range map[string]int{keyapi.CodeQuota: 507, keyapi.CodeNoAccount: 404, keyapi.CodeForbidden: 403} {
		a.wire.set(func(e *exchange) bool {
			if !e.is("POST", "/v1/tx") {
				return false
			}
			if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c == nil || !c.Create {
				return false
			}
			e.refuse(t, &keyapi.Problem{Status: status, Code: code, Accounts: accounts(bob)})
			return true
		}, nil)
		fresh := newID(t)
		if _, err := alice.Ensure(t.Context(), alice.self, Conversation{ID: fresh, Kind: KindGroup, Members: accounts(bob)}); !isCode(err, code) {
			t.Errorf("%s: a new conversation: %v", code, err)
		}
		if _, err := alice.Replace(t.Context(), alice.self, id); err == nil {
			t.Errorf("%s: another group: %v", code, err)
		}
		alice.nothingStaged()
		a.wire.set(nil, nil)
	}
	bob.reads(alice.encrypt(id, "in the group as it was"), "in the group as it was", alice)
}

// TestThreat25_WhichCommitWasAccepted: a refusal says that a Commit was accepted before
// only where it names this one.
func TestThreat25_WhichCommitWasAccepted(t *testing.T) {
	t.Parallel()
	group, message := []byte("group"), []byte("Commit")
	commit := &stagedRecord{Submission: keyapi.CommitSubmission{Group: group, Epoch: 4, Commit: message}}
	create := &stagedRecord{Submission: keyapi.CommitSubmission{Group: group, Create: true}}
	if commit.opens() != 5 || create.opens() != 0 {
		t.Errorf("they open the epochs %d and %d", commit.opens(), create.opens())
	}
	ours := &keyapi.Delivery{Group: group, Message: message}
	instance := func(group string) *keyapi.Instance { return &keyapi.Instance{Group: []byte(group)} }
	for what, c := range map[string]struct {
		s    *stagedRecord
		p    keyapi.Problem
		want bool
	}{
		"it has taken the epoch":            {commit, keyapi.Problem{Code: keyapi.CodeEpochConflict, Winner: ours}, true},
		"something has":                     {commit, keyapi.Problem{Code: keyapi.CodeEpochConflict}, false},
		"another one has":                   {commit, keyapi.Problem{Code: keyapi.CodeEpochConflict, Winner: &keyapi.Delivery{Group: group, Message: []byte("other")}}, false},
		"one of another group has":          {commit, keyapi.Problem{Code: keyapi.CodeEpochConflict, Winner: &keyapi.Delivery{Group: message, Message: message}}, false},
		"a new one, and one without octets": {create, keyapi.Problem{Code: keyapi.CodeEpochConflict, Winner: &keyapi.Delivery{Group: group}}, false},
		"another refusal that names it":     {commit, keyapi.Problem{Code: keyapi.CodeForbidden, Winner: ours}, false},
		"the new group serves":              {create, keyapi.Problem{Code: keyapi.CodeInstanceConflict, Instance: instance("group")}, true},
		"another group serves":              {create, keyapi.Problem{Code: keyapi.CodeInstanceConflict, Instance: instance("other")}, false},
		"some group serves":                 {create, keyapi.Problem{Code: keyapi.CodeInstanceConflict}, false},
		"a group serves that it is in":      {commit, keyapi.Problem{Code: keyapi.CodeInstanceConflict, Instance: instance("group"), Winner: ours}, false},
	} {
		if got := c.s.acceptedBefore(&c.p); got != c.want {
			t.Errorf("%s: accepted before %v", what, got)
		}
	}
}

// TestThreat25_PromotedOnlyIfItIsThere: the Commit was accepted. What the user's other
// devices have made of the conversation meanwhile counts: their staged Commit is not
// taken for this one, and an epoch that is gone, or that this account has left, is not
// given to whoever wanted it.
func TestThreat25_PromotedOnlyIfItIsThere(t *testing.T) {
	t.Parallel()
	a, alice, _, id := pairApart(t)
	s := alice.left(a, id, false)
	another := *s
	another.Submission.TokenHash, another.Next = []byte("of another Commit"), []byte("no group")
	for what, c := range map[string]struct {
		staged *stagedRecord
		change func(*conversationRecord)
		want   bool // it is in the epoch
		left   *stagedRecord
	}{
		"another one is staged":         {&another, func(*conversationRecord) {}, false, &another},
		"the state is past it":          {s, func(r *conversationRecord) { r.Epoch += 2 }, false, nil},
		"another group serves":          {s, func(r *conversationRecord) { r.Group = []byte("another") }, false, nil},
		"nothing is, in another group":  {nil, func(r *conversationRecord) { r.Group, r.Epoch = []byte("another"), 9 }, false, nil},
		"nothing is, and it is removed": {nil, func(r *conversationRecord) { r.Removed, r.Epoch = 1, s.opens() }, false, nil},
		"nothing is, in that epoch":     {nil, func(*conversationRecord) {}, false, nil},
		"a sibling device promoted it":  {nil, func(r *conversationRecord) { r.Epoch = s.opens() }, true, nil},
		"and went on":                   {nil, func(r *conversationRecord) { r.Epoch = s.opens() + 1 }, true, nil},
	} {
		var before []byte
		alice.change(func(_ *state.Tx, v *view) error {
			var err error
			if before, err = v.get(conversationKey(v.self, id)); err != nil {
				return err
			}
			conv, err := v.conversation(id)
			if err != nil {
				return err
			}
			c.change(conv)
			if err := v.put(conversationKey(v.self, id), conv); err != nil {
				return err
			}
			if c.staged == nil {
				return v.unstage(id)
			}
			return v.stage(c.staged)
		})
		conv, err := alice.promoteAccepted(t.Context(), alice.self, s)
		var moved *movedError
		if c.want && (err != nil || conv == nil) || !c.want && (!errors.As(err, &moved) || conv != nil) {
			t.Errorf("%s: %+v, %v", what, conv, err)
		}
		if now := alice.staged(id); (now != nil) != (c.left != nil) || now != nil && !now.is(c.left) {
			t.Errorf("%s: %+v is staged", what, now)
		}
		alice.change(func(_ *state.Tx, v *view) error {
			v.putRaw(conversationKey(v.self, id), before)
			return nil
		})
	}
}

// silent is a client of a key server whose answers do not say that anything was applied.
type silent struct{ Server }

func (silent) Tx(context.Context, string, keyapi.Tx) (keyapi.TxResult, error) {
	return keyapi.TxResult{}, nil
}

// TestThreat25_HowOftenACommitIsShown: the identical octets a few times while no answer
// comes, and once where one came, or where nobody waits for it any more; an answer that
// does not say that it was applied is none.
func TestThreat25_HowOftenACommitIsShown(t *testing.T) {
	t.Parallel()
	a, alice, _, id := pairApart(t)
	s := alice.left(a, id, false)
	problem := encodeJSON(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
	server := alice.o.Server
	alice.o.Server = silent{server}
	if err := alice.submitAlone(t.Context(), &s.Submission); err == nil {
		t.Error("an answer that says nothing was taken for a yes")
	}
	alice.o.Server = server
	gone, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		what   string
		ctx    context.Context
		answer func(e *exchange)
		times  int
	}{
		{"no answer", t.Context(), func(e *exchange) { e.status = 0 }, maxSubmits},
		{"one that says nothing", t.Context(), func(e *exchange) { e.status, e.answered, e.header = 200, []byte("{}"), "application/json" }, maxSubmits},
		{"a refusal", t.Context(), func(e *exchange) { e.status, e.answered, e.header = 403, problem, "application/problem+json" }, 1},
		{"nobody waits", gone, func(e *exchange) { cancel(); e.status = 0 }, 1},
	} {
		var shown [][]byte
		a.wire.set(func(e *exchange) bool {
			if !e.is("POST", "/v1/tx") {
				return false
			}
			shown = append(shown, decodeJSON[keyapi.Tx](t, e.sent).Commit.Commit)
			c.answer(e)
			return true
		}, nil)
		if err := alice.submitAlone(c.ctx, &s.Submission); err == nil {
			t.Errorf("%s: it was accepted", c.what)
		}
		if len(shown) != c.times {
			t.Errorf("%s: shown %d times", c.what, len(shown))
		}
		for _, b := range shown {
			if !bytes.Equal(b, s.Submission.Commit) {
				t.Errorf("%s: other octets", c.what)
			}
		}
	}
}

// TestThreat25_WhatBecameOfAFormerCommit: whoever wants another one learns whether there
// is one epoch more, none, or none for now.
func TestThreat25_WhatBecameOfAFormerCommit(t *testing.T) {
	t.Parallel()
	a, alice, _, id := pairApart(t)
	former := func() error { return alice.settleFormer(t.Context(), alice.self, id) }
	if err := former(); err != nil {
		t.Errorf("there is none: %v", err)
	}
	alice.left(a, id, false)
	a.refuseCommits(&keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
	var kept *keptError
	if err := former(); !errors.As(err, &kept) || alice.staged(id) == nil {
		t.Errorf("refused for now: %v", err)
	}
	a.refuseCommits(&keyapi.Problem{Status: 400, Code: keyapi.CodeInvalid})
	if err := former(); err != nil || alice.staged(id) != nil {
		t.Errorf("refused for ever: %v", err)
	}
	a.wire.set(nil, nil)
	for _, taken := range []bool{false, true} {
		alice.left(a, id, taken)
		var moved *movedError
		if err := former(); !errors.As(err, &moved) || alice.staged(id) != nil {
			t.Errorf("it opened an epoch, at once %v: %v", taken, err)
		}
	}
}

// TestThreat25_SyncGoesOnWithCommits that devices left behind, says what changed by
// them, and leaves what it cannot read.
func TestThreat25_SyncGoesOnWithCommits(t *testing.T) {
	t.Parallel()
	a, alice, bob, id := pairApart(t)
	settle := func(ctx context.Context) (r SyncResult) {
		a.wire.reset()
		alice.settleAll(ctx, alice.self, &r)
		return r
	}
	before := alice.state(id).Epoch
	alice.left(a, id, false)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if settle(cancelled); len(a.wire.requests()) != 0 || alice.staged(id) == nil {
		t.Error("nobody waits for it, and it is submitted")
	}
	conv, err := alice.reader(t.Context(), alice.self).get(conversationKey(alice.self, id))
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(b []byte) {
		alice.change(func(_ *state.Tx, v *view) error { v.putRaw(conversationKey(v.self, id), b); return nil })
	}
	spoil([]byte("no conversation"))
	if settle(t.Context()); len(a.commits()) != 0 {
		t.Error("its conversation cannot be read, and it is submitted")
	}
	spoil(conv)
	if r := settle(t.Context()); !slices.Equal(r.Changed, []ConversationID{id}) || alice.state(id).Epoch != before+1 {
		t.Errorf("accepted: %+v", r)
	}
	bob.cleanSync()
	s := alice.left(a, id, false)
	bob.renewKeys(id)
	if r := settle(t.Context()); !slices.Equal(r.Changed, []ConversationID{id}) || alice.state(id).Epoch != before+2 || s.is(alice.staged(id)) {
		t.Errorf("beaten: %+v", r)
	}
	bob.reads(alice.encrypt(id, "in step"), "in step", alice)
}
