package cloudmls

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// Errors that callers branch on. None of them is ever a reason to send in
// clear: an error says that nothing was encrypted, not that nothing need be.
var (
	// ErrNoConversation: the account's verified state knows no such
	// conversation. It is never the answer to a failing key server.
	ErrNoConversation = errors.New("no such conversation")

	// ErrNoAccount: the account was not added to this user.
	ErrNoAccount = errors.New("account not added to this user")

	// ErrNotMember: the conversation is known, but the account was removed
	// from it. History stays readable; nothing can be encrypted.
	ErrNotMember = errors.New("no longer a member of the conversation")

	// ErrNotYet: the message cannot be opened now but may open after a later
	// Sync, because its group or its epoch is not known yet.
	ErrNotYet = errors.New("message cannot be opened yet")

	// ErrConversationTaken: the key server has a group for this conversation
	// that the account was not let into.
	ErrConversationTaken = errors.New("conversation is served by a group that we are not in")

	// ErrBroken: the conversation's group took a turn that its rules forbid
	// (see Problem); nothing is encrypted in it until it is replaced.
	ErrBroken = errors.New("conversation's group broke its rules")

	// ErrDowngrade: the conversation had a post-quantum cipher suite, and what was
	// asked for would give it another one; or a new one would get another one
	// although everybody in it says, signed, that they publish KeyPackages of the
	// post-quantum suite: the key server keeps them back.
	ErrDowngrade = errors.New("post-quantum protection is not given up")

	// ErrConversationExists: Create was asked for a conversation that is there.
	ErrConversationExists = errors.New("conversation exists already")

	// ErrNobody: a group was to be made, or left, without anybody else in it.
	ErrNobody = errors.New("a group needs other members")

	// ErrExhausted: this epoch's generations are used up and no update Commit
	// could be made.
	ErrExhausted = errors.New("generations of the epoch are used up")

	// ErrBusy: other devices or members won every race; trying again later
	// is safe.
	ErrBusy = errors.New("too many concurrent changes")

	// ErrClosed: the client was closed or signed out, before the call or while it ran.
	ErrClosed = state.ErrClosed
)

// MissingKeyPackagesError names the accounts that cannot be added, because
// the key server said that they have no account or no KeyPackage (RFC 9420
// section 10), or because what it handed out has expired. The conversation is
// unchanged.
type MissingKeyPackagesError struct {
	Accounts []Account
}

// Error names the accounts.
func (e *MissingKeyPackagesError) Error() string {
	names := make([]string, len(e.Accounts))
	for i, a := range e.Accounts {
		names[i] = a.String()
	}
	return "no usable KeyPackage for " + strings.Join(names, ", ")
}

// IdentityChangedError says that an account's identity key is not the pinned
// one. Sending to it stays blocked until AcceptIdentity is called with Key. Where
// people have said by AcceptIdentity or Verify that another one is right, a dialog that
// shows Key begins anew by Ensure or Update; in a group, Remove and Add do it.
type IdentityChangedError struct {
	Account Account
	Pinned  []byte // Ed25519 public key seen first
	Key     []byte // Ed25519 public key seen now
	// Verified: people have compared the pinned key (Verify).
	Verified bool
	// Retired: Key is one that the account's owner has replaced, and which a
	// group still shows. Sending goes on when the owner's device has renewed its
	// part of the group, or once the account was removed from it (Remove, Update),
	// after which it can be added with its new key; there is nothing to accept. A
	// dialog begins anew by Ensure, Update or Create an hour after the key was replaced.
	// Somebody who does not enter the group (ErrNotMember there) renews nothing.
	Retired bool
	// Settled: people here have compared or accepted another key than Key, which the
	// conversation still shows. There is nothing to accept: a dialog begins anew by
	// Ensure or Update; from a group the account is removed and then added (Remove, Add).
	Settled bool
	// Rotated: a statement by the pinned key leads to Key, and the key server has
	// not confirmed it yet. The next Sync asks.
	Rotated bool
}

