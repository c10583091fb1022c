package cloudmls

import (
	"context"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// commitOptions builds the proposals by value, and tells the signature key of
// the own leaf in the next epoch.
func (c *Client) commitOptions(ctx context.Context, self Account, g *mls.Group, ch *change, signature mls.SignaturePrivateKey) (mls.CommitOptions, mls.SignaturePrivateKey, error) {
	o := mls.CommitOptions{
		Now: c.now(), Padding: padme,
		// What members want is done by value: a Commit that refers to a proposal
		// is lost on whoever was not sent it.
		Select: func(*mls.ReceivedProposal) bool { return false },
	}
	for _, a := range sortedAccounts(ch.add) {
		o.Add = append(o.Add, ch.add[a])
	}
	for _, m := range g.Members() {
		cert, err := c.certs.leaf(m.Credential, m.SignatureKey)
		if err != nil {
			return o, nil, fmt.Errorf("leaf %d: %w", m.Leaf, err)
		}
		if slices.Contains(ch.remove, cert.Account()) && m.Leaf != g.OwnLeaf() {
			o.Remove = append(o.Remove, m.Leaf)
		}
	}
	if !ch.renew {
		return o, signature, nil
	}
	id, err := c.identity(ctx, self)
	if err != nil {
		return o, nil, err
	}
	if id == nil {
		return o, nil, ErrNoAccount
	}
	fresh, credential, err := id.certify(self, g.CipherSuite(), lifetime(c.now()))
	if err != nil {
		return o, nil, err
	}
	o.NewSignatureKey, o.NewCredential = fresh, &credential
	return o, fresh, nil
}

func submit(self Account, conv *conversationRecord, g *mls.Group, pending *mls.PendingCommit) (*keyapi.CommitSubmission, error) {
	s := &keyapi.CommitSubmission{
		Conversation: conv.ID[:], Kind: conv.Kind, Sender: self, Group: conv.Group,
		Epoch: conv.Epoch, Recipients: rosterAccounts(conv.Members),
	}
	if conv.Kind != KindGroup {
		s.Pair = rosterAccounts(conv.Members)
	}
	var err error
	if s.Token, err = commitToken(g); err != nil {
		return nil, err
	}
	return s, fill(s, pending)
}

func sortedAccounts(m map[Account]*mls.KeyPackage) []Account {
	accounts := make([]Account, 0, len(m))
	for a := range m {
		accounts = append(accounts, a)
	}
	slices.SortFunc(accounts, compareAccounts)
	return accounts
}

// fill puts the octets of a pending Commit, and the token of the epoch that it
// opens, into a submission.
func fill(s *keyapi.CommitSubmission, pending *mls.PendingCommit) error {
	var err error
	if s.TokenHash, err = commitTokenHash(pending.Staged.Group()); err != nil {
		return err
	}
	if s.Commit, err = pending.Commit.MarshalBinary(); err != nil {
		return fmt.Errorf("encode Commit: %w", err)
	}
	if pending.Welcome == nil {
		return nil
	}
	if s.Welcome, err = pending.Welcome.MarshalBinary(); err != nil {
		return fmt.Errorf("encode Welcome: %w", err)
	}
	return nil
}
