package proxy

import (
	"context"
	"errors"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// plan says which conversation a message goes to and what has to be done to it
// first. The zero id with KindGroup stands for the newest group of exactly
// these people, else a new one.
type plan struct {
	kind    cloudmls.Kind
	id      groupid.ID
	omitted cloudmls.Omitted // what becomes of members who are not addressed
}

// choose finds the conversation for the people addressed, who do not include
// self. group is the group that the message's thread is in, nil if there is
// none. See design: "changed recipients".
func choose(self string, others groupid.Participants, group *cloudmls.ConversationState, omitted Omitted) plan {
	switch others.Len() {
	case 0:
		return plan{kind: cloudmls.KindSelf}
	case 1:
		return plan{kind: cloudmls.KindDialog}
	}
	exactly := plan{kind: cloudmls.KindGroup}
	if group == nil || group.Kind != cloudmls.KindGroup || group.Removed || group.Broken {
		return exactly
	}
	members, err := participants(group.Members, self)
	if err != nil {
		return exactly
	}
	_, left := members.Diff(others)
	switch {
	case len(left) == 0:
		return plan{kind: cloudmls.KindGroup, id: group.ID} // whoever is new is added
	case omitted == OmittedRemove:
		return plan{kind: cloudmls.KindGroup, id: group.ID, omitted: cloudmls.OmittedRemove}
	}
	return exactly
}

// conversation brings about the conversation for a message to others: found,
// created, members added and, if policy says so, removed. The state returned
// has exactly these people and self as members.
func (a *account) conversation(ctx context.Context, others groupid.Participants, th thread) (*cloudmls.ConversationState, error) {
	for range maxReconcile {
		group, err := a.threadGroup(ctx, th)
		if err != nil {
			return nil, err
		}
		p := choose(a.self.ID, others, group, a.rules.Omitted)
		state, err := a.carryOut(ctx, p, others)
		if err != nil {
			return nil, err
		}
		if a.exactly(state, others) {
			return state, nil
		}
	}
	return nil, errMembersChanged
}

// maxReconcile bounds how often a choice is made anew because somebody else
// changed the conversation meanwhile.
const maxReconcile = 4

// threadGroup gives the group of the closest reference that we have a group
// for, or nil.
func (a *account) threadGroup(ctx context.Context, th thread) (*cloudmls.ConversationState, error) {
	for _, id := range th.conversations {
		state, err := a.client.Conversation(ctx, a.self, id)
		switch {
		case errors.Is(err, cloudmls.ErrNoConversation):
			continue
		case err != nil:
			return nil, err
		}
		// The closest reference decides, whatever kind it is: an answer to a
		// side message goes where the side message went.
		if state.Kind != cloudmls.KindGroup {
			return nil, nil
		}
		return state, nil
	}
	return nil, nil
}

func (a *account) carryOut(ctx context.Context, p plan, others groupid.Participants) (*cloudmls.ConversationState, error) {
	want := cloudmls.Conversation{ID: p.id, Kind: p.kind, Members: accounts(others)}
	if p.kind == cloudmls.KindGroup && p.id.IsZero() {
		state, err := a.client.FindGroup(ctx, a.self, want.Members)
		switch {
		case err == nil && !state.Removed && !state.Broken:
			want.ID = state.ID
		case err == nil || errors.Is(err, cloudmls.ErrNoConversation):
			if want.ID, err = groupid.New(); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
	if p.omitted != cloudmls.OmittedRemove {
		return a.client.Ensure(ctx, a.self, want) // all or nobody: a message that is refused lets nobody in
	}
	// Whoever is left out goes, and in the same Commit comes who is new; that
	// somebody has no keys keeps nobody in, but it keeps the message here.
	want.Omitted = p.omitted
	m, err := a.client.Update(ctx, a.self, want)
	if err != nil {
		return nil, err
	}
	if len(m.Missing) > 0 {
		return nil, missingError(m.Missing)
	}
	return m.State, nil
}

// missingError says why a message cannot go out to people whom Update did not let
// in. All who have no keys are named at once.
func missingError(missing []cloudmls.Missing) error {
	var without cloudmls.MissingKeyPackagesError
	var rest error
	for _, m := range missing {
		var one *cloudmls.MissingKeyPackagesError
		switch {
		case errors.As(m.Err, &one):
			without.Accounts = append(without.Accounts, m.Account)
		case m.Err == nil: // the group changed at the same time
			rest = errors.Join(rest, errMembersChanged)
		default:
			rest = errors.Join(rest, m.Err)
		}
	}
	if len(without.Accounts) > 0 {
		return errors.Join(&without, rest)
	}
	return rest
}

// existing gives the conversation for others only if nothing has to be done to
// it: what automatic messages may use. nil means that there is none.
func (a *account) existing(ctx context.Context, others groupid.Participants, th thread) (*cloudmls.ConversationState, error) {
	group, err := a.threadGroup(ctx, th)
	if err != nil {
		return nil, err
	}
	p := choose(a.self.ID, others, group, OmittedLeaveOut)
	var state *cloudmls.ConversationState
	switch {
	case p.kind == cloudmls.KindSelf:
		state, err = a.client.Conversation(ctx, a.self, groupid.Self(cloudmls.PlatformEmail, a.self.ID))
	case p.kind == cloudmls.KindDialog:
		state, err = a.client.Conversation(ctx, a.self, groupid.Dialog(cloudmls.PlatformEmail, a.self.ID, others.IDs()[0]))
	case p.id.IsZero():
		state, err = a.client.FindGroup(ctx, a.self, accounts(others))
	default:
		state = group
	}
	switch {
	case errors.Is(err, cloudmls.ErrNoConversation):
		return nil, nil
	case err != nil:
		return nil, err
	case state.Kind != p.kind || state.Removed || state.Broken || !a.exactly(state, others):
		return nil, nil
	}
	return state, nil
}

// exactly reports whether the conversation's members are others and self.
func (a *account) exactly(state *cloudmls.ConversationState, others groupid.Participants) bool {
	if state.Removed {
		return false
	}
	members, err := participants(state.Members, a.self.ID)
	return err == nil && members.Equal(others)
}

// participants are the mail accounts of members without self.
func participants(members []cloudmls.Account, self string) (groupid.Participants, error) {
	ids := make([]string, 0, len(members))
	for _, m := range members {
		if m.Platform != cloudmls.PlatformEmail {
			return groupid.Participants{}, errors.New("conversation has a member who is no mail account")
		}
		if m.ID != self {
			ids = append(ids, m.ID)
		}
	}
	return groupid.NewParticipants(ids...)
}

func accounts(p groupid.Participants) []cloudmls.Account {
	ids := p.IDs()
	out := make([]cloudmls.Account, len(ids))
	for i, id := range ids {
		out[i] = mailAccount(id)
	}
	return out
}

func mailAccount(canonical string) cloudmls.Account {
	return cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: canonical}
}
