package cloudmls

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// recordVersion is the version of every record of this file. A record of
// another version is refused: dropping what a newer device wrote would lose it.
const recordVersion = 1

// identityRecord is the object identity/account.
type identityRecord struct {
	Version    int    `json:"v"`
	Seed       []byte `json:"seed"`       // Ed25519 seed, 32 octets
	Registered bool   `json:"registered"` // the key server has the account as ours
	Created    int64  `json:"created"`    // seconds since the epoch
	// Rotations lead from earlier keys of the account to this one, oldest first;
	// the last keyapi.MaxRotations.
	Rotations []keyapi.Rotation `json:"rotations,omitempty"`
	// Former are the public keys before; epochs that began under them count.
	Former []formerKey `json:"former,omitempty"`
	// Next is the key that a rotation under way brings: stored here before the
	// key server is told.
	Next *nextIdentity `json:"next,omitempty"`
	// Round is the rotation of the user's keys that this key was made in.
	Round int64 `json:"round,omitempty"`
	// Taken is the round in which somebody else was found to have replaced the
	// key at the key server (ErrIdentityTaken), so that this one had to stay.
	Taken int64 `json:"taken,omitempty"`
}

type nextIdentity struct {
	Seed     []byte          `json:"seed"`
	Rotation keyapi.Rotation `json:"rotation"`
	Round    int64           `json:"round"`
}

// keyPackagesRecord is the object keypackages/account: the private parts of
// published KeyPackages.
type keyPackagesRecord struct {
	Version  int               `json:"v"`
	Packages []keyPackageEntry `json:"packages"`
}

// keyPackageEntry is one KeyPackage with its private parts.
type keyPackageEntry struct {
	Ref        []byte `json:"ref"`
	Secrets    []byte `json:"secrets"` // mls.KeyPackageSecrets
	NotAfter   int64  `json:"not_after"`
	Created    int64  `json:"created"`
	LastResort bool   `json:"last_resort,omitempty"`
	Used       int64  `json:"used,omitempty"`  // last resort: first join with it
	Suite      uint16 `json:"suite,omitempty"` // 0: 1
	// Pending: it is not known to be published.
	Pending bool `json:"pending,omitempty"`
}

// inboxRecord is the object inbox/account.
type inboxRecord struct {
	Version int            `json:"v"`
	Cursor  uint64         `json:"cursor"`         // everything up to here is processed
	Held    []heldDelivery `json:"held,omitempty"` // Welcomes waiting for AcceptIdentity
	// Todo are conversations in which something waits for this account: see mend.
	Todo []ConversationID `json:"todo,omitempty"`
	// Marks are of the last transactions that had something to tell: see ahead.
	Marks [][]byte `json:"marks,omitempty"`
}

// heldDelivery is a Welcome that was refused only because a pinned identity
// key changed.
type heldDelivery struct {
	Seq          uint64  `json:"seq"`
	Conversation []byte  `json:"conversation"`
	Kind         Kind    `json:"kind"`
	Group        []byte  `json:"group"`
	Epoch        uint64  `json:"epoch"`
	Sender       Account `json:"sender"`
	Message      []byte  `json:"message"`
	Changed      Account `json:"changed"` // whose key changed
}

// conversationRecord is the object conversation/id of an account.
type conversationRecord struct {
	Version   int            `json:"v"`
	ID        ConversationID `json:"id"`
	Kind      Kind           `json:"kind"`
	Group     []byte         `json:"group"`      // MLS group_id of the current instance
	Epoch     uint64         `json:"epoch"`      // current epoch of it
	JoinEpoch uint64         `json:"join_epoch"` // first epoch of it that we hold
	Members   []memberEntry  `json:"members"`    // roster of the current epoch, sorted
	Removed   int64          `json:"removed,omitempty"`
	Broken    string         `json:"broken,omitempty"`
	Renew     bool           `json:"renew,omitempty"` // entered by a last-resort KeyPackage: refresh the leaf's keys soon
	Since     int64          `json:"since"`
	Updated   int64          `json:"updated"`        // when Epoch began for us
	Past      []pastInstance `json:"past,omitempty"` // earlier instances, oldest first
	Days      uint32         `json:"days,omitempty"` // how long its history is kept; 0: for ever
	// Left is when the account asked the others to remove it, LeftEpoch the epoch
	// that it asked in.
	Left      int64  `json:"left,omitempty"`
	LeftEpoch uint64 `json:"left_epoch,omitempty"`
	// BrokenKind and BrokenCommit, a SHA-256, go with Broken. Asked is when the
	// others were last asked to let this account in again.
	BrokenKind   ProblemKind `json:"broken_kind,omitempty"`
	BrokenCommit []byte      `json:"broken_commit,omitempty"`
	Asked        int64       `json:"asked,omitempty"`
	// Wishes are what members asked for and nobody has done yet.
	Wishes []wishEntry `json:"wishes,omitempty"`
	// PostQuantum: an instance had a post-quantum cipher suite; all later ones
	// must have.
	PostQuantum bool `json:"post_quantum,omitempty"`
	// Replaced is when somebody else's group took the place of the one before.
	Replaced int64 `json:"replaced,omitempty"`
}

