package control

import "context"

// Service is what commands can ask for. Accounts and contacts are named by
// their mail addresses. Implementations are safe for concurrent use; their
// errors are *Error where a command can do something about them.
type Service interface {
	// Status tells how the gateway and each account fare, without the network.
	Status(ctx context.Context) (*Status, error)
	// Reload makes the gateway read its configuration again. An error changes
	// nothing. CodeNotRunning without a gateway.
	Reload(ctx context.Context) (*Reloaded, error)
	// Sync brings an account up to date with the key server now.
	Sync(ctx context.Context, account string) (*Synced, error)

	// Conversations lists an account's conversations, newest first.
	Conversations(ctx context.Context, account string) ([]Conversation, error)
	// Conversation gives one; id in hexadecimal digits.
	Conversation(ctx context.Context, account, id string) (*Conversation, error)
	// RemoveMembers removes people from a group for good and gives what it is
	// then.
	RemoveMembers(ctx context.Context, account, id string, members []string) (*Conversation, error)

	// LeaveConversation leaves a group; another member takes this account out
	// with the next message.
	LeaveConversation(ctx context.Context, account, id string) error
	// RenewConversation begins a conversation anew whose keys cannot be repaired,
	// with the same people, and gives what it is then.
	RenewConversation(ctx context.Context, account, id string) (*Conversation, error)

	// Contacts lists whose identity keys are pinned. The key server is not
	// asked.
	Contacts(ctx context.Context, account string) ([]Contact, error)
	// Contact gives one, and asks the key server whether its key is still the
	// pinned one.
	Contact(ctx context.Context, account, address string) (*Contact, error)
	// ContactCode gives the code that two people compare.
	ContactCode(ctx context.Context, account, address string) (*ContactCode, error)
	// VerifyContact marks a contact as verified if code is the right one:
	// CodeMismatch or CodeInvalid else. code may be empty where people have
	// compared by themselves; then key, of the ContactCode that was shown, says
	// what they compared.
	VerifyContact(ctx context.Context, account, address, code string, key []byte) (*Contact, error)
	// UnverifyContact takes the mark back.
	UnverifyContact(ctx context.Context, account, address string) (*Contact, error)
	// AcceptContact pins a key in place of the one before. key is Contact.NewKey
	// as it was shown.
	AcceptContact(ctx context.Context, account, address string, key []byte) (*Contact, error)

	// Devices lists the devices of the user.
	Devices(ctx context.Context) ([]Device, error)
	// RevokeDevice ends a device's access to the key server and takes it out of
	// the user's devices.
	RevokeDevice(ctx context.Context, id string) error
	// ChangePassword changes the password at the key server. CodeDenied where
	// old is wrong.
	ChangePassword(ctx context.Context, old, new Secret) error
	// Store asks where the user's sealed state is.
	Store(ctx context.Context) (*StoreStatus, error)
}
