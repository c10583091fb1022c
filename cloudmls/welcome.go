package cloudmls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// processWelcome joins a group, if the Welcome counts: see judge.
func (c *Client) processWelcome(v *view, d *keyapi.Delivery, result *SyncResult) error {
	m, err := mls.ParseMessage(d.Message)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	packages, err := v.keyPackages()
	if err != nil {
		return err
	}
	var entry *keyPackageEntry
	for _, ref := range m.WelcomeRefs() {
		if entry = packages.find(string(ref)); entry != nil {
			break
		}
	}
	if entry == nil {
		return refuse(ProblemNoKeyPackage, errors.New("Welcome for none of our KeyPackages, or for one that was used"))
	}
	secrets, err := mls.ParseKeyPackageSecrets(entry.Secrets)
	if err != nil {
		return fmt.Errorf("KeyPackage secrets: %w", err)
	}
	before, err := v.predecessor(d)
	if err != nil {
		return err
	}
	var signer mls.Member
	g, err := mls.JoinWelcome(m, mls.JoinOptions{
		SignedBy: func(m mls.Member) { signer = m },
		Secrets:  secrets, Now: c.now(), Validate: v.certs.validate, Predecessor: before, SameMember: sameMember,
	})
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	conv, err := c.judge(v, d, g, signer, result)
	if err != nil {
		return err
	}
	now := c.now()
	lastResort := entry.LastResort
	packages.use(slices.Clone(entry.Ref), now)
	if err := v.put(keyPackagesKey(v.self), packages); err != nil {
		return err
	}
	// A KeyPackage of an identity key that was replaced since may be known to
	// those whom the key was replaced because of.
	old, err := v.outdated(g.Members())
	if err != nil {
		return err
	}
	conv.Renew = lastResort || old
	result.Joined = append(result.Joined, conv.ID)
	v.entered = true
	return v.openEpoch(conv, g, secrets.SignatureKey(), now)
}

// predecessor gives the live group of the conversation that a Welcome is for: a
// group that was branched from it shows so by a key that only its members have
// (RFC 9420 section 11.3). nil where there is none.
func (v *view) predecessor(d *keyapi.Delivery) (*mls.Group, error) {
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil || conv == nil || conv.Removed != 0 {
		return nil, err
	}
	g, _, err := v.group(conv.Group, conv.Epoch)
	if conv.withoutLive(err) {
		return nil, nil
	}
	return g, err
}

// sameMember tells whether leaves of two groups are of one identity.
func sameMember(a, b mls.Member) bool {
	one, err := roster([]mls.Member{a})
	if err != nil {
		return false
	}
	other, err := roster([]mls.Member{b})
	return err == nil && one[0].account() == other[0].account() && bytes.Equal(one[0].IdentityKey, other[0].IdentityKey)
}