// wishEntry is what a member asked for, authentically.
type wishEntry struct {
	Platform string `json:"platform"`
	ID       string `json:"id"`
	Leave    bool   `json:"leave,omitempty"` // to be removed; else: to be let in again
	At       int64  `json:"at"`              // when this account heard of it
}

func (w wishEntry) account() Account { return Account{Platform: w.Platform, ID: w.ID} }

// pastInstance is a group that served the conversation before.
type pastInstance struct {
	Group     []byte `json:"group"`
	Epoch     uint64 `json:"epoch"` // last epoch of it that we hold
	JoinEpoch uint64 `json:"join_epoch"`
	Closed    int64  `json:"closed"`
	Days      uint32 `json:"days,omitempty"`
}

// held tells whether this account was in an epoch of a group that served the
// conversation before, or in a later one of it.
func (r *conversationRecord) held(group []byte, epoch uint64) bool {
	return slices.ContainsFunc(r.Past, func(p pastInstance) bool {
		return bytes.Equal(p.Group, group) && epoch <= p.Epoch
	})
}

// memberEntry is one account of a roster and the identity key in its leaf
// certificate.
type memberEntry struct {
	Platform    string `json:"platform"`
	ID          string `json:"id"`
	IdentityKey []byte `json:"identity_key"`
	// Joined is the epoch that the leaf was added in, 0 where this account did not
	// see it. Certified is the beginning of its certificate, in seconds since the
	// epoch: how fresh its keys are.
	Joined    uint64 `json:"joined,omitempty"`
	Certified int64  `json:"certified,omitempty"`

	rotations []keyapi.Rotation // of the leaf certificate; only where it was read from a leaf
}

func (m memberEntry) account() Account { return Account{Platform: m.Platform, ID: m.ID} }

// senderRecord is the object sender/instance, shared by all devices.
type senderRecord struct {
	Version       int    `json:"v"`
	Epoch         uint64 `json:"epoch"`
	SignatureKey  []byte `json:"signature_key"` // of the own leaf
	NextApp       uint32 `json:"next_app"`      // first application generation nobody reserved
	NextHandshake uint32 `json:"next_handshake"`
}

// emptied tells that the account has left the group (leaveGroup).
func (r *senderRecord) emptied() bool { return len(r.SignatureKey) == 0 }

// of tells whether the account is in that epoch of the group.
func (r *senderRecord) of(epoch uint64) bool { return r.Epoch == epoch && !r.emptied() }

// contactsRecord is the object contacts/account.
type contactsRecord struct {
	Version int        `json:"v"`
	Pins    []pinEntry `json:"pins"`
}

// pinEntry is what is known of one account's identity key.
type pinEntry struct {
	Platform string `json:"platform"`
	ID       string `json:"id"`
	Key      []byte `json:"key"`
	Since    int64  `json:"since"`
	// Unconfirmed: the key is known only from a group that somebody else put
	// together. The key server has not been heard about it yet.
	Unconfirmed bool   `json:"unconfirmed,omitempty"`
	Changed     []byte `json:"changed,omitempty"` // another key seen since, not accepted
	Accepted    int64  `json:"accepted,omitempty"`
	Verified    int64  `json:"verified,omitempty"` // when people compared Key
	// Next is a key that a rotation signed by Key leads to, seen in a group. The
	// key server has not been heard about it yet.
	Next    []byte `json:"next,omitempty"`
	Rotated int64  `json:"rotated,omitempty"` // when a signed rotation brought Key
	// Compared is when people had compared a key that signed rotations replaced.
	Compared int64 `json:"compared,omitempty"`
	// Former keys were pinned before a person accepted another, or before a
	// signed rotation.
	Former []formerKey `json:"former,omitempty"`
}

