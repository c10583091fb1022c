package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// Where deliveries and sealed objects are two servers', no transaction covers
// both. A Commit is then stored whole, with its Welcome and the state of the
// epoch that it opens, before the delivery server hears of it. Any device of the
// user submits the identical octets until they are accepted or beaten, and what
// was accepted takes its place in the state: by the answer, or by the Commit's
// own delivery, whichever comes first. docs/spec/sdk.md, "Three servers".

// stagedRecord is a Commit, or a new group, that the delivery server may or may
// not have accepted. A conversation has at most one.
type stagedRecord struct {
	Version    int                     `json:"v"`
	Submission keyapi.CommitSubmission `json:"submission"`
	Next       []byte                  `json:"next"`      // the group in the epoch that it opens
	Signature  []byte                  `json:"signature"` // of the own leaf in it
	Vouched    []Account               `json:"vouched,omitempty"`
	Owed       []Account               `json:"owed,omitempty"`    // members who stay and are not sent it: their inboxes are full
	Renewed    bool                    `json:"renewed,omitempty"` // the Commit did what conversationRecord.Renew asks for
}

func (s *stagedRecord) id() ConversationID { return ConversationID(s.Submission.Conversation) }

// is tells whether both are the same Commit: no two epochs have one token.
func (s *stagedRecord) is(o *stagedRecord) bool {
	return o != nil && bytes.Equal(s.Submission.TokenHash, o.Submission.TokenHash)
}

// delivered tells whether d is this Commit.
func (s *stagedRecord) delivered(d *keyapi.Delivery) bool {
	return d != nil && len(d.Message) > 0 && bytes.Equal(d.Group, s.Submission.Group) && bytes.Equal(d.Message, s.Submission.Commit)
}

// stagedIndex lists the conversations of an account that have one.
type stagedIndex struct {
	Version int              `json:"v"`
	Staged  []ConversationID `json:"staged"`
}

func stagedKey(self Account, id ConversationID) state.Key {
	return state.Key{Type: state.TypeGroup, Account: self, Name: id.String() + "/staged"}
}

func stagedIndexKey(self Account) state.Key {
	return state.Key{Type: state.TypeApp, Account: self, Name: "cloudmls/staged"}
}

func (v *view) stagedIndex() (*stagedIndex, error) {
	r := &stagedIndex{Version: recordVersion}
	_, err := v.read(stagedIndexKey(v.self), r)
	return r, err
}

// staged gives the conversation's staged Commit, nil where there is none.
func (v *view) staged(id ConversationID) (*stagedRecord, error) {
	index, err := v.stagedIndex()
	if err != nil || !slices.Contains(index.Staged, id) {
		return nil, err
	}
	r := &stagedRecord{}
	_, err = v.read(stagedKey(v.self, id), r)
	switch {
	case err != nil:
		return nil, fmt.Errorf("staged Commit: %w", err)
	case !bytes.Equal(r.Submission.Conversation, id[:]):
		return nil, errors.New("staged Commit: the index names one that is not there")
	}
	return r, nil
}

func (v *view) stage(s *stagedRecord) error {
	index, err := v.stagedIndex()
	if err != nil {
		return err
	}
	if !slices.Contains(index.Staged, s.id()) {
		index.Staged = append(index.Staged, s.id())
	}
	if err := v.put(stagedIndexKey(v.self), index); err != nil {
		return err
	}
	return v.put(stagedKey(v.self, s.id()), s)
}

// unstage forgets the conversation's staged Commit, if it has one.
func (v *view) unstage(id ConversationID) error {
	index, err := v.stagedIndex()
	if err != nil || !slices.Contains(index.Staged, id) {
		return err
	}
	v.delete(stagedKey(v.self, id))
	index.Staged = slices.DeleteFunc(index.Staged, func(x ConversationID) bool { return x == id })
	if len(index.Staged) == 0 {
		v.delete(stagedIndexKey(v.self))
		return nil
	}
	return v.put(stagedIndexKey(v.self), index)
}

// unstageOf forgets a staged Commit of a group that has left the epoch which it
// was made in, or that was entered by it. One that makes another group stays:
// the delivery server decides about it.
func (v *view) unstageOf(id ConversationID, group []byte) error {
	s, err := v.staged(id)
	if err != nil || s == nil || !bytes.Equal(s.Submission.Group, group) {
		return err
	}
	return v.unstage(id)
}

// stageGroup puts the next epoch's group into a record.
func stageGroup(s keyapi.CommitSubmission, next *mls.Group, signature mls.SignaturePrivateKey, vouched map[Account]*mls.KeyPackage, renewed bool) (*stagedRecord, error) {
	b, err := next.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode group: %w", err)
	}
	return &stagedRecord{
		Version: recordVersion, Submission: s, Next: b, Signature: signature, Vouched: sortedAccounts(vouched), Renewed: renewed,
	}, nil
}

// together runs one transaction of state and Commit, and remembers where there
// is no such thing: the error is keyapi.ErrSplit then.
func (c *Client) together(ctx context.Context, self Account, fn func(*state.Tx, *view) error) error {
	if c.apart.Load() {
		return keyapi.ErrSplit
	}
	err := c.update(ctx, self, fn)
	if errors.Is(err, keyapi.ErrSplit) {
		c.apart.Store(true)
	}
	return err
}

// promote makes the epoch that a staged Commit opens the account's: the delivery
// server has accepted it.
func (c *Client) promote(v *view, s *stagedRecord) (*conversationRecord, error) {
	next, err := mls.UnmarshalGroup(s.Next, mls.SignaturePrivateKey(s.Signature), v.certs.validate)
	if err != nil {
		return nil, fmt.Errorf("staged group: %w", err)
	}
	conv, err := v.conversation(s.id())
	if err != nil {
		return nil, err
	}
	sub := &s.Submission
	switch {
	case sub.Create && conv == nil:
		conv = &conversationRecord{
			Version: recordVersion, ID: s.id(), Kind: sub.Kind, JoinEpoch: uint64(next.Epoch()), Since: c.now().UnixMilli(),
		}
	case sub.Create && !bytes.Equal(conv.Group, sub.Group):
		if err := v.retire(conv, uint64(next.Epoch()), c.now().UnixMilli()); err != nil {
			return nil, err
		}
	case conv == nil || sub.Create || conv.Removed != 0 || !bytes.Equal(conv.Group, sub.Group) || conv.Epoch != sub.Epoch:
		return nil, &movedError{}
	}
	if conv.BrokenKind == ProblemWithheld {
		conv.Broken, conv.BrokenKind, conv.Asked = "", "", 0
	}
	conv.Renew = conv.Renew && !s.Renewed
	if err := v.owe(conv, s.Owed, c.now()); err != nil {
		return nil, err
	}
	v.vouched = map[Account]bool{}
	for _, a := range s.Vouched {
		v.vouched[a] = true
	}
	if err := v.openEpoch(conv, next, mls.SignaturePrivateKey(s.Signature), c.now()); err != nil {
		return nil, err
	}
	if err := checkRoster(conv.Kind, conv.ID, v.self, conv.Members); err != nil {
		return nil, err
	}
	return conv, nil // openEpoch has forgotten what was staged
}
