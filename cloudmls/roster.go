package cloudmls

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// canonical brings an account into the form that is compared and stored.
func canonical(a Account) (Account, error) {
	if a.Platform == PlatformEmail {
		id, err := groupid.Canonical(a.ID)
		if err != nil {
			return Account{}, fmt.Errorf("account: %w", err)
		}
		a.ID = id
	}
	if err := a.Check(); err != nil {
		return Account{}, fmt.Errorf("account: %w", err)
	}
	return a, nil
}

func compareAccounts(a, b Account) int {
	return cmp.Or(cmp.Compare(a.Platform, b.Platform), cmp.Compare(a.ID, b.ID))
}

// others gives the canonical, sorted set of accounts without self.
func others(self Account, accounts []Account) ([]Account, error) {
	set := make([]Account, 0, len(accounts))
	for _, a := range accounts {
		c, err := canonical(a)
		if err != nil {
			return nil, err
		}
		if c.Platform != self.Platform {
			return nil, fmt.Errorf("account on platform %q in a conversation on %q", c.Platform, self.Platform)
		}
		if c != self {
			set = append(set, c)
		}
	}
	slices.SortFunc(set, compareAccounts)
	return slices.Compact(set), nil
}

func sortRoster(list []memberEntry) []memberEntry {
	slices.SortStableFunc(list, func(a, b memberEntry) int { return compareAccounts(a.account(), b.account()) })
	return slices.CompactFunc(list, func(a, b memberEntry) bool { return a.account() == b.account() })
}

func rosterAccounts(list []memberEntry) []Account {
	accounts := make([]Account, len(list))
	for i, m := range list {
		accounts[i] = m.account()
	}
	return accounts
}

func rosterFind(list []memberEntry, a Account) (memberEntry, bool) {
	i, ok := slices.BinarySearchFunc(list, a, func(m memberEntry, a Account) int { return compareAccounts(m.account(), a) })
	if !ok {
		return memberEntry{}, false
	}
	return list[i], true
}

// adds tells whether list has an account, or an account's identity key, that
// before does not have.
func adds(before, list []memberEntry) bool {
	return slices.ContainsFunc(list, func(m memberEntry) bool {
		b, ok := rosterFind(before, m.account())
		return !ok || !bytes.Equal(b.IdentityKey, m.IdentityKey) && !keyapi.RotationLeads(m.rotations, b.IdentityKey)
	})
}

var (
	errNotThePair = errors.New("the roster of a dialog must be exactly its two accounts")
	errNotSelf    = errors.New("the roster of a self conversation must be its own account")
	errWrongID    = errors.New("conversation id does not belong to these accounts")
	errTwoLeaves  = errors.New("an account has more than one leaf")
)

// checkRoster is the rule of design section 4 for who may be in a conversation:
// a dialog's id is the hash of its two accounts, and its roster is these two.
func checkRoster(kind Kind, id ConversationID, self Account, list []memberEntry) error {
	switch kind {
	case KindSelf:
		if len(list) != 1 || list[0].account() != self {
			return errNotSelf
		}
		if groupid.Self(self.Platform, self.ID) != id {
			return errWrongID
		}
	case KindDialog:
		if _, ok := rosterFind(list, self); !ok || len(list) != 2 {
			return errNotThePair
		}
		a, b := list[0].account(), list[1].account()
		if a.Platform != b.Platform || groupid.Dialog(a.Platform, a.ID, b.ID) != id {
			return errWrongID
		}
	case KindGroup:
		if _, ok := rosterFind(list, self); !ok {
			return errors.New("the own account is not in the roster")
		}
	default:
		return fmt.Errorf("conversation kind %d", kind)
	}
	return nil
}
