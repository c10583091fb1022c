package boltstore

import "github.com/cloudmls/gateway/keyserver"

func (t *tx) Conversation(id keyserver.ConversationID) (*keyserver.Conversation, error) {
	return get[keyserver.Conversation](t.bucket(bucketConversations), id[:])
}

func (t *tx) GroupUsed(group []byte) (bool, error) {
	return t.bucket(bucketGroups).Get(group) != nil, nil
}

func (t *tx) PutConversation(c *keyserver.Conversation) error {
	if err := t.bucket(bucketGroups).Put(c.Group, c.ID[:]); err != nil {
		return err
	}
	return put(t.bucket(bucketConversations), c.ID[:], c)
}
