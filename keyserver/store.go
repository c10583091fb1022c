package keyserver

import (
	"context"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Store keeps everything that the server knows. Implementations are safe for
// concurrent use; keyserver/boltstore is the embedded one, keyserver/pgstore is
// for several server processes on one PostgreSQL. keyserver/storetest tells
// whether one does what is written here.
//
// All rules live in this package and run inside Update, so that a Store only
// has to be honest about one thing: transactions are serializable and durable.
// Errors that match ErrUnavailable say that it cannot be asked now.
type Store interface {
	// View runs fn on a consistent view. Values handed out stay valid after it. fn
	// may be run again where its first question got an error for an answer.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn in one transaction: when fn returns nil and Update returns
	// nil, all of its writes are on disk; otherwise none of them ever happened.
	// fn may be run more than once, so it has no effects besides its writes.
	Update(ctx context.Context, fn func(Writer) error) error
	// Close waits for transactions under way.
	Close() error
}

// Reader reads within one transaction. Absence is a nil pointer and a nil
// error; an error always means that the answer is not known.
type Reader interface {
	Planner
	Notes

	// Mark is what PutMark stored; nil: nothing yet.
	Mark() ([]byte, error)

	User(UserID) (*User, error)
	UserByName(name string) (*User, error)
	// Users lists at most limit users, ordered by name, behind a name.
	Users(after string, limit int) ([]User, error)

	Session(SessionID) (*Session, error)
	// SessionByToken finds the session that a refresh token belongs or belonged
	// to, for at least the last MaxOldTokens rotations.
	SessionByToken(hash Hash) (*Session, error)
	Sessions(UserID) ([]Session, error)

	Account(keyapi.Account) (*Account, error)
	Accounts(UserID) ([]Account, error)
	Challenge(ChallengeID) (*Challenge, error)

	// KeyPackageCount counts the pool, without KeyPackages that end before now.
	KeyPackageCount(a keyapi.Account, now time.Time) (keyapi.KeyPackageCount, error)
	// KeyPackageKnown tells whether a KeyPackage of this reference is or was in
	// the pool; references are remembered until the KeyPackage ends.
	KeyPackageKnown(a keyapi.Account, ref []byte) (bool, error)

	ObjectVersion(UserID, keyapi.ObjectID) (*keyapi.ObjectVersion, error)
	Object(UserID, keyapi.ObjectID) (*keyapi.Object, error)
	// ObjectVersions lists all objects of a user, ordered by id.
	ObjectVersions(UserID) ([]keyapi.ObjectVersion, error)
	Usage(UserID) (Usage, error)
	// TxResult is what PutTxResult kept, unless it has expired.
	TxResult(u UserID, body Hash, now time.Time) (*keyapi.TxResult, error)

	// Conversation looks among the conversations of one kind: ids of different
	// kinds are different things, or a group could sit on the id of a dialog.
	Conversation(keyapi.Kind, ConversationID) (*Conversation, error)
	// GroupUsed tells whether an MLS group_id was ever registered.
	GroupUsed(group []byte) (bool, error)

	// Deliveries reads an inbox in order, after a sequence number, until limit
	// messages or, the first message aside, size octets are reached.
	Deliveries(a keyapi.Account, after uint64, limit, size int) ([]keyapi.Delivery, error)
	// LastSeq is the highest sequence number ever given in an inbox; 0: none.
	LastSeq(keyapi.Account) (uint64, error)
	// DeliveredCommit finds the Commit that opened an epoch, if it lies in the
	// inbox of the account still.
	DeliveredCommit(a keyapi.Account, group []byte, epoch uint64) (*keyapi.Delivery, error)
	// InboxUsage of nobody, the zero UserID, is that of all.
	InboxUsage(a keyapi.Account, from UserID) (InboxUsage, error)
}

// Writer reads and writes within one transaction. It sees its own writes.
type Writer interface {
	Reader
	NoteWriter

	// PutMark keeps what tells the server's own keys and origin again.
	PutMark([]byte) error

	PutUser(*User) error
	// DeleteUser deletes a user with name, objects, usage and results. Sessions,
	// accounts and notes are deleted apart.
	DeleteUser(UserID) error
	// PutSession also lists the hash of its current refresh token.
	PutSession(*Session) error
	DeleteSession(SessionID) error
	PutAccount(*Account) error
	// DeleteAccount deletes an account with its KeyPackages and its inbox.
	DeleteAccount(keyapi.Account) error
	PutChallenge(*Challenge) error
	DeleteChallenge(ChallengeID) error

	// AddKeyPackage puts one at the end of the pool and remembers its reference.
	AddKeyPackage(keyapi.Account, *KeyPackage) error
	PutLastResort(keyapi.Account, *KeyPackage) error
	// DropEndedKeyPackages removes those of the pool that end before now.
	DropEndedKeyPackages(a keyapi.Account, now time.Time) error
	// TakeKeyPackage removes and returns the oldest of the pool that has not
	// ended, else returns the last-resort one and leaves it; nil: there is none.
	TakeKeyPackage(a keyapi.Account, now time.Time) (kp *KeyPackage, lastResort bool, err error)

	// PutObject stores octets and counter as given and keeps Usage.
	PutObject(UserID, *keyapi.Object) error
	DeleteObject(UserID, keyapi.ObjectID) error
	PutTxResult(u UserID, body Hash, r *keyapi.TxResult, expires time.Time) error

	// PutConversation also marks its group as used.
	PutConversation(*Conversation) error

	// Deliver appends one message to several inboxes; Seq is set by the store.
	// The octets are kept once, until the last inbox has acknowledged them.
	Deliver(m *keyapi.Delivery, from UserID, to []keyapi.Account) error
	// Acknowledge deletes messages up to and including seq from an inbox.
	Acknowledge(a keyapi.Account, seq uint64) error

	// Expire deletes up to n of each: expired challenges, results, references
	// and notes. It may leave alone for 10 s what has expired after it found
	// nothing.
	Expire(now time.Time, n int) error
}

// MaxOldTokens is how many used refresh tokens of a session are remembered, so
// that a copied one is recognised when it turns up.
const MaxOldTokens = 1024

// User is a login.
type User struct {
	ID          UserID
	Name        string // canonical
	AuthVersion uint8
	KDF         keyapi.KDF
	KDFTag      []byte // by the user's devices, for each other; nil: none
	Verifier    []byte // HMAC under the pepper of what the password derives; the password is never seen
	Recovery    []byte // the same of what the recovery code derives; nil: there is none
	Created     time.Time
}

// Session is a device signed in: one family of refresh tokens.
type Session struct {
	ID         SessionID
	User       UserID
	Device     keyapi.Device
	Recovering bool // opened with the recovery code; a new password must be set first
	Created    time.Time
	Used       time.Time // when Token was issued
	Generation uint64    // rotations so far
	Token      Hash      // hash of the refresh token that is valid now
	Previous   Hash      // hash of the one before
	Successor  []byte    // the valid token, sealed under the one before
}

// Account is an account of a user.
type Account struct {
	Account     keyapi.Account
	User        UserID
	IdentityKey []byte
	Rotations   []keyapi.Rotation // the last keyapi.MaxRotations, oldest first; they end at IdentityKey
	ProofLevel  int
	Created     time.Time
}

// Challenge is a proof of ownership under way.
type Challenge struct {
	ID             ChallengeID
	User           UserID
	Account        keyapi.Account
	IdentityKey    []byte
	Token1, Token2 []byte
	Code           []byte // stands in for Token1 where a person types it
	Expires        time.Time
	Tries          int
	Sendings       int  // begun ones
	Sent           bool // the platform has taken it over
}

// KeyPackage is one of a pool. Ref is its KeyPackageRef (RFC 9420 section 5.2).
type KeyPackage struct {
	Ref      []byte
	NotAfter time.Time
	Data     []byte
}

// Usage is what a user's objects take up.
type Usage struct {
	Objects int
	Bytes   int64
}

// InboxUsage is what waits in an inbox, altogether and from one user.
type InboxUsage struct {
	Messages, MessagesFrom int
	Bytes, BytesFrom       int64
}

// Conversation maps a conversation to the MLS group that serves it now.
type Conversation struct {
	ID        ConversationID
	Kind      keyapi.Kind
	Pair      []keyapi.Account // of a dialog or self conversation
	Group     []byte
	Epoch     uint64
	TokenHash []byte // SHA-256 of the token that the next Commit must show
}

// Instance is the wire form.
func (c *Conversation) Instance() *keyapi.Instance {
	return &keyapi.Instance{Conversation: c.ID[:], Kind: c.Kind, Group: c.Group, Epoch: c.Epoch}
}
