package boltstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Buckets. A key written as "account" is platform and id, each behind its
// length in two octets: never split, never folded, prefix-free.
const (
	bucketMeta          = "meta"           // "format", "mark"
	bucketUsers         = "users"          // user id → User
	bucketUserNames     = "user_names"     // name → user id
	bucketSessions      = "sessions"       // session id → Session
	bucketUserSessions  = "user_sessions"  // user id, session id →
	bucketTokens        = "tokens"         // hash of refresh token → session id
	bucketSessionTokens = "session_tokens" // session id, generation → hash
	bucketAccounts      = "accounts"       // account → Account
	bucketUserAccounts  = "user_accounts"  // user id, account →
	bucketChallenges    = "challenges"     // challenge id → Challenge
	bucketPool          = "pool"           // account, number → KeyPackage
	bucketLastResort    = "last_resort"    // account → KeyPackage
	bucketReferences    = "references"     // account, KeyPackageRef → end
	bucketObjects       = "objects"        // user id, object id → objectMeta
	bucketUsage         = "usage"          // user id → Usage
	bucketResults       = "results"        // user id, hash of body → end, TxResult
	bucketConversations = "conversations"  // kind, conversation id → Conversation
	bucketGroups        = "groups"         // MLS group_id → kind, conversation id
	bucketInbox         = "inbox"          // account, seq → inboxEntry
	bucketInboxSeq      = "inbox_seq"      // account → last seq
	bucketInboxUsage    = "inbox_usage"    // account, or account and user id → messages, bytes
	bucketBlobs         = "blobs"          // number → octets; written once
	bucketBlobUses      = "blob_uses"      // number → uses left, where more than one
	bucketNotes         = "notes"          // kind, owner, key → end, octets
	bucketExpiry        = "expiry"         // time, kind, number → key; in format 1 time, kind, key →
)

var buckets = []string{
	bucketMeta, bucketUsers, bucketUserNames, bucketSessions, bucketUserSessions, bucketTokens, bucketSessionTokens,
	bucketAccounts, bucketUserAccounts, bucketChallenges, bucketPool, bucketLastResort, bucketReferences, bucketObjects,
	bucketUsage, bucketResults, bucketConversations, bucketGroups, bucketInbox, bucketInboxSeq, bucketInboxUsage,
	bucketBlobs, bucketBlobUses, bucketNotes, bucketExpiry,
}

// fillInOrder is how full pages become where keys are written in their order:
// nothing comes between them later, for which bbolt would leave half of each.
const fillInOrder = 0.95

func accountKey(a keyapi.Account) []byte {
	b := make([]byte, 0, 4+len(a.Platform)+len(a.ID)+40)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(a.Platform))), a.Platform...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(a.ID))), a.ID...)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func num(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func readNum(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("store is damaged: number of %d octets", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// unixKey is a time that sorts as octets; times before 1970 count as 1970.
func unixKey(t time.Time) []byte { return num(uint64(max(t.Unix(), 0))) }

// get reads a JSON record, nil if there is none.
func get[T any](b *bucket, key []byte) (*T, error) {
	v := b.Get(key)
	if v == nil {
		return nil, nil
	}
	r := new(T)
	if err := json.Unmarshal(v, r); err != nil {
		return nil, fmt.Errorf("store is damaged: %w", err)
	}
	return r, nil
}

func put(b *bucket, key []byte, record any) error {
	v, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	return b.Put(key, v)
}

// withPrefix calls fn for each key that begins with prefix, in order, until fn
// says stop. fn must not change the bucket.
func withPrefix(b *bucket, prefix []byte, fn func(rest, value []byte) (stop bool, err error)) error {
	c := b.Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
		if stop, err := fn(k[len(prefix):], v); stop || err != nil {
			return err
		}
	}
	return nil
}

// Kinds of things that expire.
const (
	expiresChallenge = 'c'
	expiresResult    = 'r'
	expiresReference = 'k'
	expiresNote      = 'n'
)

var expiringBuckets = map[byte]string{
	expiresChallenge: bucketChallenges, expiresResult: bucketResults, expiresReference: bucketReferences,
	expiresNote: bucketNotes,
}

// expireAt numbers what expires in one second, so that transactions write at the
// end of the bucket and not all over it. key is not changed any more.
func (t *tx) expireAt(at time.Time, kind byte, key []byte) error {
	b := t.bucket(bucketExpiry)
	b.FillPercent = fillInOrder
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return b.replace(join(unixKey(at), []byte{kind}, num(n)), nil, key)
}

// expiring is one entry of the bucket.
type expiring struct {
	entry, value []byte
	kind         byte
	key          []byte // of the thing
}

func parseExpiring(entry, value []byte) (expiring, error) {
	e := expiring{entry: bytes.Clone(entry), value: bytes.Clone(value)}
	if len(entry) < 10 {
		return e, fmt.Errorf("store is damaged: end of a thing of %d octets", len(entry))
	}
	e.kind, e.key = e.entry[8], e.value
	if len(value) == 0 { // format 1
		e.value, e.key = []byte{}, e.entry[9:]
	}
	return e, nil
}

// Expire deletes up to n things whose time has passed. Times are whole seconds:
// where it has found nothing it does not look again within the same one.
func (t *tx) Expire(now time.Time, n int) error {
	if t.store.quietAt.Load() == now.Unix() {
		return nil
	}
	limit, all := unixKey(now), t.bucket(bucketExpiry)
	var due []expiring
	c := all.Cursor()
	for k, v := c.First(); k != nil && len(due) < n && len(k) >= 8 && bytes.Compare(k[:8], limit) < 0; k, v = c.Next() {
		e, err := parseExpiring(k, v)
		if err != nil {
			return err
		}
		due = append(due, e)
	}
	if len(due) == 0 {
		t.store.quietAt.Store(now.Unix())
	}
	for _, e := range due {
		name, ok := expiringBuckets[e.kind]
		if !ok {
			return fmt.Errorf("store is damaged: expiring thing of kind %q", e.kind)
		}
		b := t.bucket(name)
		v := b.Get(e.key)
		renewed := e.kind == expiresResult && bytes.Compare(v, limit) >= 0 ||
			e.kind == expiresNote && len(v) >= 8 && (bytes.Compare(v[:8], limit) >= 0 || bytes.Equal(v[:8], num(0)))
		if !renewed {
			if err := b.remove(e.key, v); err != nil {
				return err
			}
		}
		if err := all.remove(e.entry, e.value); err != nil {
			return err
		}
	}
	return nil
}
