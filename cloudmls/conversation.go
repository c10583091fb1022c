package cloudmls

import (
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ConversationID names what people see as one conversation. Dialogs have
// groupid.Dialog's, groups 16 random octets from groupid.New.
type ConversationID = groupid.ID

// Kind tells dialogs, groups and self conversations apart.
type Kind = keyapi.Kind

// Kinds of conversations.
const (
	KindDialog = keyapi.KindDialog // exactly two accounts, for ever
	KindGroup  = keyapi.KindGroup  // any number of accounts
	KindSelf   = keyapi.KindSelf   // one account
)

// Conversation is what Ensure is asked to bring about.
type Conversation struct {
	// ID of the conversation. For a dialog or a self conversation the zero
	// value stands for the id derived from the accounts; any other value must
	// equal that one.
	ID ConversationID
	// Kind of the conversation; it never changes.
	Kind Kind
	// Members who must be in it. The own account may be listed or not; doubles
	// are ignored.
	Members []Account
	// Omitted is what Update does with members of a group who are not in Members.
	// Ensure and Create leave them alone.
	Omitted Omitted
	// HistoryDays is how many days messages of the conversation can be read at
	// least; afterwards the keys to them are destroyed on all devices of all
	// members, by Maintain. 0 is for ever where the conversation is new, and any
	// where it exists: a policy never changes (*HistoryError), except that the
	// other side of a dialog may begin it anew with another one (NoticeReplaced
	// says so).
	HistoryDays uint32
}

// ConversationState is a snapshot; changing it changes nothing.
type ConversationState struct {
	ID        ConversationID
	Kind      Kind
	Members   []Account // sorted; the own account included unless Removed
	Group     []byte    // id of the MLS group that serves the conversation now
	Epoch     uint64    // of that group
	Encrypted bool      // always true: a conversation that exists is never written to in clear
	Removed   bool      // the own account is no longer in it
	Left      bool      // Removed, by Leave; the others see it in the group until one of them opens an epoch
	Broken    bool      // see ErrBroken
	// Blocked says why nothing can be encrypted in it: ErrNotMember, ErrBroken
	// with the rule that was broken, *IdentityChangedError, or that this could
	// not be found out. nil: it can.
	Blocked error
	// Leaving are members who asked to be removed, and Lost those who lost track
	// of the group and asked to be let in again. The next Commit of any member, or
	// Sync, sees to both.
	Leaving, Lost []Account
	// Silent are members whose keys were not renewed for 180 days. What they do is
	// never refused for that, but they may be gone, and Remove be the better end.
	Silent []Account
	// PostQuantum: the group has the cipher suite with a post-quantum KEM. A
	// conversation that had it once never goes without.
	PostQuantum bool
	// HistoryDays is how many days its messages can be read at least; 0: for ever.
	HistoryDays uint32
	Since       time.Time // when this account's user first joined or created it
	Updated     time.Time // when the current epoch began for this user
}
