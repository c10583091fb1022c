package cloudmls

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// oneCommitPerEpoch checks that no account has shown the delivery server two
// different Commits for one epoch, but where somebody could not be told that they
// were added.
func (w *world) oneCommitPerEpoch(devices ...*device) {
	w.t.Helper()
	type epoch struct {
		self  Account
		group string
		n     uint64
	}
	seen := map[epoch]string{}
	for _, e := range w.wire.requests() {
		if !e.is("POST", "/v1/tx") {
			continue
		}
		c := decodeJSON[keyapi.Tx](w.t, e.sent).Commit
		if c == nil || len(c.Notice) > 0 || c.Create || !slices.ContainsFunc(devices, func(d *device) bool { return d.self == c.Sender }) {
			continue
		}
		if e.status == 507 && len(c.Joiners) > 0 {
			continue
		}
		at := epoch{c.Sender, string(c.Group), c.Epoch}
		if had, ok := seen[at]; ok && had != string(c.Commit) {
			w.t.Errorf("%s shows two Commits for epoch %d of a group", c.Sender, c.Epoch)
		}
		seen[at] = string(c.Commit)
	}
}

// refuseCommits makes the delivery server refuse all Commits in epochs of groups.
func (a *apart) refuseCommits(p *keyapi.Problem) {
	answer := encodeJSON(a.t, p)
	a.wire.set(func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") {
			return false
		}
		c := decodeJSON[keyapi.Tx](a.t, e.sent).Commit
		if c == nil || c.Create || len(c.Notice) > 0 {
			return false
		}
		e.status, e.answered, e.header = p.Status, answer, "application/problem+json"
		return true
	}, nil)
}

// TestThreat25_RefusedCommitStays: the delivery server refuses a staged Commit for a
// reason that another one would meet as well. Whoever wanted it is told, no device of
// the user makes another one for the epoch, and the same one opens it later.
func TestThreat25_RefusedCommitStays(t *testing.T) {
	t.Parallel()
	alice := account("alice")
	refusals := map[string]*keyapi.Problem{
		"forbidden":       {Status: 403, Code: keyapi.CodeForbidden},
		"unproven":        {Status: 403, Code: keyapi.CodeVerificationRequired},
		"no conversation": {Status: 404, Code: keyapi.CodeNotFound},
		"own inbox full":  {Status: 507, Code: keyapi.CodeQuota, Accounts: []Account{alice}},
		"some quota":      {Status: 507, Code: keyapi.CodeQuota},
		"of a stranger":   {Status: 404, Code: keyapi.CodeNoAccount, Accounts: []Account{account("stranger")}},
	}
	for name, refusal := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			alice, bob, id := a.user("alice"), a.user("bob"), newID(t)
			phone := alice.sibling()
			alice.ensureGroup(id, bob)
			phone.cleanSync()
			bob.cleanSync()
			before := alice.state(id).Epoch
			a.wire.reset()
			a.refuseCommits(refusal)
			for _, d := range []*device{alice, alice, phone} {
				var kept *keptError
				if err := d.commitFresh(id); !errors.As(err, &kept) || !isCode(err, refusal.Code) || !strings.Contains(err.Error(), "submitted again later") {
					t.Fatalf("a Commit that is refused: %v", err)
				}
			}
			phone.mustSync()
			if d := phone.state(id); d.Epoch != before || d.Blocked != nil {
				t.Fatalf("%+v", d)
			}
			bob.reads(alice.encrypt(id, "in the epoch before"), "in the epoch before", alice)
			a.wire.set(nil, nil)
			phone.cleanSync()
			for _, d := range []*device{alice, bob} {
				d.cleanSync()
			}
			if n := len(a.commits()); n != 1 {
				t.Errorf("%d Commits for an epoch", n)
			}
			for _, e := range a.wire.requests() { // its own delivery tells of it, should the answer be lost
				if !e.is("POST", "/v1/tx") {
					continue
				}
				if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c != nil && !slices.Contains(c.Recipients, alice.self) {
					t.Error("the account does not send itself its Commit")
				}
			}
			for _, d := range []*device{alice, phone, bob} {
				d.nothingStaged()
				if s := d.state(id); s.Epoch != before+1 {
					t.Errorf("%s is in epoch %d, want %d", d.self, s.Epoch, before+1)
				}
			}
		})
	}
}

