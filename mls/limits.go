package mls

import "time"

// Limits on what is accepted. They bound memory and work per call; the ones
// about generations are part of the wire behaviour, because a sender must stay
// within them too.
const (
	// MaxGeneration bounds the generations of one ratchet in one epoch: the
	// valid ones are 0 to MaxGeneration-1. It is checked before anything is
	// derived.
	MaxGeneration = 16384
	// MaxGenerationJump is how far a live ratchet may be moved forward by one
	// message.
	MaxGenerationJump = 1024
	// MaxSkippedKeys is how many unused keys of passed generations a live
	// ratchet keeps for messages that arrive late; the oldest go first.
	MaxSkippedKeys = 1024
	// MaxLeaves is the largest tree, in leaves, blank ones included.
	MaxLeaves = 16384
	// MaxProposals is how many proposals one Commit may hold: enough to add
	// everybody at once.
	MaxProposals = MaxLeaves
	// MaxPendingProposals is how many received proposals a group keeps for the
	// next Commit.
	MaxPendingProposals = 1024
	// MaxPendingSize is how large they may be together, encoded, in bytes. They
	// are stored with the group, which must stay below MaxState.
	MaxPendingSize = 8 << 20
	// MaxMessage is the largest encoded MLSMessage, in bytes.
	MaxMessage = 16 << 20
	// MaxState is the largest encoding of a group, an archive record or a set
	// of key package secrets, in bytes: what is larger is neither written nor
	// read.
	MaxState = 64 << 20
	// MaxKeyPackageLifetime is the longest total lifetime of a KeyPackage that
	// Verify accepts and a Commit adds (RFC 9420 section 7.2 requires such a
	// maximum).
	MaxKeyPackageLifetime = 120 * 24 * time.Hour
)

const (
	maxSkippedKeys  = 64 << 10  // skipped keys of all ratchets of a group
	maxExtensions   = 64        // extensions of one list
	maxCapabilities = 256       // values of one list of a Capabilities
	maxCertificates = 16        // certificates of one chain
	maxPSKs         = 64        // pre-shared keys of one Commit or Welcome
	maxGroupID      = 1 << 10   // bytes of a group id
	maxKey          = 4 << 10   // bytes of a public key, signature or KEM output
	maxHash         = 255       // bytes of a hash, MAC or reference
	maxIdentity     = 64 << 10  // bytes of a basic credential's identity
	maxUnmerged     = MaxLeaves // entries of an unmerged_leaves list
	maxTreeNodes    = 2*MaxLeaves - 1
	maxPathNodes    = 32 // nodes of an UpdatePath
)
