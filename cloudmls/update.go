package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/mls"
)

// Omitted says what becomes of members of a group who are not in the list that
// Update is given.
type Omitted string

// Policies for who is left out.
const (
	OmittedLeave  Omitted = ""       // they stay, and are reported as Extra
	OmittedRemove Omitted = "remove" // they are removed
)

// Membership says how a conversation stands to a list of people.
type Membership struct {
	// State of the conversation; nil: there is none, because Missing people kept
	// it from being made.
	State *ConversationState
	// Encrypted: a group serves the conversation. It stays true from then on, and
	// nothing is ever to be sent in clear in it; what keeps Encrypt from working
	// for the moment is State.Blocked.
	Encrypted bool
	// Complete: exactly the people of the list are in it.
	Complete bool
	// Missing are people of the list who are not in it, and why.
	Missing []Missing
	// Extra are people who are in it, can read along, and are not in the list.
	Extra []Account
}

// Missing is somebody who could not be added.
type Missing struct {
	Account Account
	Why     MissingReason
	Err     error
}

// MissingReason says why somebody could not be added.
type MissingReason string

// Reasons to be missing.
const (
	MissingNoAccount       MissingReason = "no account"       // the key server's explicit word
	MissingNoKeyPackage    MissingReason = "no key package"   // none left, or all too old
	MissingPostQuantum     MissingReason = "not post-quantum" // the conversation is, and stays so
	MissingIdentityChanged MissingReason = "identity changed" // AcceptIdentity decides
	MissingRefused         MissingReason = "refused"          // what the key server handed out is not theirs
	MissingUnavailable     MissingReason = "unavailable"      // could not be found out now
)

// Update brings the group of a conversation in line with a list of people, as a
// platform keeps it: it makes the group where there is none, adds who is missing,
// and, by want.Omitted, removes who is not in the list any more. A new group is
// made only with everybody. In one that is there, removals and the additions that
// are possible are done in one Commit: nobody's missing or expired KeyPackage
// keeps anybody in. An error says that nothing is known to have changed; people
// who cannot be added are no error.
//
// Where there is nothing to do, as far as this device knows since its last Sync, it
// answers without the network. Where the account itself was removed, or the group is
// broken, nothing is done and State.Blocked says so; State.Blocked is also where a list
// that is Complete shows somebody with another identity key than the pinned one.
//
// Somebody who lost track of the group counts as a member. Who has left, and is on
// the list, is added again. A list without
// anybody else is refused with ErrNobody: it is more likely a mistake of the
// platform than meant, and Remove and Leave are there.
func (c *Client) Update(ctx context.Context, self Account, want Conversation) (*Membership, error) {
	self, members, id, err := c.wanted(ctx, self, want)
	if err != nil {
		return nil, err
	}
	switch {
	case want.Kind == KindGroup && len(members) == 0:
		return nil, ErrNobody
	case want.Omitted != OmittedLeave && want.Omitted != OmittedRemove:
		return nil, fmt.Errorf("policy %q for members who are left out", want.Omitted)
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	u := &updating{c: c, self: self, id: id, want: want, members: members, claimed: map[Account]*mls.KeyPackage{}, missing: map[Account]Missing{}}
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
	if conv != nil && conv.Kind == want.Kind && conv.ready(want.Kind) && !dead && len(absent(conv, members)) == 0 && len(u.omitted(conv)) == 0 {
		return u.result(ctx, conv), nil // without the network
	}
	if _, err := c.sync(ctx, self); err != nil {
		return nil, err
	}
	return u.run(ctx)
}

// updating is one Update under way.
type updating struct {
	c       *Client
	self    Account
	id      ConversationID
	want    Conversation
	members []Account
	claimed map[Account]*mls.KeyPackage
	missing map[Account]Missing
}

// omitted lists who has to be removed.
func (u *updating) omitted(conv *conversationRecord) []Account {
	if u.want.Omitted != OmittedRemove || conv.Kind != KindGroup {
		return nil
	}
	return u.extra(conv)
}

// extra lists who is in the group and not in the list.
func (u *updating) extra(conv *conversationRecord) []Account {
	var list []Account
	for _, m := range conv.Members {
		if a := m.account(); a != u.self && !slices.Contains(u.members, a) {
			list = append(list, a)
		}
	}
	return list
}

func (u *updating) run(ctx context.Context) (*Membership, error) {
	conv, err := u.c.reader(ctx, u.self).conversation(u.id)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	dead, err := u.c.deadEnd(ctx, u.self, conv)
	if err != nil {
		return nil, err
	}
	if conv = conv.of(u.want.Kind); conv == nil || dead || u.want.Kind != KindGroup && conv.blocked() != nil {
		conv, err = u.c.ensure(ctx, u.self, u.id, u.want, u.members)
		if err != nil {
			return u.notMade(ctx, err)
		}
	}
	if conv.Kind != u.want.Kind {
		return nil, fmt.Errorf("the conversation is of kind %d", conv.Kind)
	}
	if conv.Kind != KindGroup || conv.blocked() != nil {
		return u.result(ctx, conv), nil
	}
	next, err := u.commit(ctx)
	if err == nil && len(u.wanting(next)) > 0 {
		// The Commit itself took somebody out who had asked to leave: they are wanted
		// anew.
		next, err = u.commit(ctx)
	}
	if errors.Is(err, ErrBroken) || errors.Is(err, ErrNotMember) { // it became so meanwhile
		next, err = u.c.reader(ctx, u.self).conversation(u.id)
	}
	if err != nil {
		return nil, err
	}
	return u.result(ctx, next), nil
}

// commit does what is possible of what is wanted.
func (u *updating) commit(ctx context.Context) (*conversationRecord, error) {
	next, err := u.c.commit(ctx, u.self, u.id, u.plan(ctx))
	if u.giveUpAdding(err) {
		next, err = u.c.commit(ctx, u.self, u.id, u.plan(ctx))
	}
	return next, err
}

// wanting lists who is not in the group, and could be as far as is known.
func (u *updating) wanting(conv *conversationRecord) []Account {
	return slices.DeleteFunc(absent(conv, u.members), func(a Account) bool { return u.missing[a].Why != "" })
}

func (u *updating) plan(ctx context.Context) func(*conversationRecord) (*change, error) {
	return func(conv *conversationRecord) (*change, error) {
		ch := &change{add: map[Account]*mls.KeyPackage{}, remove: u.omitted(conv)}
		for _, a := range absent(conv, u.members) {
			if err := u.claim(ctx, conv, a); err != nil {
				return nil, err
			}
			if kp := u.claimed[a]; kp != nil && u.missing[a].Why == "" {
				ch.add[a] = kp
			}
		}
		if len(ch.add) == 0 && len(ch.remove) == 0 {
			return nil, nil
		}
		return ch, nil
	}
}

// claim takes a KeyPackage of somebody who is to be added, or notes why there is
// none. Only the end of ctx is an error: whatever it is that keeps one person
// out, it must not keep another one in.
func (u *updating) claim(ctx context.Context, conv *conversationRecord, a Account) error {
	if u.missing[a].Why != "" {
		return nil
	}
	err := u.c.claimAll(ctx, u.self, []Account{a}, u.claimed, conv.suite())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		u.missing[a] = Missing{Account: a, Why: u.reason(ctx, a, conv.PostQuantum, err), Err: err}
	}
	return nil
}