// TestThreat25_HopelessCommitIsGivenUp: what can never be accepted is not kept, or
// the account could do nothing in the conversation any more.
func TestThreat25_HopelessCommitIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]*keyapi.Problem{
		"invalid":   {Status: 400, Code: keyapi.CodeInvalid},
		"too large": {Status: 413, Code: keyapi.CodeTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			alice, bob, id := a.user("alice"), a.user("bob"), newID(t)
			alice.ensureGroup(id, bob)
			bob.cleanSync()
			a.refuseCommits(refusal)
			var refused *refusedError
			if err := alice.commitFresh(id); !errors.As(err, &refused) || !isCode(err, refusal.Code) {
				t.Fatalf("a Commit that can never be: %v", err)
			}
			alice.nothingStaged()
			a.wire.set(nil, nil)
			if err := alice.commitFresh(id); err != nil {
				t.Fatal(err)
			}
			bob.cleanSync()
		})
	}
}

// TestThreat25_RefusedJoinerIsGivenUp: somebody who cannot be told that they were
// added keeps nobody else from opening the epoch, whether or not the answer names
// them.
func TestThreat25_RefusedJoinerIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{true, false} {
		for _, code := range []string{keyapi.CodeQuota, keyapi.CodeNoAccount} {
			t.Run(code, func(t *testing.T) {
				t.Parallel()
				a := newApart(t)
				alice, bob, carol, id := a.user("alice"), a.user("bob"), a.user("carol"), newID(t)
				alice.ensureGroup(id, bob)
				bob.cleanSync()
				refusal := &keyapi.Problem{Status: 507, Code: code}
				if code == keyapi.CodeNoAccount {
					refusal.Status = 404
				}
				if named {
					refusal.Accounts = accounts(carol)
				}
				a.refuseCommits(refusal)
				var refused *refusedError
				if _, err := alice.Add(t.Context(), alice.self, id, accounts(carol)); !errors.As(err, &refused) || !isCode(err, code) {
					t.Fatalf("adding somebody who cannot be told: %v", err)
				}
				alice.nothingStaged()
				a.wire.set(nil, nil)
				bob.reads(alice.encrypt(id, "two of us"), "two of us", alice)
				if err := alice.commitFresh(id); err != nil {
					t.Fatal(err)
				}
				bob.cleanSync()
			})
		}
	}
}

// TestThreat25_RefusedCommitDoesNotKeepADialog: a dialog whose Commits are refused
// can be begun anew.
func TestThreat25_RefusedCommitDoesNotKeepADialog(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob := a.user("alice"), a.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	a.refuseCommits(&keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
	var kept *keptError
	if err := alice.commitFresh(id); !errors.As(err, &kept) {
		t.Fatal(err)
	}
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatalf("begun anew: %v", err)
	}
	alice.nothingStaged()
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "anew"), "anew", alice)
}

// TestThreat25_PromotesWhatIsThere: while a staged Commit is on its way, another
// device asks for fresh keys whatever it brings. That is not undone by its answer.
func TestThreat25_PromotesWhatIsThere(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob, id := a.user("alice"), a.user("bob"), newID(t)
	phone := alice.sibling()
	alice.ensureGroup(id, bob)
	phone.cleanSync()
	bob.cleanSync()
	once := false
	a.wire.set(nil, func(e *exchange) {
		if once || !e.is("POST", "/v1/tx") || decodeJSON[keyapi.Tx](t, e.sent).Commit == nil {
			return
		}
		once = true
		err := phone.update(t.Context(), phone.self, func(_ *state.Tx, v *view) error { return v.markLeaf(id) })
		if err != nil {
			t.Error(err)
		}
	})
	if err := alice.commitFresh(id); err != nil || !once {
		t.Fatal(err, once)
	}
	for _, d := range []*device{alice, phone} {
		d.mustSync()
		conv, err := d.reader(t.Context(), d.self).conversation(id)
		if err != nil || !conv.Renew {
			t.Errorf("the mark of another device was undone: %v, %v", conv.Renew, err)
		}
	}
}
