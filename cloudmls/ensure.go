package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/mls"
)

// Ensure creates the conversation if there is none and adds members who are
// missing. It never removes anybody. Where everybody is in it already, it
// answers without the network. A dialog that this account cannot take part in any
// more begins anew, with another group, and so does one that still shows an identity
// key which the other one replaced an hour ago, or which people here have settled is
// not the other one's (AcceptIdentity, Verify). When it fails nobody was added;
// *MissingKeyPackagesError names who cannot be, *IdentityChangedError and
// *BadKeyPackageError who must not be.
func (c *Client) Ensure(ctx context.Context, self Account, want Conversation) (*ConversationState, error) {
	self, members, id, err := c.wanted(ctx, self, want)
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
	conv = conv.of(want.Kind)
	if err := conv.checkHistory(want.HistoryDays); err != nil {
		return nil, err
	}
	dead, err := c.deadEnd(ctx, self, conv)
	if err != nil {
		return nil, err
	}
	if conv != nil && conv.Kind == want.Kind && conv.ready(want.Kind) && !dead && len(absent(conv, members)) == 0 {
		return c.snapshot(ctx, self, conv), nil
	}
	if _, err := c.sync(ctx, self); err != nil {
		return nil, err
	}
	conv, err = c.ensure(ctx, self, id, want, members)
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, self, conv), nil
}

// wanted gives a wanted conversation's id and its members but the own account, in
// canonical form.
func (c *Client) wanted(ctx context.Context, self Account, want Conversation) (Account, []Account, ConversationID, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return self, nil, ConversationID{}, err
	}
	members, err := others(self, want.Members)
	if err != nil {
		return self, nil, ConversationID{}, err
	}
	id, err := conversationID(self, want, members)
	return self, members, id, err
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
func (c *Client) ensure(ctx context.Context, self Account, id ConversationID, want Conversation, members []Account) (*conversationRecord, error) {
	kind := want.Kind
	claimed := map[Account]*mls.KeyPackage{}
	var taken *takenError
	if err := c.evict(ctx, self, id, kind); err != nil {
		return nil, err
	}
	for attempt := 0; ; attempt++ {
		conv, err := c.reader(ctx, self).conversation(id)
		if err != nil {
			return nil, fmt.Errorf("conversation: %w", err)
		}
		if err := conv.checkHistory(want.HistoryDays); err != nil {
			return nil, err
		}
		dead, err := c.deadEnd(ctx, self, conv)
		if err != nil {
			return nil, err
		}
		p := place{id: id, kind: kind, over: conv, days: want.HistoryDays}
		switch {
		case conv != nil && conv.Kind != kind:
			return nil, fmt.Errorf("the conversation is of kind %d", conv.Kind)
		case conv != nil && (kind == KindGroup || conv.blocked() == nil && !dead):
			return c.addMissing(ctx, self, id, members, claimed)
		case attempt >= maxReplacements, attempt == 2 && kind == KindGroup:
			return nil, ErrConversationTaken
		case conv == nil && attempt >= 2 && taken != nil:
			// A dialog that this account lost, or was never let into: being one of
			// the pair is enough to begin anew.
			p.replaces = taken.group
		case conv != nil:
			p.replaces = taken.instead(conv.Group)
		}
		if err := c.claimNew(ctx, self, members, claimed, conv != nil && conv.PostQuantum); err != nil {
			return nil, err
		}
		conv, err = c.create(ctx, self, p, claimed)
		if err == nil {
			return conv, nil
		}
		if !errors.As(err, &taken) {
			return nil, fmt.Errorf("create conversation: %w", err)
		}
		if _, err := c.sync(ctx, self); err != nil { // the winner's Welcome waits there
			return nil, err
		}
	}
}

// maxReplacements bounds how often a dialog's instance is replaced because the
// other side, or a sibling device, was faster.
const maxReplacements = 6

// addMissing adds members who are not in the group, those included whom the
// Commit itself takes out because they had asked to leave: they are wanted anew.
func (c *Client) addMissing(ctx context.Context, self Account, id ConversationID, members []Account, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	conv, err := c.addAbsent(ctx, self, id, members, claimed)
	if err == nil && len(absent(conv, members)) > 0 {
		conv, err = c.addAbsent(ctx, self, id, members, claimed)
	}
	return conv, err
}

func (c *Client) addAbsent(ctx context.Context, self Account, id ConversationID, members []Account, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	return c.commit(ctx, self, id, func(conv *conversationRecord) (*change, error) {
		missing := absent(conv, members)
		if len(missing) == 0 {
			return nil, nil
		}
		if conv.Kind != KindGroup {
			return nil, errNotThePair
		}
		if len(missing) > 1 {
			nobody, _, err := c.unreachable(ctx, missing, claimed)
			if err != nil {
				return nil, err
			}
			if len(nobody) > 0 {
				return nil, &MissingKeyPackagesError{Accounts: nobody}
			}
		}
		if err := c.claimAll(ctx, self, missing, claimed, conv.suite()); err != nil {
			if conv.PostQuantum {
				err = c.noDowngrade(ctx, err)
			}
			return nil, err
		}
		add := make(map[Account]*mls.KeyPackage, len(missing))
		for _, a := range missing {
			add[a] = claimed[a]
		}
		return &change{add: add}, nil
	})
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