// judge decides whether a joined group may serve its conversation (design
// section 4, F1), and gives the conversation's record for it.
//
// The group must say itself, in its GroupContext, which conversation of which
// key server it serves, and the key server must say the same. For a dialog the
// roster must be exactly the pair, with the identity key that is pinned for the
// other account; since the Welcome is signed by a leaf of the roster, and not by
// ours, the other account made it. A group conversation that is known already
// can only be taken over by a group whose roster adds nobody to the last one:
// its signer then is one of these people too.
func (c *Client) judge(v *view, d *keyapi.Delivery, g *mls.Group, signer mls.Member, result *SyncResult) (*conversationRecord, error) {
	b, list, err := c.checkBound(v.self, d, g)
	if err != nil {
		return nil, refuse(ProblemForbidden, err)
	}
	contacts, err := v.contacts()
	if err != nil {
		return nil, err
	}
	now := c.now().UnixMilli()
	epoch := uint64(g.Epoch())
	conv, err := v.conversation(b.conversation)
	if err != nil {
		return nil, err
	}
	if conv.usurps(b.kind) {
		if err := v.evict(conv, b.kind, now); err != nil {
			return nil, err
		}
	}
	if b.kind == KindDialog {
		if err := v.mayShow(conv, contacts, withoutSelf(v.self, list)); err != nil {
			return nil, err
		}
	}
	if conv == nil {
		return &conversationRecord{
			Version: recordVersion, ID: b.conversation, Kind: b.kind, JoinEpoch: epoch, Since: now,
		}, nil
	}
	by, err := roster([]mls.Member{signer})
	if err != nil {
		return nil, refuse(ProblemForbidden, err)
	}
	if err := mayReplace(conv, b.kind, g, list, by, contacts); err != nil {
		return nil, refuse(ProblemForbidden, err)
	}
	if b.kind == KindGroup && b.days != conv.Days {
		return nil, refuse(ProblemForbidden, errors.New("a new group for a known conversation must keep its history policy"))
	}
	if conv.PostQuantum && g.CipherSuite() != suitePQ {
		return nil, refuse(ProblemForbidden, ErrDowngrade)
	}
	if conv.Broken != "" {
		result.Repaired = append(result.Repaired, conv.ID)
		result.tell(c, conv.ID, NoticeRepaired, Account{}, "this account was let in again")
	}
	replaced := conv.Replaced
	if len(conv.Group) > 0 && !bytes.Equal(conv.Group, []byte(g.ID())) {
		replaced = now
		result.Replaced = append(result.Replaced, conv.ID)
		result.tell(c, conv.ID, NoticeReplaced, d.Sender, "another group serves the conversation now"+changedHistory(conv.Days, b.days))
	}
	if err := v.retire(conv, epoch, now); err != nil {
		return nil, err
	}
	conv.Replaced = replaced
	return conv, nil
}

// mayShow holds the identity keys in a dialog's new group against the pinned ones.
//
// One that its owner has replaced passes: the group may be older than the rotation,
// which is heard of by other ways, and nobody else would ever bring what is written
// in it. Whoever stole that key could have made it, too, so that until the owner's
// leaf is renewed nothing is encrypted in it, what is read has a warning, and it
// does not take the place of a group that shows the present key, one that the present
// key has signed or a later one than its own, nor of one that the owner was asked to
// let this account into again.
func (v *view) mayShow(conv *conversationRecord, contacts *contactsRecord, others []memberEntry) error {
	err := contacts.checkFollowing(others)
	var changed *IdentityChangedError
	switch {
	case !errors.As(err, &changed):
		return err
	case !changed.Retired:
		return &refusal{kind: ProblemIdentityChanged, err: err, hold: changed}
	}
	if conv == nil || conv.Removed != 0 { // see evict
		return nil
	}
	p := contacts.find(changed.Account)
	before, ok := rosterFind(conv.Members, changed.Account)
	if conv.Broken == "" && ok && p.retired(before.IdentityKey) && p.retiredAt(before.IdentityKey) <= p.retiredAt(changed.Key) {
		return nil // nothing can be written where it is either
	}
	return refuse(ProblemIdentityChanged, err) // and not held: there is nothing to accept
}

// changedHistory says, for people, that a dialog's next group keeps history for
// another time than the one before: whoever began it anew chose that alone.
func changedHistory(before, now uint32) string {
	if before == now {
		return ""
	}
	text := func(days uint32) string {
		if days == 0 {
			return "for ever"
		}
		return fmt.Sprintf("for %d days", days)
	}
	return "; its messages are kept " + text(now) + ", those of the one before " + text(before)
}

