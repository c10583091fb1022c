package cloudmls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// maxWaiting bounds the proposals that wait in a group: each makes its stored
// state longer, and members can send them at no cost.
const maxWaiting = 128

// processNotice handles what a member tells the others without opening an epoch:
// a proposal, or a request to be let in again.
func (c *Client) processNotice(v *view, d *keyapi.Delivery, result *SyncResult) error {
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil {
		return err
	}
	if conv != nil && conv.Removed != 0 && bytes.Equal(conv.Group, d.Group) && d.Epoch <= conv.Epoch {
		return nil // a Commit that removed this account was faster
	}
	if conv == nil || conv.Removed != 0 {
		return refuse(ProblemUnknownGroup, errors.New("notice for a conversation that this account is not in"))
	}
	if conv.Broken != "" {
		return nil // whoever can act on it will
	}
	if isRepairRequest(d.Message) {
		return c.processRepairRequest(v, conv, d, result)
	}
	return c.processProposal(v, conv, d, result)
}

// processProposal keeps a proposal in the group, so that a Commit which refers to
// it can be followed. Of all proposals this package acts on one kind: a member
// who asks to be removed.
func (c *Client) processProposal(v *view, conv *conversationRecord, d *keyapi.Delivery, result *SyncResult) error {
	m, err := mls.ParseMessage(d.Message)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	group, epoch, ok := m.Group()
	content, framed := m.ContentType()
	switch {
	case !ok || !framed || content != mls.ContentProposal || m.WireFormat() != mls.WirePrivateMessage:
		return refuse(ProblemGarbage, errors.New("not a proposal in a PrivateMessage"))
	case conv.held([]byte(group), uint64(epoch)):
		return nil // the group was replaced before this came; whoever is in the new one was added anew
	case string(group) != string(conv.Group):
		return refuse(ProblemUnknownGroup, errors.New("proposal for another group than the one that serves the conversation"))
	case uint64(epoch) < conv.Epoch:
		return nil // a Commit was faster; its sender proposes again
	}
	g, _, err := v.group(conv.Group, conv.Epoch)
	if errors.Is(err, state.ErrNotFound) {
		return refuse(ProblemLostState, err)
	}
	if err != nil {
		return err
	}
	if len(g.Proposals()) >= maxWaiting {
		return refuse(ProblemTooLarge, fmt.Errorf("%d proposals wait in the group already", maxWaiting))
	}
	received, err := g.Process(m, c.now())
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	p, ok := received.(*mls.ReceivedProposal)
	if !ok {
		return refuse(ProblemGarbage, errors.New("not a proposal"))
	}
	b, err := g.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode group: %w", err)
	}
	v.putRaw(groupKey(v.self, conv.Group), b)
	remove, ok := p.Proposal.(*mls.Remove)
	if !ok || p.Sender.Type != mls.SenderMember || remove.Removed != mls.LeafIndex(p.Sender.Index) || conv.Kind != KindGroup {
		return nil
	}
	leaver, ok := g.Member(remove.Removed)
	if !ok {
		return nil
	}
	cert, err := leafCertificate(leaver.Credential, leaver.SignatureKey)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	return c.noteWish(v, conv, wishEntry{Platform: cert.Platform, ID: cert.AccountID, Leave: true}, "asks to be removed", result)
}

// processRepairRequest notes that a member asks to be let in again, or out.
func (c *Client) processRepairRequest(v *view, conv *conversationRecord, d *keyapi.Delivery, result *SyncResult) error {
	r, signature, err := parseRepairRequest(d.Message)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	contacts, err := v.contacts()
	if err != nil {
		return err
	}
	entry, no := c.checkRequest(v.self, conv, contacts, r, signature)
	if no != nil {
		return no
	}
	if r.void(conv, entry) {
		return nil
	}
	if r.reason == repairLeave {
		if conv.Kind != KindGroup {
			return refuse(ProblemForbidden, errNotLeft)
		}
		return c.noteWish(v, conv, wishEntry{Platform: r.account.Platform, ID: r.account.ID, Leave: true}, "asks to be removed", result)
	}
	why := "lost track of the group"
	if kind, ok := repairReasons[r.reason]; ok {
		why += " (" + string(kind) + ")"
	}
	return c.noteWish(v, conv, wishEntry{Platform: r.account.Platform, ID: r.account.ID}, why, result)
}

