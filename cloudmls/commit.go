package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// maxAttempts bounds how often a lost race is run again.
	maxAttempts = 24
	// maxHandshakes bounds the handshake generations of one epoch. Receivers
	// follow jumps of up to 1,024.
	maxHandshakes = 1000
	// maxUnseen is how often in a row an epoch may be taken by a Commit that is
	// not delivered.
	maxUnseen = 3
)

// change is what a Commit is to bring about. A nil change brings about nothing.
type change struct {
	add    map[Account]*mls.KeyPackage
	remove []Account
	renew  bool // a fresh signature key for the own leaf
	// untold are members who are not sent the Commit, for their inbox takes
	// nothing. It must keep nobody in, and nobody else out.
	untold []Account
	full   bool // they have one: those who stay are let in again once it has room
}

// makeError: a Commit could not be made of a change.
type makeError struct{ err error }

func (e *makeError) Error() string { return "make Commit: " + e.err.Error() }

func (e *makeError) Unwrap() error { return e.err }

// movedError: the group is not in the epoch any more that a Commit was made
// in. Winner is the Commit that was faster, where the key server told.
type movedError struct {
	winner *keyapi.Delivery
	taken  bool // the key server said so
}

func (*movedError) Error() string { return "the group moved to another epoch" }

// commit makes the change that plan asks for, as the only place where epochs
// are opened in an existing group. The group is not changed before the key
// server accepted the Commit; where another member was faster, the Commit is
// dropped, the winner's is processed and plan asked again. The caller holds
// the conversation's lock.
func (c *Client) commit(ctx context.Context, self Account, id ConversationID, plan func(*conversationRecord) (*change, error)) (*conversationRecord, error) {
	unseen := 0
	for range maxAttempts {
		conv, err := c.member(ctx, self, id)
		if err != nil {
			return nil, err
		}
		ch, err := plan(conv)
		if err != nil || ch == nil {
			return conv, err
		}
		ch.removeLeavers(self, conv)
		next, err := c.commitOnce(ctx, self, conv, ch)
		if err == nil {
			return next, nil
		}
		if isCode(err, keyapi.CodeInstanceConflict) {
			if err := c.elsewhere(ctx, self, conv, err); err != nil {
				return nil, err
			}
			continue
		}
		var moved *movedError
		if !errors.As(err, &moved) {
			return nil, c.lostState(ctx, self, conv, err)
		}
		if _, err := c.sync(ctx, self); err != nil {
			return nil, fmt.Errorf("follow the faster Commit: %w", err)
		}
		if err := c.followWinner(ctx, self, conv, moved.winner); err != nil {
			return nil, err
		}
		if unseen, err = c.countUnseen(ctx, self, conv, moved, unseen); err != nil {
			return nil, err
		}
	}
	return nil, ErrBusy
}

// countUnseen counts how often in a row the key server said that the epoch was
// taken and did not show by what. A sibling device's Commit shows in the state
// and others' in the queue, so that once more than one race allows is a reason
// to stop.
func (c *Client) countUnseen(ctx context.Context, self Account, before *conversationRecord, moved *movedError, n int) (int, error) {
	now, err := c.reader(ctx, self).conversation(before.ID)
	if err != nil {
		return n, fmt.Errorf("conversation: %w", err)
	}
	if !moved.taken || now == nil || now.Epoch != before.Epoch || string(now.Group) != string(before.Group) || now.Removed != 0 {
		return 0, nil
	}
	if n++; n < maxUnseen {
		return n, nil
	}
	return n, c.withheld(ctx, self, now)
}

// lostState breaks a conversation whose live group is missing in the state, so
// that the others are asked for help. It gives err back.
func (c *Client) lostState(ctx context.Context, self Account, conv *conversationRecord, err error) error {
	if !errors.Is(err, state.ErrNotFound) {
		return err
	}
	e := c.changeConversation(ctx, self, conv, func(v *view, now *conversationRecord, result *SyncResult) error {
		return c.breakDown(v, now, &refusal{kind: ProblemLostState, err: err}, nil, NoticeBroken, result)
	})
	return errors.Join(err, e)
}

