package control

import (
	"log/slog"
	"time"
)

// Status is how the gateway fares.
type Status struct {
	// Running says that a gateway runs; without one there are the key server's
	// part, conversations and contacts, but no sessions and no queue.
	Running bool      `json:"running"`
	Version string    `json:"version,omitzero"` // of the gateway that runs
	Started time.Time `json:"started,omitzero"`
	Reloads int       `json:"reloads,omitzero"` // of the configuration, since Started
	// Accounts in the order of their addresses.
	Accounts []AccountStatus `json:"accounts"`
	// Stranded are messages of addresses that are not configured any more:
	// they wait until their account is back.
	Stranded []Stranded `json:"stranded,omitzero"`
	// Events are what happened lately to the user's keys, on any of their
	// devices, oldest first.
	Events []Event `json:"events,omitzero"`
}

// Event is something that the user should hear of, lest it was somebody else.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"` // for people
}

// Notice is something about a conversation, or about a contact, that people
// should be told.
type Notice struct {
	At           time.Time `json:"at"`
	Conversation string    `json:"conversation,omitzero"` // hexadecimal; "": it is about no conversation
	Contact      string    `json:"contact,omitzero"`      // the address of whom it is about; "": of nobody else
	Text         string    `json:"text"`                  // for people
}

// AccountStatus is how one account fares.
type AccountStatus struct {
	Address       string          `json:"address"`
	IMAP          ProviderStatus  `json:"imap"`
	SMTP          ProviderStatus  `json:"smtp"`
	KeyServer     KeyServerStatus `json:"key_server"`
	Queue         QueueStatus     `json:"queue"`
	Conversations int             `json:"conversations"`
	Contacts      int             `json:"contacts"`
	// Problems are what is wrong and stands, the gravest first.
	Problems []Problem `json:"problems,omitzero"`
	// Notices are what was told lately of conversations and contacts, newest first.
	Notices []Notice `json:"notices,omitzero"`
}

// ProviderStatus is how one server of the mail provider does, as far as mail
// clients made the gateway connect. Zero times: not since the gateway started.
type ProviderStatus struct {
	Server      string    `json:"server,omitzero"` // host:port
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastError   *Fault    `json:"last_error,omitzero"`
	// Failing: the last error is newer than the last success.
	Failing bool `json:"failing,omitzero"`
	// Sessions of mail clients that are open now.
	Sessions int `json:"sessions"`
}

// KeyServerStatus is how an account does at the key server.
type KeyServerStatus struct {
	State     SyncState `json:"state"`
	LastSync  time.Time `json:"last_sync,omitzero"`
	LastError *Fault    `json:"last_error,omitzero"`
	Failing   bool      `json:"failing,omitzero"`
	// RetryAt is when a SyncBackingOff loop tries again.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// KeyPackages are those that were left for others at Counted.
	KeyPackages int       `json:"key_packages"`
	LastResort  bool      `json:"last_resort"`
	Counted     time.Time `json:"counted,omitzero"`
}

// SyncState is what the background loop of an account does.
type SyncState string

// States of the loop.
const (
	SyncStopped    SyncState = "stopped"
	SyncRunning    SyncState = "running" // takes what comes, or waits for it
	SyncBackingOff SyncState = "backing-off"
)