// reason says why somebody has to be left out.
func (u *updating) reason(ctx context.Context, a Account, postQuantum bool, err error) MissingReason {
	var changed *IdentityChangedError
	var bad *BadKeyPackageError
	var missing *MissingKeyPackagesError
	switch {
	case errors.As(err, &changed):
		return MissingIdentityChanged
	case errors.As(err, &bad):
		return MissingRefused
	case !errors.As(err, &missing):
		return MissingUnavailable
	}
	r, e := u.c.askAccount(ctx, a)
	switch {
	case e == nil && !r.HasAccount:
		return MissingNoAccount
	case e == nil && postQuantum && slices.Contains(r.Suites, uint16(suite)):
		return MissingPostQuantum // and there is another one
	}
	return MissingNoKeyPackage
}

// giveUpAdding notes, where a Commit failed because of those whom it adds, that
// they are missing, so that the removals can be done without them.
func (u *updating) giveUpAdding(err error) bool {
	var made *makeError
	if len(u.claimed) == 0 || !errors.As(err, &made) && !undeliverable(err) {
		return false
	}
	why := MissingRefused
	if undeliverable(err) {
		why = MissingUnavailable
	}
	for a := range u.claimed {
		if u.missing[a].Why == "" {
			u.missing[a] = Missing{Account: a, Why: why, Err: err}
		}
	}
	return true
}

// notMade is the answer where there is no group because of people who cannot be
// in it. Other errors stay errors.
func (u *updating) notMade(ctx context.Context, err error) (*Membership, error) {
	var changed *IdentityChangedError
	var bad *BadKeyPackageError
	var missing *MissingKeyPackagesError
	switch {
	case errors.As(err, &changed):
		u.missing[changed.Account] = Missing{Account: changed.Account, Why: MissingIdentityChanged, Err: err}
	case errors.As(err, &bad):
		u.missing[bad.Account] = Missing{Account: bad.Account, Why: MissingRefused, Err: err}
	case errors.As(err, &missing):
		for _, a := range missing.Accounts {
			u.missing[a] = Missing{Account: a, Why: u.reason(ctx, a, errors.Is(err, ErrDowngrade), err), Err: err}
		}
	default:
		return nil, err
	}
	conv, err := u.c.reader(ctx, u.self).conversation(u.id)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	conv = conv.of(u.want.Kind)
	dead, err := u.c.deadEnd(ctx, u.self, conv)
	if err != nil {
		return nil, err
	}
	m := u.result(ctx, conv)
	if dead { // who is in it under their name has a key that they replaced
		m.Missing, m.Complete = slices.Collect(maps.Values(u.missing)), false
	}
	return m, nil
}

// result compares a conversation, nil for none, with the list.
func (u *updating) result(ctx context.Context, conv *conversationRecord) *Membership {
	m := &Membership{}
	absentees := u.members
	if conv != nil {
		m.State, m.Encrypted = u.c.snapshot(ctx, u.self, conv), true
		m.Extra, absentees = u.extra(conv), absent(conv, u.members)
	}
	for _, a := range absentees {
		if one, ok := u.missing[a]; ok {
			m.Missing = append(m.Missing, one)
		} else if conv == nil {
			continue // kept out by those who are missing, not missing
		} else {
			m.Missing = append(m.Missing, Missing{Account: a, Why: MissingUnavailable, Err: m.State.Blocked})
		}
	}
	m.Complete = conv != nil && conv.Removed == 0 && conv.Left == 0 && len(m.Missing) == 0 && len(m.Extra) == 0
	return m
}
