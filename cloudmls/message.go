package cloudmls

import "time"

// Plaintext is an opened message. Data, AAD and Members belong to the caller.
type Plaintext struct {
	Data         []byte
	AAD          []byte // the caller's part of the authenticated data
	Ref          [32]byte
	Conversation ConversationID
	Kind         Kind
	Epoch        uint64
	Generation   uint32
	Members      []Account // the roster of that epoch, sorted
	Sender       Account   // whose leaf signed it
	IdentityKey  []byte    // of the sender, as its leaf certificate says
	Own          bool      // sent by this account, from whichever device
	// Verified: the sender's leaf certificate is signed by the identity key
	// that is pinned for the account, and there are no Warnings.
	Verified bool
	// SenderVerified: Verified, and people have compared the sender's identity
	// key (Client.Verify), or the message is one of the user's own.
	SenderVerified bool
	Warnings       []Warning
	// FirstSeen is when this device opened the message for the first time.
	FirstSeen time.Time
	// Replaced is when the message's group took the place of another one that served
	// the conversation, by somebody else's doing (SyncResult.Replaced): people should
	// be told, for a while. The zero time: it did not, or serves it no longer.
	Replaced time.Time
}

// Warning is something a reader has to be told about an opened message.
type Warning uint8

// Warnings.
const (
	// WarningReplay: another message with the same place in the sender's
	// sequence was opened before, or a member re-encrypted somebody's message.
	WarningReplay Warning = iota + 1
	// WarningLate: first seen more than 14 days after its epoch closed, or
	// after its sender had left, though this device could have seen it before.
	WarningLate
	// WarningFork: sender and reader disagree about the state of the group.
	WarningFork
	// WarningIdentityChanged: the sender's identity key is not the pinned one.
	WarningIdentityChanged
	// WarningIdentityUnknown: no identity key is pinned for the sender, or only
	// one that the key server has not confirmed.
	WarningIdentityUnknown
	// WarningAway: first seen more than 14 days after its epoch closed, by a device
	// that had been away: whether it was sent in time cannot be told.
	WarningAway
)

// String gives a lower-case word.
func (w Warning) String() string {
	switch w {
	case WarningReplay:
		return "replay"
	case WarningLate:
		return "late"
	case WarningFork:
		return "fork"
	case WarningIdentityChanged:
		return "identity changed"
	case WarningIdentityUnknown:
		return "identity unknown"
	case WarningAway:
		return "away"
	}
	return "unknown warning"
}

// SyncResult says what a Sync did. It is complete only if Sync returned no
// error; what was done before an error is kept.
type SyncResult struct {
	Processed int              // handshake messages taken from the delivery queue
	Joined    []ConversationID // conversations entered or re-entered through a Welcome
	Replaced  []ConversationID // of these, the ones whose group took the place of another; people should be told
	Changed   []ConversationID // conversations that moved to a new epoch
	Removed   []ConversationID // conversations this account was removed from
	// Rotated are accounts whose identity key was replaced by one that the pinned
	// key has signed and the key server confirms. The pins followed, in this call, in
	// another one or on another device: each device tells of it once, with a Notice.
	// Whoever had been verified is not any more; people may compare the new keys.
	Rotated  []Account
	Problems []Problem        // messages that were refused
	Repaired []ConversationID // of Joined, the ones whose group this account had lost track of
	Notices  []Notice         // what people should be told; Status remembers them
	todo     []ConversationID // for mend
}

// Problem is a handshake message that was refused. It was taken from the
// queue and does not block those after it.
type Problem struct {
	Conversation ConversationID
	Seq          uint64
	Sender       Account // as the key server names it
	Kind         ProblemKind
	Err          error
}

// ProblemKind classifies a Problem.
type ProblemKind string

// Kinds of problems.
const (
	ProblemGarbage         ProblemKind = "garbage"          // malformed, or a check of RFC 9420 failed
	ProblemNoKeyPackage    ProblemKind = "no key package"   // a Welcome for a KeyPackage whose private part is gone
	ProblemUnknownGroup    ProblemKind = "unknown group"    // a Commit for a group we are not in
	ProblemGap             ProblemKind = "gap"              // a Commit for an epoch after the next
	ProblemTooLarge        ProblemKind = "too large"        // it needs more room than there is in the state
	ProblemForbidden       ProblemKind = "forbidden"        // a Commit or Welcome that breaks the conversation's rules
	ProblemIdentityChanged ProblemKind = "identity changed" // held until AcceptIdentity
	ProblemLostState       ProblemKind = "lost state"       // a Commit of our own leaf whose stored state is missing
	ProblemWithheld        ProblemKind = "withheld"         // a Commit that the key server counts and does not deliver
)

// Reach says whether messages for an account can be encrypted.
type Reach struct {
	HasAccount  bool   // the key server's explicit statement
	Pinned      bool   // an identity key was seen for it before: clear text is forbidden
	IdentityKey []byte // the pinned one, else the one the key server names
	// Changed: the key server names another key than the pinned one, or names
	// none and another was seen in a group.
	Changed bool
}