// QueueStatus is what waits to be sent, and what could not be.
type QueueStatus struct {
	Entries     int       `json:"entries"`
	Octets      int64     `json:"octets"`
	Oldest      time.Time `json:"oldest,omitzero"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	LastError   *Fault    `json:"last_error,omitzero"`
	// Failed are deliveries given up, newest first, the last few of them; a
	// notice about each is in INBOX.
	Failed []FailedDelivery `json:"failed,omitzero"`
}

// FailedDelivery is a copy that could not be delivered.
type FailedDelivery struct {
	Time       time.Time `json:"time"`
	Recipients []string  `json:"recipients"`
	Text       string    `json:"text"` // the provider's words
}

// Stranded are messages that wait for an account which is not configured.
type Stranded struct {
	Address string      `json:"address"`
	Queue   QueueStatus `json:"queue"`
}

// Fault is one failure.
type Fault struct {
	Kind string    `json:"kind"` // see proxy.FaultKind
	Text string    `json:"text"` // for people; may hold a server's words
	Time time.Time `json:"time"`
}

// Problem is something that is wrong and stands until somebody acts or the
// other side does.
type Problem struct {
	Kind         string    `json:"kind"` // see proxy.ProblemKind
	Text         string    `json:"text"`
	Since        time.Time `json:"since,omitzero"`
	Conversation string    `json:"conversation,omitzero"` // hexadecimal
	Contact      string    `json:"contact,omitzero"`      // address
	// Verified: people had compared the contact's former key.
	Verified bool   `json:"verified,omitzero"`
	Mailbox  string `json:"mailbox,omitzero"`
}

// Reloaded is what a Reload changed, by address.
type Reloaded struct {
	Added   []string `json:"added,omitzero"`
	Removed []string `json:"removed,omitzero"`
	// Kept are the others; their settings are those of the configuration now.
	Kept []string `json:"kept,omitzero"`
	// Notes are what took no effect, for people: "listen.imap changed, restart
	// the gateway".
	Notes []string `json:"notes,omitzero"`
}

// Synced is what a Sync brought.
type Synced struct {
	Processed int      `json:"processed"`
	Joined    []string `json:"joined,omitzero"`   // conversations, in hexadecimal
	Replaced  []string `json:"replaced,omitzero"` // of these, those with a new group
	Changed   []string `json:"changed,omitzero"`
	Removed   []string `json:"removed,omitzero"`
	Problems  int      `json:"problems,omitzero"` // more in Status
}

// Conversation is a dialog, a group, or notes to oneself.
type Conversation struct {
	ID      string    `json:"id"`   // hexadecimal
	Kind    string    `json:"kind"` // dialog, group or self
	Members []string  `json:"members"`
	Epoch   uint64    `json:"epoch"`
	Since   time.Time `json:"since,omitzero"`
	Updated time.Time `json:"updated,omitzero"`
	Removed bool      `json:"removed,omitzero"`
	Broken  bool      `json:"broken,omitzero"`
	// Left: this account left by itself; Removed is set as well.
	Left bool `json:"left,omitzero"`
	// Leaving are members who have left and are taken out by whoever writes next.
	Leaving []string `json:"leaving,omitzero"`
	// PostQuantum: its keys are agreed on with X-Wing (X25519 and ML-KEM-768).
	PostQuantum bool `json:"post_quantum"`
	// Blocked is why nothing can be written in it; empty: it can.
	Blocked string `json:"blocked,omitzero"`
}

// Contact is what an account knows of somebody's identity key.
type Contact struct {
	Address string `json:"address"`
	State   string `json:"state"` // unverified, verified or changed
	Key     []byte `json:"key"`   // Ed25519; the pinned one
	// Since is when it was pinned; zero: it is not.
	Since      time.Time `json:"since,omitzero"`
	VerifiedAt time.Time `json:"verified_at,omitzero"`
	NewKey     []byte    `json:"new_key,omitzero"`
	// NewConfirmed: the key server names NewKey as the account's; only
	// Service.Contact asks.
	NewConfirmed bool `json:"new_confirmed,omitzero"`
	// Confirmed: the key server has named Key, or a person has accepted it.
	Confirmed bool `json:"confirmed,omitzero"`
}

// ContactCode is what two people compare.
type ContactCode struct {
	Address string `json:"address"`
	Code    string `json:"code"` // 60 digits in groups of five
	QR      []byte `json:"qr"`   // content of a QR code
	Key     []byte `json:"key"`  // the other one's key that the code is about
}

// Device is one device of the user.
type Device struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Added    time.Time `json:"added,omitzero"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	This     bool      `json:"this,omitzero"` // the one that answers
	SignedIn bool      `json:"signed_in,omitzero"`
}

// StoreStatus is where the user's sealed state is.
type StoreStatus struct {
	Origin   string `json:"origin"`
	Home     bool   `json:"home,omitzero"`     // the key server's own
	Username string `json:"username,omitzero"` // at a store of the user's own
	Moving   string `json:"moving,omitzero"`   // origin of the store that it is moving to
	Objects  int    `json:"objects"`
	Bytes    int64  `json:"bytes"`
}

// Secret is a password on its way through the socket. It prints and encodes as
// [redacted].
type Secret string

const redacted = "[redacted]"

// String implements fmt.Stringer.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler. The wire has a form of its own.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
