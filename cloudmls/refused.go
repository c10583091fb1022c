package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// A staged Commit that the delivery server refuses is not followed by another one
// for the same epoch without need: a server that lies would have several of one leaf
// to show to different people. It is told to fewer people, or kept, or, where no
// later answer can be another one, given up. docs/spec/sdk.md, "Three servers".

// refusedError: the delivery server will not take a staged Commit, which is
// forgotten.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return "the Commit was refused: " + e.err.Error() }

func (e *refusedError) Unwrap() error { return e.err }

// keptError: the delivery server does not take a staged Commit for a reason that
// another one would meet as well. It stays, and is submitted again later.
type keptError struct {
	staged *stagedRecord
	err    error
}

func (e *keptError) Error() string {
	return "the Commit was not accepted, and is submitted again later: " + e.err.Error()
}

func (e *keptError) Unwrap() error { return e.err }

// hopeless tells whether a refusal says that this Commit, or new group, is never
// accepted, while another one may be: it breaks a rule of the interface, its Welcome
// can be told to nobody, or the conversation has a group that it does not replace.
func (s *stagedRecord) hopeless(p *keyapi.Problem) bool {
	switch p.Code {
	case keyapi.CodeInstanceConflict, keyapi.CodeInvalid, keyapi.CodeTooLarge:
		return true
	case keyapi.CodeNoAccount, keyapi.CodeQuota:
		if len(p.Accounts) == 0 {
			return s.Submission.Create || len(s.Submission.Joiners) > 0
		}
		return s.Submission.Create || slices.ContainsFunc(p.Accounts, func(a Account) bool { return slices.Contains(s.Submission.Joiners, a) })
	}
	return s.Submission.Create // the next one gets an id of its own, and takes no epoch
}

// tellFewer takes members out of whom a staged Commit is sent to because their
// inboxes take nothing: the Commit stays the same. Those who stay in the group are
// let in again once there is room. nil: there is nobody to take out.
func (c *Client) tellFewer(ctx context.Context, self Account, s *stagedRecord, p *keyapi.Problem) (*stagedRecord, error) {
	var next *stagedRecord
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		next = nil
		now, err := v.staged(s.id())
		if err != nil {
			return err
		}
		if !s.is(now) {
			return &movedError{} // a sibling device knows what became of it
		}
		removed, err := v.removedBy(now)
		if err != nil {
			return err
		}
		sub := &now.Submission
		out := unreached(p, removed, func(a Account) bool {
			return a != self && slices.Contains(sub.Recipients, a) && !slices.Contains(sub.Joiners, a)
		})
		if len(out) == 0 {
			if len(sub.Recipients) < len(s.Submission.Recipients) {
				next = now // a sibling device took them out
			}
			return errNothing
		}
		sub.Recipients = slices.DeleteFunc(sub.Recipients, func(a Account) bool { return slices.Contains(out, a) })
		for _, a := range out {
			if p.Code == keyapi.CodeQuota && !slices.Contains(removed, a) {
				now.Owed = append(now.Owed, a)
			}
		}
		next = now
		return v.put(stagedKey(self, s.id()), now)
	})
	if err != nil && !errors.Is(err, errNothing) {
		return nil, err
	}
	return next, nil
}

// removedBy lists the members whom a staged Commit removes.
func (v *view) removedBy(s *stagedRecord) ([]Account, error) {
	conv, err := v.conversation(s.id())
	if err != nil || conv == nil {
		return nil, err
	}
	g, err := mls.UnmarshalGroup(s.Next, mls.SignaturePrivateKey(s.Signature), v.certs.validate)
	if err != nil {
		return nil, fmt.Errorf("staged group: %w", err)
	}
	stay, err := v.certs.roster(g.Members())
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(rosterAccounts(conv.Members), func(a Account) bool {
		_, stays := rosterFind(stay, a)
		return stays
	}), nil
}

// settleOver is settleFormer for whoever puts another group in the place of the
// conversation's: a Commit of the one before that was refused is given up.
func (c *Client) settleOver(ctx context.Context, self Account, id ConversationID) error {
	err := c.settleFormer(ctx, self, id)
	var kept *keptError
	if !errors.As(err, &kept) {
		return err
	}
	return c.drop(ctx, self, kept.staged)
}
