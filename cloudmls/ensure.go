package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// errTaken: the conversation has an instance at the key server already, or a
// sibling device just made one.
var errTaken = errors.New("conversation exists already")

// Ensure creates the conversation if there is none and adds members who are
// missing. It never removes anybody. Where everybody is in it already, it
// answers without the network. When it fails nobody was added;
// *MissingKeyPackagesError names who cannot be, *IdentityChangedError and
// *BadKeyPackageError who must not be.
func (c *Client) Ensure(ctx context.Context, self Account, want Conversation) (*ConversationState, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	members, err := others(self, want.Members)
	if err != nil {
		return nil, err
	}
	id, err := conversationID(self, want, members)
	if err != nil {
		return nil, err
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	conv, err := c.reader(ctx, self).conversation(id)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	if conv != nil && conv.Removed == 0 && len(absent(conv, members)) == 0 {
		return c.snapshot(ctx, self, conv), nil
	}
	if _, err := c.sync(ctx, self); err != nil {
		return nil, err
	}
	conv, err = c.ensure(ctx, self, id, want.Kind, members)
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, self, conv), nil
}

// conversationID checks the wanted id against the people, or derives it.
func conversationID(self Account, want Conversation, members []Account) (ConversationID, error) {
	derived := ConversationID{}
	switch want.Kind {
	case KindSelf:
		if len(members) != 0 {
			return derived, errNotSelf
		}
		derived = groupid.Self(self.Platform, self.ID)
	case KindDialog:
		if len(members) != 1 {
			return derived, errNotThePair
		}
		derived = groupid.Dialog(self.Platform, self.ID, members[0].ID)
	case KindGroup:
		if want.ID.IsZero() {
			return derived, errors.New("a group needs a conversation id: groupid.New makes one")
		}
		return want.ID, nil
	default:
		return derived, fmt.Errorf("conversation kind %d", want.Kind)
	}
	if !want.ID.IsZero() && want.ID != derived {
		return ConversationID{}, errWrongID
	}
	return derived, nil
}

// absent lists who of members is not in the roster.
func absent(conv *conversationRecord, members []Account) []Account {
	var list []Account
	for _, a := range members {
		if _, ok := rosterFind(conv.Members, a); !ok {
			list = append(list, a)
		}
	}
	return list
}

// ensure is Ensure after a Sync. The caller holds the conversation's lock.
func (c *Client) ensure(ctx context.Context, self Account, id ConversationID, kind Kind, members []Account) (*conversationRecord, error) {
	claimed := map[Account]*mls.KeyPackage{}
	for attempt := 0; ; attempt++ {
		conv, err := c.reader(ctx, self).conversation(id)
		if err != nil {
			return nil, fmt.Errorf("conversation: %w", err)
		}
		if conv != nil {
			if conv.Kind != kind {
				return nil, fmt.Errorf("the conversation is of kind %d", conv.Kind)
			}
			return c.addMissing(ctx, self, id, members, claimed)
		}
		if attempt == 2 {
			return nil, ErrConversationTaken
		}
		if err := c.claimAll(ctx, self, members, claimed); err != nil {
			return nil, err
		}
		conv, err = c.create(ctx, self, id, kind, claimed)
		if err == nil {
			return conv, nil
		}
		if !errors.Is(err, errTaken) {
			return nil, fmt.Errorf("create conversation: %w", err)
		}
		if _, err := c.sync(ctx, self); err != nil { // the winner's Welcome waits there
			return nil, err
		}
	}
}

func (c *Client) addMissing(ctx context.Context, self Account, id ConversationID, members []Account, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	return c.commit(ctx, self, id, func(conv *conversationRecord) (*change, error) {
		missing := absent(conv, members)
		if len(missing) == 0 {
			return nil, nil
		}
		if conv.Kind != KindGroup {
			return nil, errNotThePair
		}
		if err := c.claimAll(ctx, self, missing, claimed); err != nil {
			return nil, err
		}
		add := make(map[Account]*mls.KeyPackage, len(missing))
		for _, a := range missing {
			add[a] = claimed[a]
		}
		return &change{add: add}, nil
	})
}

