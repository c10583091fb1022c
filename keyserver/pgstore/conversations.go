package pgstore

import (
	"bytes"
	"slices"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (t *tx) Conversation(kind keyapi.Kind, id keyserver.ConversationID) (*keyserver.Conversation, error) {
	if reads := t.readConversation(kind, id); reads != nil {
		if err := t.ask(t.locks(lockConversation(kind, id)), reads...); err != nil {
			return nil, err
		}
	}
	have := t.cache.talks[talkName{kind, id}]
	if have == nil {
		return nil, nil
	}
	mine := *have
	mine.Pair, mine.Group, mine.TokenHash = slices.Clone(have.Pair), bytes.Clone(have.Group), bytes.Clone(have.TokenHash)
	return &mine, nil
}

func (t *tx) GroupUsed(group []byte) (bool, error) {
	if reads := t.readGroup(group); reads != nil {
		if err := t.ask(t.locks(lockGroup(group)), reads...); err != nil {
			return false, err
		}
	}
	return t.cache.groups[string(group)], nil
}

func (t *tx) PutConversation(c *keyserver.Conversation) error {
	if _, err := t.Conversation(c.Kind, c.ID); err != nil { // locks
		return err
	}
	used, err := t.GroupUsed(c.Group)
	if err != nil {
		return err
	}
	record, err := encode(c)
	if err != nil {
		return err
	}
	t.row(formPutConversation, int16(c.Kind), c.ID[:], record)
	if !used {
		t.row(formPutGroup, c.Group, int16(c.Kind), c.ID[:])
	}
	mine := *c
	mine.Pair, mine.Group, mine.TokenHash = slices.Clone(c.Pair), bytes.Clone(c.Group), bytes.Clone(c.TokenHash)
	t.store.talks.know(record, &mine)
	set(&t.cache.talks, talkName{c.Kind, c.ID}, &mine)
	set(&t.cache.groups, string(c.Group), true)
	return nil
}
