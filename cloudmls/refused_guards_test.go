package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat25_WhatIsHopeless: after which refusals another Commit may be made for the
// epoch, because this one can never be accepted.
func TestThreat25_WhatIsHopeless(t *testing.T) {
	t.Parallel()
	bob, carol := account("bob"), account("carol")
	fresh := keyapi.CommitSubmission{}
	adds := keyapi.CommitSubmission{Joiners: []Account{bob}}
	creates := keyapi.CommitSubmission{Create: true}
	for _, c := range []struct {
		code                 string
		named                []Account
		fresh, adds, creates bool
	}{
		{keyapi.CodeInstanceConflict, nil, true, true, true},
		{keyapi.CodeInvalid, nil, true, true, true},
		{keyapi.CodeTooLarge, nil, true, true, true},
		{keyapi.CodeQuota, nil, false, true, true},
		{keyapi.CodeQuota, []Account{bob}, false, true, true},
		{keyapi.CodeQuota, []Account{carol, bob}, false, true, true},
		{keyapi.CodeQuota, []Account{carol}, false, false, true},
		{keyapi.CodeNoAccount, nil, false, true, true},
		{keyapi.CodeNoAccount, []Account{bob}, false, true, true},
		{keyapi.CodeNoAccount, []Account{carol}, false, false, true},
		{keyapi.CodeForbidden, nil, false, false, true},
		{keyapi.CodeForbidden, []Account{bob}, false, false, true},
		{keyapi.CodeNotFound, nil, false, false, true},
		{keyapi.CodeEpochConflict, nil, false, false, true},
	} {
		p := &keyapi.Problem{Code: c.code, Accounts: c.named}
		for what, e := range map[string]struct {
			s    keyapi.CommitSubmission
			want bool
		}{"fresh keys": {fresh, c.fresh}, "one who adds": {adds, c.adds}, "a new group": {creates, c.creates}} {
			if got := (&stagedRecord{Submission: e.s}).hopeless(p); got != e.want {
				t.Errorf("%s, %s of %v: hopeless %v", what, c.code, c.named, got)
			}
		}
	}
}

