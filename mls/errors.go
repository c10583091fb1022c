package mls

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. All others are a *ValidationError or say what
// the caller did wrong.
var (
	// ErrUnsupportedSuite means that the cipher suite is not implemented.
	ErrUnsupportedSuite = errors.New("unsupported cipher suite")
	// ErrWrongGroup means that a message belongs to another group.
	ErrWrongGroup = errors.New("message is of another group")
	// ErrStaleEpoch means that a message belongs to an earlier epoch.
	ErrStaleEpoch = errors.New("message is of an earlier epoch")
	// ErrFutureEpoch means that a message belongs to a later epoch: Commits
	// are missing.
	ErrFutureEpoch = errors.New("message is of a later epoch")
	// ErrReplayed means that the key of a message was used up before, or is so
	// old that it was dropped.
	ErrReplayed = errors.New("message key was used before")
	// ErrNotMember means that the group was left, or the sender is not in it.
	ErrNotMember = errors.New("not a member of the group")
	// ErrOwnCommit means that a Commit was made by this leaf, on this or on
	// another device. It cannot be processed from the wire (RFC 9420 section
	// 7.5 encrypts nothing to the committer): the state that its maker stored
	// must be used.
	ErrOwnCommit = errors.New("commit was made by this member")
	// ErrGenerationTooFar means that a generation is beyond MaxGeneration or
	// MaxGenerationJump.
	ErrGenerationTooFar = errors.New("message generation is too far ahead")
	// ErrWrongKeyPackage means that a Welcome is not for the given KeyPackage.
	ErrWrongKeyPackage = errors.New("welcome is not for this key package")
	// ErrCommitRequired means that proposals are waiting: they must be
	// committed before application messages are sent (RFC 9420 section 12.4).
	ErrCommitRequired = errors.New("pending proposals must be committed first")
	// ErrExternalCommit means that an outsider tries to join by an external
	// Commit, which Group.SetExternalCommits does not allow.
	ErrExternalCommit = errors.New("external commits are not accepted")
	// ErrReinitialized means that the group ended with a ReInit proposal.
	ErrReinitialized = errors.New("group was reinitialized")
	// ErrConsumed means that a secret needed for the call was used up and
	// deleted in this epoch.
	ErrConsumed = errors.New("epoch secret was consumed")
	// ErrStaleCommit means that a staged Commit was not made from this state
	// of the group.
	ErrStaleCommit = errors.New("staged commit does not fit this state of the group")
	// ErrMissingPSK means that a pre-shared key is needed that is not known.
	ErrMissingPSK = errors.New("pre-shared key is not available")
	// ErrUnknownProposal means that a Commit refers to a proposal that was not
	// received.
	ErrUnknownProposal = errors.New("commit refers to an unknown proposal")
	// ErrNotApplication means that a handshake message was given where an
	// application message is needed.
	ErrNotApplication = errors.New("not an application message")
	// ErrFormat means that stored bytes have an unknown format version.
	ErrFormat = errors.New("unknown format version")
)

// ValidationError says which rule of RFC 9420 a message breaks. The message
// is to be dropped; the group is as it was.
type ValidationError struct {
	Section string // of RFC 9420, as "12.2"
	Rule    string // what is broken, in a few words
	Err     error  // the cause, or nil
}

// Error returns the rule, the section and the cause.
func (e *ValidationError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("mls: %s (RFC 9420 section %s): %v", e.Rule, e.Section, e.Err)
	}
	return fmt.Sprintf("mls: %s (RFC 9420 section %s)", e.Rule, e.Section)
}

// Unwrap returns the cause.
func (e *ValidationError) Unwrap() error { return e.Err }

func invalid(section, rule string) error {
	return &ValidationError{Section: section, Rule: rule}
}

func invalidBecause(section, rule string, err error) error {
	return &ValidationError{Section: section, Rule: rule, Err: err}
}