// formerKey is an identity key that counts for epochs that began before Until:
// see counts.
type formerKey struct {
	Key     []byte `json:"key"`
	Until   int64  `json:"until"`
	Rotated bool   `json:"rotated,omitempty"` // its owner has replaced it
}

// encodeRecord and decodeRecord are the form of the records: JSON, but for
// conversations.
func encodeRecord(v any) ([]byte, error) {
	if r, ok := v.(*conversationRecord); ok {
		return r.encode(), nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return b, nil
}

func decodeRecord(b []byte, v any) error {
	if r, ok := v.(*conversationRecord); ok {
		return r.decode(b)
	}
	return decodeJSONRecord(b, v)
}

func decodeJSONRecord(b []byte, v any) error {
	var head struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if head.Version != recordVersion {
		return fmt.Errorf("record: version %d, this program knows %d: update it", head.Version, recordVersion)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("record: octets after the end")
	}
	return nil
}

// epochRecord is the object epoch/instance/n: octet 1, milliseconds since 1970
// when it began for us (uint64), then the mls.ArchiveRecord.
type epochRecord struct {
	opened  time.Time
	archive *mls.ArchiveRecord

	once    sync.Once // for facts
	known   *epochFacts
	unknown error
}

func encodeEpoch(opened time.Time, archive *mls.ArchiveRecord) ([]byte, error) {
	a, err := archive.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode archive record: %w", err)
	}
	b := binary.BigEndian.AppendUint64([]byte{recordVersion}, uint64(opened.UnixMilli()))
	return append(b, a...), nil
}

func decodeEpoch(b []byte) (*epochRecord, error) {
	if len(b) < 9 || b[0] != recordVersion {
		return nil, errors.New("epoch record: unknown form")
	}
	a, err := mls.ParseArchiveRecord(b[9:])
	if err != nil {
		return nil, fmt.Errorf("epoch record: %w", err)
	}
	return &epochRecord{opened: time.UnixMilli(int64(binary.BigEndian.Uint64(b[1:9]))), archive: a}, nil
}

// Keys of the objects.

func identityKey(self Account) state.Key {
	return state.Key{Type: state.TypeIdentity, Account: self, Name: "identity"}
}

func keyPackagesKey(self Account) state.Key {
	return state.Key{Type: state.TypeKeyPackages, Account: self, Name: "keypackages"}
}

func inboxKey(self Account) state.Key {
	return state.Key{Type: state.TypeInbox, Account: self, Name: "inbox"}
}

func contactsKey(self Account) state.Key {
	return state.Key{Type: state.TypeContacts, Account: self, Name: "contacts"}
}

func conversationKey(self Account, id ConversationID) state.Key {
	return state.Key{Type: state.TypeConversation, Account: self, Name: id.String()}
}

func groupKey(self Account, group []byte) state.Key {
	return state.Key{Type: state.TypeGroup, Account: self, Name: hex.EncodeToString(group)}
}

func senderKey(self Account, group []byte) state.Key {
	return state.Key{Type: state.TypeSender, Account: self, Name: hex.EncodeToString(group)}
}

func epochKey(self Account, group []byte, epoch uint64) state.Key {
	name := hex.EncodeToString(group) + "/" + strconv.FormatUint(epoch, 10)
	return state.Key{Type: state.TypeEpoch, Account: self, Name: name}
}

// bundleKey names the bundle that begins with an epoch.
func bundleKey(self Account, group []byte, first uint64) state.Key {
	k := epochKey(self, group, first)
	k.Name += "+"
	return k
}

func historyKey(self Account, group []byte) state.Key {
	return state.Key{Type: state.TypeHistory, Account: self, Name: hex.EncodeToString(group)}
}

// shelfScope names the archive keys of the group that an archive record or a
// bundle belongs to.
func shelfScope(tx *state.Tx, k state.Key) string {
	group, _, _ := strings.Cut(k.Name, "/")
	return tx.Scope(state.Key{Account: k.Account, Name: group})
}