// Error names the account.
func (e *IdentityChangedError) Error() string {
	switch {
	case e.Retired:
		return fmt.Sprintf("identity key of %s was replaced by its owner, and the group shows the one before: "+
			"wait until their devices have renewed it, or remove them from the conversation and add them again; a dialog begins anew an hour later", e.Account)
	case e.Rotated:
		return fmt.Sprintf("identity key of %s was replaced by a signed one that the key server has not confirmed yet: the next Sync asks", e.Account)
	case e.Settled:
		return fmt.Sprintf("the conversation shows an identity key of %s that was found not to be theirs: "+
			"remove them from it and add them again; a dialog begins anew by Ensure", e.Account)
	case e.Verified:
		return fmt.Sprintf("identity key of %s, which was verified, changed: compare the codes anew (Verify), or talk to them and accept it (AcceptIdentity)", e.Account)
	}
	return fmt.Sprintf("identity key of %s changed: compare the codes (Verify), or talk to them and accept it (AcceptIdentity)", e.Account)
}

// BadKeyPackageError says that the key server handed out a KeyPackage that is
// not the account's: a wrong identity, an invalid signature, a foreign suite.
// An honest server never does (F8).
type BadKeyPackageError struct {
	Account Account
	Err     error
}

// Error names the account and the rule.
func (e *BadKeyPackageError) Error() string {
	return fmt.Sprintf("KeyPackage for %s refused: %v", e.Account, e.Err)
}

// Unwrap gives the broken rule.
func (e *BadKeyPackageError) Unwrap() error { return e.Err }

// HistoryError says that a conversation exists with another history policy than
// the one that was asked for; that of a group never changes. Days as in
// Conversation.HistoryDays.
type HistoryError struct{ Have, Want uint32 }

// Error names both.
func (e *HistoryError) Error() string {
	return fmt.Sprintf("the conversation's history is kept %s, not %s", historyWords(e.Have), historyWords(e.Want))
}

func historyWords(days uint32) string {
	if days == 0 {
		return "for ever"
	}
	return fmt.Sprintf("for %d days", days)
}

// NotYetError is an ErrNotYet with its reason.
type NotYetError struct {
	Reason NotYetReason
	Err    error // the cause; may be nil
}

// Error gives the reason and the cause.
func (e *NotYetError) Error() string {
	if e.Err == nil {
		return ErrNotYet.Error() + ": " + string(e.Reason)
	}
	return fmt.Sprintf("%v: %s: %v", ErrNotYet, e.Reason, e.Err)
}

// Is makes it an ErrNotYet.
func (e *NotYetError) Is(target error) bool { return target == ErrNotYet }

// Unwrap gives the cause.
func (e *NotYetError) Unwrap() error { return e.Err }

// NotYetReason says what a message waits for.
type NotYetReason string

// Reasons of a NotYetError.
const (
	NotYetOffline NotYetReason = "the key server could not be asked"            // for what it waits is not known
	NotYetGroup   NotYetReason = "its group is not known, or not accepted, yet" // a Welcome may come, or be accepted (AcceptIdentity)
	NotYetEpoch   NotYetReason = "its epoch has not begun here yet"             // a Commit may come
)

// NeverError says that a message will not open however often it is tried.
type NeverError struct {
	Reason NeverReason
	Err    error // the cause; may be nil
}

// Error gives the reason and the cause.
func (e *NeverError) Error() string {
	if e.Err == nil {
		return "message cannot be opened: " + string(e.Reason)
	}
	return fmt.Sprintf("message cannot be opened: %s: %v", e.Reason, e.Err)
}

// Unwrap gives the cause.
func (e *NeverError) Unwrap() error { return e.Err }

// NeverReason says why a message never opens.
type NeverReason string

// Reasons of a NeverError.
const (
	NeverMalformed    NeverReason = "not an MLS application message"                       // RFC 9420 section 6
	NeverInvalid      NeverReason = "altered, or not from a member"                        // decryption or signature failed
	NeverBeforeJoin   NeverReason = "sent before this account was added"                   // no key exists for it here
	NeverAfterRemoval NeverReason = "sent after this account was removed"                  // no key exists for it here
	NeverDeleted      NeverReason = "deleted, as the conversation's history policy says"   // no key exists any more
	NeverFork         NeverReason = "sender and reader hold different states of the group" // epoch authenticators differ
	NeverForeign      NeverReason = "the message's group is not one of ours"               // not bound to a conversation of this server
)
