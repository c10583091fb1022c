package cloudmls

import (
	"errors"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
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