// create makes a group with a random group_id for the conversation, adds the
// members with its first Commit, and publishes all of it in one transaction.
func (c *Client) create(ctx context.Context, self Account, id ConversationID, kind Kind, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	g, signature, err := c.newGroup(ctx, self, binding{kind: kind, conversation: id, origin: c.o.Origin})
	if err != nil {
		return nil, err
	}
	conv := &conversationRecord{
		Version: recordVersion, ID: id, Kind: kind, Group: []byte(g.ID()), Since: c.now().UnixMilli(),
	}
	s := &keyapi.CommitSubmission{
		Conversation: id[:], Kind: kind, Sender: self, Group: conv.Group, Create: true,
	}
	next := g
	if len(claimed) == 0 {
		if s.TokenHash, err = commitTokenHash(g); err != nil {
			return nil, err
		}
	} else {
		o := mls.CommitOptions{Now: c.now(), Padding: padme}
		s.Joiners = sortedAccounts(claimed)
		for _, a := range s.Joiners {
			o.Add = append(o.Add, claimed[a])
		}
		pending, err := g.Commit(o)
		if err != nil {
			return nil, fmt.Errorf("make Commit: %w", err)
		}
		if err := fill(s, pending); err != nil {
			return nil, err
		}
		s.Recipients = []Account{self}
		next = pending.Staged.Group()
	}
	if kind != KindGroup {
		s.Pair = append([]Account{self}, s.Joiners...)
		slices.SortFunc(s.Pair, compareAccounts)
	}
	conv.JoinEpoch = uint64(next.Epoch())
	crashpoint.Here("group-staged")
	err = c.update(ctx, self, func(tx *state.Tx, v *view) error {
		v.vouchFor(claimed)
		if now, err := v.conversation(id); err != nil {
			return err
		} else if now != nil {
			return errTaken
		}
		if err := v.openEpoch(conv, next, signature, c.now()); err != nil {
			return err
		}
		if err := checkRoster(kind, id, self, conv.Members); err != nil {
			return err
		}
		return tx.SetCommit(*s)
	})
	if isCode(err, keyapi.CodeInstanceConflict) {
		err = errTaken
	}
	if err != nil {
		return nil, err
	}
	crashpoint.Here("group-created")
	return conv, nil
}

// newGroup makes a group of one, bound to its conversation.
func (c *Client) newGroup(ctx context.Context, self Account, b binding) (*mls.Group, mls.SignaturePrivateKey, error) {
	id, err := c.identity(ctx, self)
	if err != nil {
		return nil, nil, err
	}
	if id == nil {
		return nil, nil, ErrNoAccount
	}
	life := lifetime(c.now())
	signature, credential, err := id.certify(self, suite, life)
	if err != nil {
		return nil, nil, err
	}
	capabilities := mls.DefaultCapabilities(suite, extensionBinding)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: suite, Credential: credential, SignatureKey: signature, Lifetime: life,
		Capabilities: &capabilities, Validate: validateCredential,
		Extensions: []mls.Extension{{Type: extensionBinding, Data: b.marshal()}},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("make group: %w", err)
	}
	return g, signature, nil
}

// Remove removes members from a group conversation; its id stays, and what
// they could read before they still can. Accounts that are not in it are
// ignored. Nobody else's KeyPackages are needed for it (F10).
func (c *Client) Remove(ctx context.Context, self Account, id ConversationID, members []Account) error {
	self, err := c.own(ctx, self)
	if err != nil {
		return err
	}
	gone, err := others(self, members)
	if err != nil {
		return err
	}
	if len(gone) == 0 && len(members) > 0 {
		return errors.New("an account cannot remove itself")
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := c.sync(ctx, self); err != nil {
		return err
	}
	_, err = c.commit(ctx, self, id, func(conv *conversationRecord) (*change, error) {
		if conv.Kind != KindGroup {
			return nil, errNotThePair
		}
		remove := slices.DeleteFunc(slices.Clone(gone), func(a Account) bool {
			_, ok := rosterFind(conv.Members, a)
			return !ok
		})
		if len(remove) == 0 {
			return nil, nil
		}
		return &change{remove: remove}, nil
	})
	return err
}
