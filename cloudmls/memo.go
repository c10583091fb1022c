package cloudmls

import (
	"context"
	"sync"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// maxMemo is how many decoded records are kept.
const maxMemo = 256

// memo keeps records as they were decoded, for as long as they are the same in
// the state: a message takes the identity, the conversation with its roster, and
// all contacts, and decoding these takes longer than encrypting. The zero value
// is ready to use.
type memo struct {
	mu    sync.Mutex
	items map[state.Key]remembered
}

type remembered struct {
	version uint64 // state.Store.Version
	record  any
}

// remember gives what read gives, read anew only where the record has changed.
// It is shared with other calls, and must not be changed.
func remember[T any](c *Client, k state.Key, read func() (*T, error)) (*T, error) {
	version, exists := c.store.Version(k)
	c.memo.mu.Lock()
	m, ok := c.memo.items[k]
	c.memo.mu.Unlock()
	if ok && m.version == version {
		return m.record.(*T), nil
	}
	v, err := read()
	if err != nil || !exists {
		return v, err
	}
	// Where it changed meanwhile, the version is an old one, and the next call reads
	// again.
	c.memo.mu.Lock()
	defer c.memo.mu.Unlock()
	if c.memo.items == nil || len(c.memo.items) >= maxMemo {
		c.memo.items = map[state.Key]remembered{}
	}
	c.memo.items[k] = remembered{version, v}
	return v, nil
}

// knownIdentity, knownConversation and knownContacts are records that must not be
// changed.
func (c *Client) knownIdentity(ctx context.Context, self Account) (*identityRecord, error) {
	return remember(c, identityKey(self), func() (*identityRecord, error) { return c.identity(ctx, self) })
}

func (c *Client) knownConversation(ctx context.Context, self Account, id ConversationID) (*conversationRecord, error) {
	return remember(c, conversationKey(self, id), func() (*conversationRecord, error) {
		return c.reader(ctx, self).conversation(id)
	})
}

func (c *Client) knownContacts(ctx context.Context, self Account) (*contactsRecord, error) {
	return remember(c, contactsKey(self), func() (*contactsRecord, error) { return c.reader(ctx, self).contacts() })
}
