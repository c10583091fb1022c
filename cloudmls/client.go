package cloudmls

import (
	"context"
)

// Recovery is shown to the user once, at registration.
type Recovery struct {
	Code string // 160 bits; replaces a forgotten password
}

// Client is one user signed in on one device. It is safe for concurrent use.
type Client struct {
}

// Register creates a user at the key server and signs this device in. The
// password never leaves the device. The recovery code exists nowhere else.
func Register(ctx context.Context, username, password string, o Options) (*Client, *Recovery, error) {
	panic("skeleton")
}

// Open signs this device in with name and password; a new device needs nothing
// else to read the whole history.
func Open(ctx context.Context, username, password string, o Options) (*Client, error) {
	panic("skeleton")
}

// Resume continues on a device that was signed in before, without the
// password. It works without the key server; cached messages can be read.
func Resume(ctx context.Context, o Options) (*Client, error) {
	panic("skeleton")
}

// Close ends the use of the client; the device stays signed in.
func (c *Client) Close() error { panic("skeleton") }

// SignOut ends the session at the key server and forgets this device's secrets.
func (c *Client) SignOut(ctx context.Context) error { panic("skeleton") }

// AddAccount makes the account the user's and publishes KeyPackages for it.
// Calling it again repairs what an interrupted call left undone.
func (c *Client) AddAccount(ctx context.Context, a Account) error { panic("skeleton") }

// Accounts lists the user's accounts, sorted.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) { panic("skeleton") }

// Reach asks the key server whether an account can receive encrypted
// messages. An error never means that it has no account.
func (c *Client) Reach(ctx context.Context, self, a Account) (Reach, error) { panic("skeleton") }

// AcceptIdentity replaces the pinned identity key of an account after people
// have compared it, and lets held Welcomes count.
func (c *Client) AcceptIdentity(ctx context.Context, self, a Account, key []byte) error {
	panic("skeleton")
}

// Sync takes everything from the account's delivery queue. See SyncResult.
func (c *Client) Sync(ctx context.Context, self Account) (SyncResult, error) { panic("skeleton") }

// Wait returns nil when the delivery queue has something that Sync did not
// see yet; it waits until then or until ctx ends.
func (c *Client) Wait(ctx context.Context, self Account) error { panic("skeleton") }

// Ensure creates the conversation if there is none and adds members who are
// missing. It never removes anybody.
func (c *Client) Ensure(ctx context.Context, self Account, want Conversation) (*ConversationState, error) {
	panic("skeleton")
}

// Remove removes members from a group conversation; its id stays.
func (c *Client) Remove(ctx context.Context, self Account, id ConversationID, members []Account) error {
	panic("skeleton")
}

// Conversation gives a conversation as this user's state has it, or
// ErrNoConversation.
func (c *Client) Conversation(ctx context.Context, self Account, id ConversationID) (*ConversationState, error) {
	panic("skeleton")
}

// Conversations lists all conversations of the account, newest first.
func (c *Client) Conversations(ctx context.Context, self Account) ([]*ConversationState, error) {
	panic("skeleton")
}

// FindGroup gives the newest group conversation with exactly these members
// (the own account may be listed or not), or ErrNoConversation.
func (c *Client) FindGroup(ctx context.Context, self Account, members []Account) (*ConversationState, error) {
	panic("skeleton")
}

// Encrypt seals plaintext for the members of the conversation and gives an
// MLSMessage with a PrivateMessage (RFC 9420 section 6). aad is authenticated,
// not encrypted.
func (c *Client) Encrypt(ctx context.Context, self Account, id ConversationID, plaintext, aad []byte) ([]byte, error) {
	panic("skeleton")
}

// Decrypt opens an MLSMessage of any epoch the account was a member in, any
// number of times, own ones included. Other errors than ErrNotYet and
// *NeverError are temporary.
func (c *Client) Decrypt(ctx context.Context, self Account, message []byte) (*Plaintext, error) {
	panic("skeleton")
}

// SealPersonal seals data that only this user's devices can open; no ratchet
// is touched.
func (c *Client) SealPersonal(ctx context.Context, self Account, plaintext []byte) ([]byte, error) {
	panic("skeleton")
}

// OpenPersonal opens what SealPersonal made, on any device of the user.
func (c *Client) OpenPersonal(ctx context.Context, self Account, sealed []byte) ([]byte, error) {
	panic("skeleton")
}

// Cache gives a namespace of this device's sealed local cache.
func (c *Client) Cache(namespace string) *Cache { panic("skeleton") }

// Cache is a sealed key-value store on this device. Losing it loses no message.
type Cache struct{}

// Get gives the value, or nil if there is none.
func (c *Cache) Get(key string) ([]byte, error) { panic("skeleton") }

// Put stores a value durably.
func (c *Cache) Put(key string, value []byte) error { panic("skeleton") }

// Delete removes a value; a missing one is no error.
func (c *Cache) Delete(key string) error { panic("skeleton") }

// ForEach calls fn for each entry, in no particular order, until fn fails.
func (c *Cache) ForEach(fn func(key string, value []byte) error) error { panic("skeleton") }