// checkRequest decides whether a repair request is of a member of the conversation,
// for it, and signed by the member; nil: it is. The member's entry goes with
// errUnsigned, too.
func (c *Client) checkRequest(self Account, conv *conversationRecord, contacts *contactsRecord, r *repairRequest, signature []byte) (memberEntry, *refusal) {
	fail := func(kind ProblemKind, why string) (memberEntry, *refusal) {
		return memberEntry{}, &refusal{kind: kind, err: errors.New(why)}
	}
	entry, ok := rosterFind(conv.Members, r.account)
	served := func(p pastInstance) bool { return bytes.Equal(p.Group, r.group) }
	switch {
	case r.origin != c.o.Origin || r.conversation != conv.ID:
		return fail(ProblemForbidden, "repair request for another conversation")
	case !ok || r.account == self:
		return fail(ProblemForbidden, "repair request of somebody who is not in the group")
	case !bytes.Equal(r.group, conv.Group) && !slices.ContainsFunc(conv.Past, served):
		return fail(ProblemUnknownGroup, "repair request for a group that never served the conversation")
	}
	key := entry.IdentityKey
	if p := contacts.find(r.account); p != nil && !p.Unconfirmed && p.retired(key) {
		key = p.Key // a leaf that it lost track of cannot follow its identity key
	}
	if !r.verify(key, signature) {
		return entry, &refusal{kind: ProblemForbidden, err: errUnsigned}
	}
	return entry, nil
}

// void tells whether the member was, or may have been, let in since it made the
// request, which somebody sends once more: everybody who was sent one, and the key
// server, can do that. entry is the member's.
//
// Who entered the group later than the request cannot know what became of it, and
// leaves it to those who were there. One of a group that was replaced counts only
// if it names the group that serves now, and for those who were in that from the
// beginning.
func (r *repairRequest) void(conv *conversationRecord, entry memberEntry) bool {
	since := max(entry.Joined, conv.JoinEpoch)
	if bytes.Equal(r.group, conv.Group) {
		return len(r.serving) != 0 || r.epoch > conv.Epoch || r.epoch < since
	}
	return !bytes.Equal(r.serving, conv.Group) || since > firstEpoch
}

// firstEpoch is the one that a group's creator opens with those who are in it
// from the beginning.
const firstEpoch = 1

// noteWish keeps what a member asks for until it is done. To leave counts more
// than to be let in again.
func (c *Client) noteWish(v *view, conv *conversationRecord, w wishEntry, text string, result *SyncResult) error {
	w.At = c.now().UnixMilli()
	i := slices.IndexFunc(conv.Wishes, func(have wishEntry) bool { return have.account() == w.account() })
	switch {
	case i < 0:
		conv.Wishes = append(conv.Wishes, w)
	case conv.Wishes[i].Leave || !w.Leave:
		return nil
	default:
		conv.Wishes[i] = w
	}
	kind := NoticeAsks
	if w.Leave {
		kind = NoticeLeaves
	}
	result.tell(c, conv.ID, kind, w.account(), text)
	result.todo = append(result.todo, conv.ID)
	return v.put(conversationKey(v.self, conv.ID), conv)
}

// tell adds a notice.
func (r *SyncResult) tell(c *Client, id ConversationID, kind NoticeKind, about Account, text string) {
	r.Notices = append(r.Notices, Notice{At: c.now(), Conversation: id, Kind: kind, Account: about, Text: text})
}
