package service

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/control"
)

// Conversations implements control.Service.
func (s *service) Conversations(ctx context.Context, account string) ([]control.Conversation, error) {
	self, err := accountOf(account)
	if err != nil {
		return nil, err
	}
	all, err := s.o.Client.Conversations(ctx, self)
	if err != nil {
		return nil, s.failed(err)
	}
	out := make([]control.Conversation, len(all))
	for i, c := range all {
		out[i] = *conversation(c)
	}
	return out, nil
}

// Conversation implements control.Service.
func (s *service) Conversation(ctx context.Context, account, id string) (*control.Conversation, error) {
	_, c, err := s.find(ctx, account, id)
	if err != nil {
		return nil, err
	}
	return conversation(c), nil
}

func (s *service) find(ctx context.Context, account, id string) (cloudmls.Account, *cloudmls.ConversationState, error) {
	self, err := accountOf(account)
	if err != nil {
		return self, nil, err
	}
	parsed, err := groupid.Parse(id)
	if err != nil {
		return self, nil, &control.Error{Code: control.CodeInvalid, Message: "that is no id of a conversation: 32 hexadecimal digits", Hint: "'cloudmls conversation list' shows them", Err: err}
	}
	c, err := s.o.Client.Conversation(ctx, self, parsed)
	if err != nil {
		return self, nil, s.failed(err)
	}
	return self, c, nil
}

// RemoveMembers implements control.Service.
func (s *service) RemoveMembers(ctx context.Context, account, id string, members []string) (*control.Conversation, error) {
	self, c, err := s.find(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if c.Kind != cloudmls.KindGroup {
		return nil, &control.Error{Code: control.CodeInvalid, Message: "only groups have members that can be removed"}
	}
	if len(members) == 0 {
		return nil, &control.Error{Code: control.CodeInvalid, Message: "nobody to remove was named"}
	}
	remove := make([]cloudmls.Account, len(members))
	in := make(map[cloudmls.Account]bool, len(c.Members))
	for _, m := range c.Members {
		in[m] = true
	}
	for i, m := range members {
		if remove[i], err = accountOf(m); err != nil {
			return nil, err
		}
		switch {
		case remove[i] == self:
			return nil, &control.Error{Code: control.CodeInvalid, Message: "nobody can remove themselves", Hint: "ask another member"}
		case !in[remove[i]]:
			return nil, &control.Error{Code: control.CodeNotFound, Message: fmt.Sprintf("%s is not in this conversation", remove[i].ID)}
		}
	}
	if err := s.o.Client.Remove(ctx, self, c.ID, remove); err != nil {
		return nil, s.failed(err)
	}
	if c, err = s.o.Client.Conversation(ctx, self, c.ID); err != nil {
		return nil, s.failed(err)
	}
	return conversation(c), nil
}

// LeaveConversation implements control.Service.
func (s *service) LeaveConversation(ctx context.Context, account, id string) error {
	self, c, err := s.find(ctx, account, id)
	if err != nil {
		return err
	}
	if c.Kind != cloudmls.KindGroup {
		return &control.Error{Code: control.CodeInvalid, Message: "only groups can be left"}
	}
	if err := s.o.Client.Leave(ctx, self, c.ID); err != nil {
		return s.failed(err)
	}
	return nil
}

// RenewConversation implements control.Service.
func (s *service) RenewConversation(ctx context.Context, account, id string) (*control.Conversation, error) {
	self, c, err := s.find(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if c, err = s.o.Client.Replace(ctx, self, c.ID); err != nil {
		return nil, s.failed(err)
	}
	return conversation(c), nil
}

var kindNames = map[cloudmls.Kind]string{
	cloudmls.KindDialog: "dialog", cloudmls.KindGroup: "group", cloudmls.KindSelf: "self",
}

func conversation(c *cloudmls.ConversationState) *control.Conversation {
	out := &control.Conversation{
		ID: c.ID.String(), Kind: kindNames[c.Kind], Members: []string{}, Epoch: c.Epoch, Since: c.Since, Updated: c.Updated,
		Removed: c.Removed, Broken: c.Broken, Left: c.Left, PostQuantum: c.PostQuantum,
	}
	for _, m := range c.Members {
		out.Members = append(out.Members, m.ID)
	}
	for _, m := range c.Leaving {
		out.Leaving = append(out.Leaving, m.ID)
	}
	if c.Blocked != nil {
		out.Blocked = c.Blocked.Error()
	}
	return out
}