// kept stages a Commit that stays.
func (d *device) kept(a *apart, id ConversationID, do func() error) *stagedRecord {
	d.t.Helper()
	a.refuseCommits(&keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
	var kept *keptError
	if err := do(); !errors.As(err, &kept) {
		d.t.Fatalf("%s: a Commit that is refused: %v", d.self, err)
	}
	a.wire.set(nil, nil)
	s := d.staged(id)
	if s == nil || !s.is(kept.staged) {
		d.t.Fatalf("%s: %v is staged", d.self, s)
	}
	return s
}

// staged gives what a device knows to be staged.
func (d *device) staged(id ConversationID) *stagedRecord {
	d.t.Helper()
	s, err := d.reader(d.t.Context(), d.self).staged(id)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// TestThreat25_ToldFewer: whom a staged Commit is not sent to any more after a refusal,
// to whom that is owed, and that it is in the state before it is submitted again.
func TestThreat25_ToldFewer(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob, carol, dave := a.user("alice"), a.user("bob"), a.user("carol"), a.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	stranger := account("stranger")
	quota := func(named ...Account) *keyapi.Problem {
		return &keyapi.Problem{Status: 507, Code: keyapi.CodeQuota, Accounts: named}
	}
	gone := func(named ...Account) *keyapi.Problem {
		return &keyapi.Problem{Status: 404, Code: keyapi.CodeNoAccount, Accounts: named}
	}
	do := map[string]func() error{
		"fresh keys": func() error { return alice.commitFresh(id) },
		"one who adds": func() error {
			_, err := alice.Add(t.Context(), alice.self, id, accounts(dave))
			return err
		},
		"one who removes": func() error { return alice.Remove(t.Context(), alice.self, id, accounts(carol)) },
	}
	for _, c := range []struct {
		what      string
		refusal   *keyapi.Problem
		out, owed []Account // out: none where nobody can be left out
	}{
		{"fresh keys", quota(bob.self), accounts(bob), accounts(bob)},
		{"fresh keys", quota(bob.self, stranger, bob.self, carol.self), accounts(bob, carol), accounts(bob, carol)},
		{"fresh keys", gone(bob.self), accounts(bob), nil},
		{"fresh keys", quota(stranger), nil, nil},
		{"fresh keys", quota(alice.self), nil, nil},
		{"fresh keys", quota(), nil, nil},
		{"one who adds", quota(dave.self), nil, nil},
		{"one who adds", quota(dave.self, bob.self), accounts(bob), accounts(bob)},
		{"one who removes", quota(carol.self), accounts(carol), nil},
		{"one who removes", quota(), accounts(carol), nil},
		{"one who removes", gone(), accounts(carol), nil},
		{"one who removes", quota(carol.self, bob.self), accounts(carol, bob), accounts(bob)},
	} {
		s := alice.kept(a, id, do[c.what])
		before := slices.Clone(s.Submission.Recipients)
		commit := slices.Clone(s.Submission.Commit)
		next, err := alice.tellFewer(t.Context(), alice.self, s, c.refusal)
		if err != nil || (next != nil) != (len(c.out) != 0) {
			t.Fatalf("%s, %s of %v: %v, %v", c.what, c.refusal.Code, c.refusal.Accounts, next, err)
		}
		stored := alice.staged(id)
		if next == nil {
			next = s
		}
		left := slices.DeleteFunc(before, func(a Account) bool { return slices.Contains(c.out, a) })
		for where, r := range map[string]*stagedRecord{"given": next, "stored": stored} {
			if !r.is(s) || !bytes.Equal(r.Submission.Commit, commit) || !slices.Equal(r.Submission.Recipients, left) || !slices.Equal(r.Owed, c.owed) {
				t.Errorf("%s, %s of %v: %s: sent to %v and owed to %v; want %v and %v", c.what, c.refusal.Code, c.refusal.Accounts, where, r.Submission.Recipients, r.Owed, left, c.owed)
			}
		}
		if err := alice.drop(t.Context(), alice.self, s); err != nil {
			t.Fatal(err)
		}
		alice.nothingStaged()
	}
}

// TestThreat25_ToldFewerBySiblings: what a sibling device did with a staged Commit
// meanwhile counts, and what cannot be read is an error.
func TestThreat25_ToldFewerBySiblings(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob, id := a.user("alice"), a.user("bob"), newID(t)
	alice.ensureGroup(id, bob)
	s := alice.kept(a, id, func() error { return alice.commitFresh(id) })
	full := &keyapi.Problem{Status: 507, Code: keyapi.CodeQuota, Accounts: accounts(bob)}
	var moved *movedError
	another := *s
	another.Submission.TokenHash = []byte("of another Commit")
	if next, err := alice.tellFewer(t.Context(), alice.self, &another, full); !errors.As(err, &moved) || next != nil {
		t.Errorf("another one is staged: %v, %v", next, err)
	}
	if err := alice.drop(t.Context(), alice.self, &another); err != nil || alice.staged(id) == nil {
		t.Errorf("the Commit of a sibling device was dropped (%v)", err)
	}
	again := *s
	again.Submission.Joiners = accounts(bob)
	alice.change(func(_ *state.Tx, v *view) error { return v.stage(&again) })
	if next, err := alice.tellFewer(t.Context(), alice.self, &again, full); err != nil || next != nil {
		t.Errorf("who is let in again is left out: %v, %v", next, err)
	}
	alice.change(func(_ *state.Tx, v *view) error { return v.stage(s) })
	if next, err := alice.tellFewer(t.Context(), alice.self, s, full); err != nil || next == nil {
		t.Fatalf("%v, %v", next, err)
	}
	next, err := alice.tellFewer(t.Context(), alice.self, s, full) // s is as it was read before
	if err != nil || next == nil || slices.Contains(next.Submission.Recipients, bob.self) || len(next.Owed) != 1 {
		t.Errorf("a sibling device has left him out: %+v, %v", next, err)
	}
	if next, err := alice.tellFewer(t.Context(), alice.self, next, full); err != nil || next != nil {
		t.Errorf("there is nobody left to leave out: %+v, %v", next, err)
	}
	broken := *s
	broken.Next = []byte("no group")
	alice.change(func(_ *state.Tx, v *view) error { return v.stage(&broken) })
	if next, err := alice.tellFewer(t.Context(), alice.self, s, full); err == nil || next != nil || errors.As(err, &moved) {
		t.Errorf("one that cannot be read: %v, %v", next, err)
	}
	if err := alice.drop(t.Context(), alice.self, s); err != nil {
		t.Fatal(err)
	}
	if next, err := alice.tellFewer(t.Context(), alice.self, s, full); !errors.As(err, &moved) || next != nil {
		t.Errorf("none is staged: %v, %v", next, err)
	}
}
