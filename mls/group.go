package mls

import (
	"errors"
	"time"
)

var errSkeleton = errors.New("mls: not built yet")

// Member is one member of a group.
type Member struct {
	Leaf          LeafIndex
	Credential    Credential
	SignatureKey  []byte
	EncryptionKey []byte
}

// Group is one member's state of one group in one epoch (RFC 9420 section
// 11). It is not safe for concurrent use.
type Group struct{}

// GroupOptions are the contents of a new group.
type GroupOptions struct {
	CipherSuite CipherSuite
	// GroupID of the new group; "" means 32 random bytes.
	GroupID      GroupID
	Credential   Credential
	SignatureKey SignaturePrivateKey
	// Lifetime of the creator's first leaf.
	Lifetime Lifetime
	// Capabilities of the creator; nil means DefaultCapabilities.
	Capabilities   *Capabilities
	Extensions     []Extension // of the GroupContext
	LeafExtensions []Extension // of the creator's leaf
	// Validate is the Authentication Service. It is required.
	Validate CredentialValidator
	// PSKs finds pre-shared keys; nil means that there are none.
	PSKs PSKSource
}

// JoinOptions are what joining takes besides the Welcome.
type JoinOptions struct {
	Secrets *KeyPackageSecrets
	// Now is the current time. It is used only if CheckLifetimes is set: a
	// Welcome that the delivery service accepted is not refused for its age.
	Now            time.Time
	CheckLifetimes bool
	// Validate is the Authentication Service. It is required.
	Validate CredentialValidator
	// RatchetTree is the tree, where the Welcome does not carry it.
	RatchetTree []byte
	// PSKs finds pre-shared keys; nil means that there are none.
	PSKs PSKSource
}

// CommitOptions say what a Commit does. The zero value commits the pending
// proposals and refreshes the committer's keys.
type CommitOptions struct {
	Add    []*KeyPackage
	Remove []LeafIndex
	// Now is the current time, against which the lifetimes of Add are checked.
	// It is required if there are any.
	Now time.Time
	// Proposals are further ones, by value.
	Proposals []Proposal
	// NewSignatureKey and NewCredential replace those of the own leaf.
	NewSignatureKey SignaturePrivateKey
	NewCredential   *Credential
	// WithoutPath omits the path where the proposals allow it.
	WithoutPath       bool
	AuthenticatedData []byte
	Padding           func(n int) int
	// Generation and ReuseGuard are the handshake generation and reuse guard
	// to use; nil means the ratchet's next one and a random one.
	Generation *uint32
	ReuseGuard *[4]byte
}

// PendingCommit is a Commit that was made but has not taken effect.
type PendingCommit struct {
	Staged  *StagedCommit
	Commit  *Message
	Welcome *Message // nil when nobody joins
}

// StagedCommit is a Commit, made or received, that has not taken effect.
type StagedCommit struct{}

// Received is what Process found: *Application, *ReceivedProposal or
// *ReceivedCommit.
type Received interface{ received() }

// Application is an application message.
type Application struct {
	Plaintext         []byte
	AuthenticatedData []byte
	Sender            LeafIndex
	Credential        Credential
	Generation        uint32
	Epoch             Epoch
}

// ReceivedProposal is a proposal that waits for a Commit.
type ReceivedProposal struct {
	Ref      ProposalRef
	Proposal Proposal
	Sender   Sender
}

// ReceivedCommit is a Commit that is valid but has not taken effect.
type ReceivedCommit struct {
	Staged  *StagedCommit
	Sender  LeafIndex
	Added   []Member
	Removed []Member
	Updated []Member
	// Expired are the added members whose leaf is outside of its lifetime. The
	// Commit is valid all the same; they may be proposed for removal.
	Expired     []LeafIndex
	SelfRemoved bool
}

func (*Application) received()      {}
func (*ReceivedProposal) received() {}
func (*ReceivedCommit) received()   {}

// ProtectOptions say how an application message is protected.
type ProtectOptions struct {
	AuthenticatedData []byte
	Padding           func(n int) int
	Generation        *uint32
	ReuseGuard        *[4]byte
}

// ArchiveRecord is what reading the messages of one epoch takes.
type ArchiveRecord struct{}
