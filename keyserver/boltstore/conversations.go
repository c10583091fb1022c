package boltstore

import (
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func conversationKey(kind keyapi.Kind, id keyserver.ConversationID) []byte {
	return join([]byte{byte(kind)}, id[:])
}

func (t *tx) Conversation(kind keyapi.Kind, id keyserver.ConversationID) (*keyserver.Conversation, error) {
	return get[keyserver.Conversation](t.bucket(bucketConversations), conversationKey(kind, id))
}

func (t *tx) GroupUsed(group []byte) (bool, error) {
	return t.bucket(bucketGroups).Get(group) != nil, nil
}

func (t *tx) PutConversation(c *keyserver.Conversation) error {
	if err := t.bucket(bucketGroups).Put(c.Group, conversationKey(c.Kind, c.ID)); err != nil {
		return err
	}
	return put(t.bucket(bucketConversations), conversationKey(c.Kind, c.ID), c)
}
