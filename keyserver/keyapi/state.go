package keyapi

import (
	"encoding/hex"
	"fmt"
	"time"
)

// ObjectID names a sealed object; the server learns nothing from it.
type ObjectID [32]byte

// Object is one sealed state object. Counter starts at 1 and grows by one.
type Object struct {
	ID      ObjectID `json:"id"`
	Counter uint64   `json:"counter"`
	Data    []byte   `json:"data"`
}

// ObjectVersion is an Object without its octets. Hash is SHA-256 of Data.
type ObjectVersion struct {
	ID      ObjectID `json:"id"`
	Counter uint64   `json:"counter"`
	Hash    []byte   `json:"hash"`
	Size    int      `json:"size"`
}

// ObjectIndex lists all objects of the signed-in user, ordered by id.
type ObjectIndex struct {
	Objects []ObjectVersion `json:"objects"`
}

// ObjectsRequest asks for objects of the signed-in user.
type ObjectsRequest struct {
	IDs []ObjectID `json:"ids"` // at most MaxObjectsPerRequest
}

// ObjectList answers an ObjectsRequest, and GET /v1/objects/{object}; ids that do not
// exist are in Missing, and one whose octets have the hash that the caller named is in
// Unchanged. An id that is in none of these did not fit into the answer and is asked
// for again; at least one id is always answered. keyclient does that by itself.
type ObjectList struct {
	Objects   []Object   `json:"objects"`
	Missing   []ObjectID `json:"missing,omitempty"`
	Unchanged []ObjectID `json:"unchanged,omitempty"`
}

// Tx changes several objects and submits at most one Commit, in one atomic
// step: all of it or nothing. Sending the identical octets again gives the
// identical result (for 24 hours, keyed by user and SHA-256 of the body).
type Tx struct {
	Expect []Expect          `json:"expect,omitempty"` // read, not written
	Put    []Object          `json:"put,omitempty"`    // Counter is the new one: stored+1, or 1 for a new object
	Delete []Expect          `json:"delete,omitempty"`
	Commit *CommitSubmission `json:"commit,omitempty"`
	Ack    []AckRequestFor   `json:"ack,omitempty"`
	Nonce  []byte            `json:"nonce,omitempty"` // at most MaxNonceSize; tells apart transactions that are otherwise octet-equal
}

// Expect says which counter an object must have; 0: it must not exist.
type Expect struct {
	ID      ObjectID `json:"id"`
	Counter uint64   `json:"counter"`
}

// TxResult answers an accepted Tx. Applied is always true; it is there so that
// an empty document is never taken for acceptance.
type TxResult struct {
	Applied bool   `json:"applied"`
	Epoch   uint64 `json:"epoch,omitempty"` // of the group after an accepted Commit
}

// Kind of a conversation.
type Kind uint8

const (
	KindDialog Kind = 1
	KindGroup  Kind = 2
	KindSelf   Kind = 3
)

// CommitSubmission opens an epoch. One is accepted per group and epoch.
//
// Create registers the group as the instance of Conversation at epoch 0 (no
// Commit) or 1 (with the Commit that adds the first members). For a dialog the
// server recomputes Conversation from Pair, and the caller must own Sender,
// which is one of the pair. Replaces names the current instance when a group's
// instance is replaced; its Token must then open that instance's TokenHash.
//
// Otherwise Epoch is the epoch the Commit was made in, and Token must hash to
// the TokenHash registered when that epoch was opened.
//
// With Notice instead of a Commit, nothing is opened: the members get a message
// about the group, in the epoch that its sender is in. Conversation, Kind, Pair,
// Sender, Group, Epoch and Recipients are set then and nothing else.
type CommitSubmission struct {
	Conversation []byte    `json:"conversation"` // 16 octets
	Kind         Kind      `json:"kind"`
	Pair         []Account `json:"pair,omitempty"` // both accounts of a dialog; the one of a self conversation
	Sender       Account   `json:"sender"`
	Group        []byte    `json:"group"` // MLS group_id
	Create       bool      `json:"create,omitempty"`
	Replaces     []byte    `json:"replaces,omitempty"`
	Epoch        uint64    `json:"epoch"`
	Token        []byte    `json:"token,omitempty"`
	TokenHash    []byte    `json:"token_hash,omitempty"` // SHA-256 of the new epoch's token
	Commit       []byte    `json:"commit,omitempty"`     // MLSMessage
	Recipients   []Account `json:"recipients,omitempty"` // get the Commit; the sender's own account included, for its other devices
	Welcome      []byte    `json:"welcome,omitempty"`    // MLSMessage
	Joiners      []Account `json:"joiners,omitempty"`    // get the Welcome
	Notice       []byte    `json:"notice,omitempty"`     // at most MaxNoticeSize; the recipients get it
}

// Instance is the MLS group that serves a conversation now.
type Instance struct {
	Conversation []byte `json:"conversation"`
	Kind         Kind   `json:"kind"`
	Group        []byte `json:"group"`
	Epoch        uint64 `json:"epoch"`
}

// Delivery types.
const (
	DeliveryCommit  = "commit"
	DeliveryWelcome = "welcome"
	DeliveryNotice  = "notice" // a proposal, or a request to be let in again; opens no epoch
)

// Delivery is one handshake message for an account. Seq grows without gaps
// visible to the account's own reading order; nothing is deleted before it is
// acknowledged.
type Delivery struct {
	Seq          uint64  `json:"seq"`
	Type         string  `json:"type"`
	Conversation []byte  `json:"conversation"`
	Kind         Kind    `json:"kind"`
	Group        []byte  `json:"group"`
	Epoch        uint64  `json:"epoch"` // the epoch that the message opens; of a notice the one that its sender is in
	Sender       Account `json:"sender"`
	Message      []byte  `json:"message"`
}

// Deliveries is one page of an account's handshake messages, ordered by Seq.
// The page may be shorter than asked for; ask again after its last Seq.
type Deliveries struct {
	Messages []Delivery `json:"messages"`
	Last     uint64     `json:"last"` // highest Seq stored for the account
}

// DeliveryQuery asks for the handshake messages of an own account.
type DeliveryQuery struct {
	Account Account
	After   uint64        // the last Seq already handled
	Limit   int           // at most this many; zero means the server's default
	Wait    time.Duration // how long to wait for the first one, in whole seconds, at most MaxWaitSeconds
}

// AckRequest acknowledges everything up to and including Seq.
type AckRequest struct {
	Seq uint64 `json:"seq"`
}

// AckRequestFor is an acknowledgement inside a Tx.
type AckRequestFor struct {
	Account Account `json:"account"`
	Seq     uint64  `json:"seq"`
}

// Limits of version 1.
const (
	MaxObjectsPerRequest = 256
	MaxObjectSize        = 16 << 20
	MaxTxSize            = 64 << 20 // of the JSON body
	MaxRecipients        = 16384    // of a Commit, and joiners of a Welcome
	MaxGroupIDSize       = 255
	MaxTokenSize         = 255
	MaxNoticeSize        = 64 << 10
	MaxNonceSize         = 32
	MaxDeliveries        = 256 // in one page
	MaxWaitSeconds       = 60  // of a long-poll
	MaxKeyPackageSize    = 64 << 10
	MaxKeyPackages       = 100 // in one upload
)

// MarshalText gives lower-case hexadecimal.
func (id ObjectID) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

// UnmarshalText accepts exactly 64 lower- or upper-case hexadecimal digits.
func (id *ObjectID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("object id: %d hexadecimal digits, want %d", len(b), 2*len(id))
	}
	_, err := hex.Decode(id[:], b)
	return err
}
