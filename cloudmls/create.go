package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// takenError: the conversation has an instance at the key server already, or a
// sibling device just made one.
type takenError struct {
	group []byte // the instance, where the key server told
	none  bool   // the key server told that there is none, where one was to be replaced
}

func (e *takenError) Error() string {
	if e.none {
		return "the key server knows no group of the conversation"
	}
	return "conversation exists already"
}

// instead gives the instance that the next attempt replaces: the one that the key
// server told, or else that which serves the conversation here. What a Welcome showed
// of a dialog, the key server may never have heard of.
func (e *takenError) instead(group []byte) []byte {
	if e != nil && (e.group != nil || e.none) {
		return e.group
	}
	return group
}

// place is where a new group goes.
type place struct {
	id       ConversationID
	kind     Kind
	over     *conversationRecord // the conversation whose group it replaces; nil: it is new here
	replaces []byte              // the instance that it replaces at the key server; nil: there must be none
	token    []byte              // of that instance's epoch; in a group only
	days     uint32              // for how long history is kept, where it replaces nothing; 0: for ever
}

// create makes a group with a random group_id for the conversation, adds the
// members with its first Commit, and publishes all of it in one transaction.
func (c *Client) create(ctx context.Context, self Account, p place, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	var moved *movedError
	if err := c.settleOver(ctx, self, p.id); errors.As(err, &moved) {
		return nil, &takenError{}
	} else if err != nil {
		return nil, err
	}
	g, signature, err := c.newGroup(ctx, self, c.bindingFor(p), suiteOf(claimed))
	if err != nil {
		return nil, err
	}
	if p.over != nil && p.over.PostQuantum && g.CipherSuite() != suitePQ {
		return nil, ErrDowngrade
	}
	s := &keyapi.CommitSubmission{
		Conversation: p.id[:], Kind: p.kind, Sender: self, Group: []byte(g.ID()), Create: true, Replaces: p.replaces, Token: p.token,
	}
	next := g
	if len(claimed) == 0 {
		if s.TokenHash, err = commitTokenHash(g); err != nil {
			return nil, err
		}
	} else if next, err = c.firstCommit(g, s, claimed); err != nil {
		return nil, err
	}
	s.Recipients = nil
	if len(s.Commit) > 0 {
		s.Recipients = []Account{self}
	}
	if p.kind != KindGroup {
		s.Pair = append([]Account{self}, s.Joiners...)
		slices.SortFunc(s.Pair, compareAccounts)
	}
	crashpoint.Here("group-staged")
	var conv *conversationRecord
	err = c.together(ctx, self, func(tx *state.Tx, v *view) error {
		v.vouchFor(claimed)
		conv, err = c.makeRoom(v, p, uint64(next.Epoch()))
		if err != nil {
			return err
		}
		if err := v.openEpoch(conv, next, signature, c.now()); err != nil {
			return err
		}
		if err := checkRoster(p.kind, p.id, self, conv.Members); err != nil {
			return err
		}
		return tx.SetCommit(*s)
	})
	if errors.Is(err, keyapi.ErrSplit) {
		conv, err = c.createApart(ctx, self, p, s, next, signature, claimed)
	}
	var problem *keyapi.Problem
	if errors.As(err, &problem) && problem.Code == keyapi.CodeInstanceConflict {
		taken := &takenError{}
		if problem.Instance != nil {
			taken.group = problem.Instance.Group
		}
		return nil, taken
	}
	if p.replaces != nil && p.kind != KindGroup && isCode(err, keyapi.CodeNotFound) {
		return nil, &takenError{none: true}
	}
	if err != nil {
		return nil, err
	}
	crashpoint.Here("group-created")
	if p.replaces != nil || p.over != nil && len(p.over.Group) > 0 {
		told := []Notice{{At: c.now(), Conversation: p.id, Kind: NoticeReplaced, Text: "this account made another group for the conversation"}}
		if err := c.keepNotices(ctx, self, told); err != nil {
			c.warn(ctx, "a notice was not noted", err)
		}
	}
	return conv, nil
}