// retire ends the own part in the group that serves a conversation and makes the
// record ready for another one, or for the same one entered anew. History stays.
func (v *view) retire(conv *conversationRecord, joinEpoch uint64, now int64) error {
	closed := conv.Removed
	if closed == 0 {
		if err := v.leaveGroup(conv.Group, conv.Epoch); err != nil {
			return err
		}
		closed = now
	}
	if len(conv.Group) > 0 { // none: see evict
		conv.Past = append(conv.Past, pastInstance{
			Group: conv.Group, Epoch: conv.Epoch, JoinEpoch: conv.JoinEpoch, Closed: closed, Days: conv.Days,
		})
	}
	conv.JoinEpoch, conv.Removed, conv.Left, conv.LeftEpoch = joinEpoch, 0, 0, 0
	conv.Broken, conv.BrokenKind, conv.BrokenCommit, conv.Asked, conv.Replaced = "", "", nil, 0, 0
	conv.Wishes, conv.Members = nil, nil // what follows tells who is in it, and nobody's leaf is known
	return nil
}

// checkBound holds what the group says of itself against what the key server
// says and against the roster.
func (c *Client) checkBound(self Account, d *keyapi.Delivery, g *mls.Group) (binding, []memberEntry, error) {
	fail := func(err error) (binding, []memberEntry, error) { return binding{}, nil, err }
	p, ok := g.Extension(extensionBinding)
	if !ok {
		return fail(errors.New("the group is not bound to a conversation"))
	}
	b, err := parseBinding(p)
	if err != nil {
		return fail(err)
	}
	switch {
	case b.origin != c.o.Origin:
		return fail(errors.New("the group belongs to another key server"))
	case !bytes.Equal(b.conversation[:], d.Conversation) || b.kind != d.Kind:
		return fail(errors.New("the group serves another conversation than the key server says"))
	case string(g.ID()) != string(d.Group) || uint64(g.Epoch()) != d.Epoch:
		return fail(errors.New("the group or its epoch is not the one that the key server says"))
	}
	if len(g.Extensions()) != 1 {
		return fail(errExtensions)
	}
	members := g.Members()
	list, err := c.certs.roster(members)
	if err != nil {
		return fail(err)
	}
	if len(members) != len(list) {
		return fail(errTwoLeaves)
	}
	return b, list, checkRoster(b.kind, b.conversation, self, list)
}

// mayReplace decides whether a group may take the place of what serves a known
// conversation.
//
// by is who made the Welcome. Into a group that this account was in, a member of
// the last roster may let it in again whoever came meanwhile; the KeyPackages of
// members prove nothing, for the key server hands them to anybody.
func mayReplace(conv *conversationRecord, kind Kind, g *mls.Group, list, by []memberEntry, contacts *contactsRecord) error {
	if conv.Kind != kind {
		return errors.New("the conversation is of another kind")
	}
	if bytes.Equal(conv.Group, []byte(g.ID())) {
		switch {
		case conv.Removed == 0 && conv.Broken == "" && conv.Left == 0:
			return errors.New("this account is in the group already")
		case uint64(g.Epoch()) <= conv.Epoch:
			return errors.New("the group was left in a later epoch")
		case adds(conv.Members, by) && strangers(conv.Members, list, contacts):
			return errors.New("the group was entered by people unknown here while this account was not in it")
		}
		return nil
	}
	for _, p := range conv.Past {
		if bytes.Equal(p.Group, []byte(g.ID())) {
			return errors.New("the group served the conversation before")
		}
	}
	switch kind {
	case KindDialog:
		return nil // exactly the pair, with the pinned key: judge has checked it
	case KindGroup:
		if adds(conv.Members, by) || adds(conv.Members, list) {
			return errors.New("a new group for a known conversation must not add anybody")
		}
		return nil
	}
	return errors.New("a self conversation is entered by nobody else")
}

// strangers tells whether list has an account, or a key, that is neither in the
// last roster nor pinned.
func strangers(before, list []memberEntry, contacts *contactsRecord) bool {
	return slices.ContainsFunc(list, func(m memberEntry) bool {
		p := contacts.find(m.account())
		return (p == nil || !bytes.Equal(p.Key, m.IdentityKey)) && adds(before, []memberEntry{m})
	})
}

func withoutSelf(self Account, list []memberEntry) []memberEntry {
	return slices.DeleteFunc(slices.Clone(list), func(m memberEntry) bool { return m.account() == self })
}