// leaveOut notes members whose inbox kept a Commit from being accepted, and tells
// whether there are any besides those who are not sent it already.
func (ch *change) leaveOut(self Account, conv *conversationRecord, err error) bool {
	var p *keyapi.Problem
	if !undeliverable(err) || !errors.As(err, &p) {
		return false
	}
	more := unreached(p, ch.remove, func(a Account) bool {
		_, member := rosterFind(conv.Members, a)
		return member && a != self && ch.add[a] == nil && !slices.Contains(ch.untold, a)
	})
	ch.untold, ch.full = append(ch.untold, more...), ch.full || p.Code == keyapi.CodeQuota
	return len(more) > 0
}

// unreached lists those who may be left out of whom a refusal speaks: whom the key
// server names, or, where it names nobody, those who are removed.
func unreached(p *keyapi.Problem, removed []Account, may func(Account) bool) []Account {
	named := p.Accounts
	if len(named) == 0 {
		named = removed
	}
	var list []Account
	for _, a := range named {
		if may(a) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// owed lists members who stay and are not told that the epoch begins.
func (ch *change) owed() (list []Account) {
	for _, a := range ch.untold {
		if ch.full && !slices.Contains(ch.remove, a) {
			list = append(list, a)
		}
	}
	return list
}

// owe notes members who were not told that an epoch begins: they hear of it by
// being let in again, as soon as their inbox takes something.
func (v *view) owe(conv *conversationRecord, owed []Account, now time.Time) error {
	noted := false
	for _, a := range owed {
		if !slices.ContainsFunc(conv.Wishes, func(w wishEntry) bool { return w.account() == a }) {
			conv.Wishes = append(conv.Wishes, wishEntry{Platform: a.Platform, ID: a.ID, At: now.UnixMilli()})
			noted = true
		}
	}
	if !noted {
		return nil
	}
	return v.remind(conv.ID)
}

// removeLeavers makes the Commit carry out what members asked for who want to
// leave.
func (ch *change) removeLeavers(self Account, conv *conversationRecord) {
	for _, w := range conv.Wishes {
		a := w.account()
		if w.Leave && a != self && ch.add[a] == nil && !slices.Contains(ch.remove, a) {
			ch.remove = append(ch.remove, a)
		}
	}
}

// member gives the conversation if the account can take part in it.
func (c *Client) member(ctx context.Context, self Account, id ConversationID) (*conversationRecord, error) {
	conv, err := c.reader(ctx, self).conversation(id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("conversation: %w", err)
	case conv == nil:
		return nil, ErrNoConversation
	}
	if err := conv.blocked(); err != nil {
		return nil, err
	}
	return conv, nil
}

// commitOnce reserves a handshake generation, stages a Commit and publishes it
// with the next epoch's state in one transaction. Where only unrelated objects
// changed meanwhile, the identical Commit is sent again. After an error whose
// outcome is not known the state tells, at the next Sync, whether it happened.
func (c *Client) commitOnce(ctx context.Context, self Account, conv *conversationRecord, ch *change) (*conversationRecord, error) {
	if err := c.settleFormer(ctx, self, conv.ID); err != nil {
		return nil, err
	}
	generation, err := c.reserveHandshake(ctx, self, conv)
	if err != nil {
		return nil, err
	}
	crashpoint.Here("handshake-reserved")
	g, sender, err := c.reader(ctx, self).group(conv.Group, conv.Epoch)
	if err != nil {
		return nil, err
	}
	if uint64(g.Epoch()) != conv.Epoch {
		return nil, &movedError{}
	}
	signature := mls.SignaturePrivateKey(sender.SignatureKey)
	options, signature, err := c.commitOptions(ctx, self, g, ch, signature)
	if err != nil {
		return nil, err
	}
	options.Generation = &generation
	if options.ReuseGuard, err = c.reuseGuard(conv.Group, conv.Epoch); err != nil {
		return nil, err
	}
	crashpoint.Once("handshake generation", self, conv.Group, conv.Epoch, generation)
	pending, err := g.Commit(options)
	if err != nil {
		return nil, &makeError{err}
	}
	submission, err := submit(self, conv, g, pending)
	if err != nil {
		return nil, err
	}
	submission.Joiners = sortedAccounts(ch.add)
	crashpoint.Here("commit-staged")
	var next *conversationRecord
	still := func(v *view) error {
		now, err := v.conversation(conv.ID)
		if err != nil {
			return err
		}
		if now == nil || now.Removed != 0 || now.Broken != "" || now.Left != 0 || string(now.Group) != string(conv.Group) || now.Epoch != conv.Epoch {
			return &movedError{}
		}
		next = now
		return nil
	}
	for more := true; more; {
		err = c.together(ctx, self, func(tx *state.Tx, v *view) error {
			if err := still(v); err != nil {
				return err
			}
			v.vouchFor(ch.add)
			next.Renew = next.Renew && !ch.renew
			if err := v.owe(next, ch.owed(), c.now()); err != nil {
				return err
			}
			if err := v.openEpoch(next, pending.Staged.Group(), signature, c.now()); err != nil {
				return err
			}
			return tx.SetCommit(*submission)
		})
		// Nothing of it happened: the identical Commit goes to the others.
		if more = ch.leaveOut(self, conv, err); more {
			submission.Recipients = slices.DeleteFunc(submission.Recipients, func(a Account) bool { return slices.Contains(ch.untold, a) })
		}
	}
	if errors.Is(err, keyapi.ErrSplit) {
		var s *stagedRecord
		if s, err = stageGroup(*submission, pending.Staged.Group(), signature, ch.add, ch.renew); err == nil {
			next, err = c.commitApart(ctx, self, s, still)
		}
	}
	if err == nil {
		crashpoint.Here("commit-merged")
	}
	return next, moved(err)
}

// moved turns the key server's word that the epoch was taken into a movedError.
func moved(err error) error {
	var p *keyapi.Problem
	if errors.As(err, &p) && p.Code == keyapi.CodeEpochConflict {
		return &movedError{winner: p.Winner, taken: true}
	}
	if errors.Is(err, state.ErrBusy) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// reserveHandshake takes the next handshake generation of the own leaf, for
// good: devices share the leaf, and a generation is never used for two
// different Commits.
func (c *Client) reserveHandshake(ctx context.Context, self Account, conv *conversationRecord) (uint32, error) {
	var generation uint32
	err := c.swapSender(ctx, self, conv, func(r *senderRecord) error {
		if r.NextHandshake >= maxHandshakes {
			return ErrExhausted
		}
		generation = r.NextHandshake
		r.NextHandshake++
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("reserve handshake generation: %w", err)
	}
	return generation, nil
}

// swapSender changes the sender object of the conversation's current epoch; a
// movedError if it is of another. The store may offer what this device saw
// last, so an epoch that does not fit is looked up at the key server before it
// is believed.
func (c *Client) swapSender(ctx context.Context, self Account, conv *conversationRecord, fn func(*senderRecord) error) error {
	k := senderKey(self, conv.Group)
	swap := func() error {
		return c.store.Swap(ctx, k, func(old []byte) ([]byte, error) {
			r, err := decodeSender(old, conv.Epoch)
			if err != nil {
				return nil, err
			}
			if err := fn(r); err != nil {
				return nil, err
			}
			return encodeRecord(r)
		})
	}
	err := swap()
	var moved *movedError
	if !errors.As(err, &moved) {
		return err
	}
	switch _, getErr := c.store.Get(ctx, k); {
	case errors.Is(getErr, state.ErrNotFound):
		return err
	case getErr != nil:
		return getErr
	}
	return swap()
}

func decodeSender(b []byte, epoch uint64) (*senderRecord, error) {
	if b == nil {
		return nil, &movedError{} // the group was left or replaced
	}
	r := &senderRecord{}
	if err := decodeRecord(b, r); err != nil {
		return nil, err
	}
	if r.Epoch != epoch {
		return nil, &movedError{}
	}
	return r, nil
}

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
		cert, err := leafCertificate(m.Credential, m.SignatureKey)
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
