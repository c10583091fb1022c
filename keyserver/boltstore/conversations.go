package boltstore

import (
	"bytes"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func conversationKey(kind keyapi.Kind, id keyserver.ConversationID) []byte {
	return join([]byte{byte(kind)}, id[:])
}

func (t *tx) Conversation(kind keyapi.Kind, id keyserver.ConversationID) (*keyserver.Conversation, error) {
	return decode(t.bucket(bucketConversations).Get(conversationKey(kind, id)), decodeConversation)
}

func (t *tx) GroupUsed(group []byte) (bool, error) {
	return t.bucket(bucketGroups).Get(group) != nil, nil
}

func (t *tx) PutConversation(c *keyserver.Conversation) error {
	key := conversationKey(c.Kind, c.ID)
	groups := t.bucket(bucketGroups)
	if have := groups.Get(c.Group); !bytes.Equal(have, key) {
		if err := groups.replace(bytes.Clone(c.Group), have, key); err != nil {
			return err
		}
	}
	conversations := t.bucket(bucketConversations)
	return conversations.replace(key, conversations.Get(key), encodeConversation(c))
}