// createApart is the end of create where deliveries and objects are apart.
func (c *Client) createApart(ctx context.Context, self Account, p place, s *keyapi.CommitSubmission, next *mls.Group, signature mls.SignaturePrivateKey, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	staged, err := stageGroup(*s, next, signature, claimed, false)
	if err != nil {
		return nil, err
	}
	members, err := roster(next.Members())
	if err == nil {
		err = checkRoster(p.kind, p.id, self, members)
	}
	if err != nil {
		return nil, err
	}
	conv, err := c.commitApart(ctx, self, staged, func(v *view) error {
		_, err := c.makeRoom(v.nested(), p, uint64(next.Epoch()))
		return err
	})
	var moved *movedError
	if errors.As(err, &moved) {
		return nil, &takenError{}
	}
	return conv, err
}

// makeRoom gives the record that the new group goes into.
func (c *Client) makeRoom(v *view, p place, joinEpoch uint64) (*conversationRecord, error) {
	now, err := v.conversation(p.id)
	if err != nil {
		return nil, err
	}
	if p.over == nil {
		if now != nil {
			return nil, &takenError{}
		}
		return &conversationRecord{
			Version: recordVersion, ID: p.id, Kind: p.kind, JoinEpoch: joinEpoch, Since: c.now().UnixMilli(),
		}, nil
	}
	if now == nil || !bytes.Equal(now.Group, p.over.Group) || now.Epoch != p.over.Epoch || now.Removed != p.over.Removed {
		return nil, &takenError{}
	}
	return now, v.retire(now, joinEpoch, c.now().UnixMilli())
}

// firstCommit adds the first members and gives the group in epoch 1.
func (c *Client) firstCommit(g *mls.Group, s *keyapi.CommitSubmission, claimed map[Account]*mls.KeyPackage) (*mls.Group, error) {
	o := mls.CommitOptions{Now: c.now(), Padding: padme}
	s.Joiners = sortedAccounts(claimed)
	for _, a := range s.Joiners {
		o.Add = append(o.Add, claimed[a])
	}
	pending, err := g.Commit(o)
	if err != nil {
		return nil, &makeError{err}
	}
	if err := fill(s, pending); err != nil {
		return nil, err
	}
	return pending.Staged.Group(), nil
}

// suiteOf gives the cipher suite of a group for these KeyPackages, which are all
// of one. A group of one is post-quantum.
func suiteOf(claimed map[Account]*mls.KeyPackage) mls.CipherSuite {
	for _, kp := range claimed {
		return kp.CipherSuite()
	}
	return suitePQ
}

// suite gives that of the group which serves the conversation: an instance of
// the other kind is never followed by one of this kind.
func (r *conversationRecord) suite() mls.CipherSuite {
	if r.PostQuantum {
		return suitePQ
	}
	return suite
}

// ready tells whether Ensure has nothing to mend. A group that broke is left as
// it is: only its members can let this account in again.
func (r *conversationRecord) ready(kind Kind) bool {
	return r.blocked() == nil || kind == KindGroup && r.Broken != "" && r.Removed == 0
}

// bindingFor gives what a new group says of itself. One that replaces another
// keeps history for as long.
func (c *Client) bindingFor(p place) binding {
	b := binding{kind: p.kind, conversation: p.id, origin: c.o.Origin, days: p.days}
	if p.over != nil && len(p.over.Group) > 0 {
		b.days = p.over.Days
	}
	return b
}

// newGroup makes a group of one, bound to its conversation.
func (c *Client) newGroup(ctx context.Context, self Account, b binding, cs mls.CipherSuite) (*mls.Group, mls.SignaturePrivateKey, error) {
	id, err := c.identity(ctx, self)
	if err != nil {
		return nil, nil, err
	}
	if id == nil {
		return nil, nil, ErrNoAccount
	}
	life := lifetime(c.now())
	signature, credential, err := id.certify(self, cs, life)
	if err != nil {
		return nil, nil, err
	}
	capabilities := mls.DefaultCapabilities(cs, extensionBinding)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: cs, Credential: credential, SignatureKey: signature, Lifetime: life,
		Capabilities: &capabilities, Validate: c.certs.validate,
		Extensions: []mls.Extension{{Type: extensionBinding, Data: b.marshal()}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make group: %w", err)
	}
	return g, signature, nil
}
