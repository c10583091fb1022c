package pgstore

import (
	"bytes"
	"slices"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// cache is what a transaction has read under its locks, or at its snapshot, with
// its own changes. Counts and inbox numbers are written once, when the writes go
// out.
type cache struct {
	objects  map[objectName]*keyapi.ObjectVersion // nil: there is none
	usage    map[keyserver.UserID]*counts
	sessions map[keyserver.SessionID]*keyserver.Session
	accounts map[string]*keyserver.Account // by accountKey; nil: there is none
	inboxes  map[string]*inboxState        // by accountKey
	senders  map[senderName]*counts
	groups   map[string]bool // whether it is used
	results  map[resultName]*result
	talks    map[talkName]*keyserver.Conversation // nil: there is none
	notes    map[noteName]*storedNote             // nil: there is none
	dropped  [][]byte                             // messages whose uses go down by one
}

type objectName struct {
	user keyserver.UserID
	id   keyapi.ObjectID
}

type senderName struct {
	inbox string
	user  keyserver.UserID
}

type resultName struct {
	user keyserver.UserID
	body keyserver.Hash
}

type talkName struct {
	kind keyapi.Kind
	id   keyserver.ConversationID
}

// counts are things and their octets.
type counts struct {
	n, octets int64
	changed   bool
}

func (c *counts) add(n, octets int64) { c.n, c.octets, c.changed = c.n+n, c.octets+octets, true }

type inboxState struct {
	counts
	last int64 // sequence number
}

func newCache() cache {
	return cache{
		objects: map[objectName]*keyapi.ObjectVersion{}, usage: map[keyserver.UserID]*counts{},
		sessions: map[keyserver.SessionID]*keyserver.Session{}, accounts: map[string]*keyserver.Account{}, inboxes: map[string]*inboxState{}, senders: map[senderName]*counts{},
		notes: map[noteName]*storedNote{}, groups: map[string]bool{}, results: map[resultName]*result{}, talks: map[talkName]*keyserver.Conversation{},
	}
}

// putOffState adds the writes of all counts that have changed.
func (t *tx) putOffState() {
	c := &t.cache
	for u, use := range c.usage {
		if use.changed {
			use.changed = false
			if use.n == 0 {
				t.write(anyRows, "DELETE FROM usage WHERE user_id = $1", u[:])
				continue
			}
			t.write(1, `INSERT INTO usage (user_id, objects, octets) VALUES ($1, $2, $3)
				ON CONFLICT (user_id) DO UPDATE SET objects = excluded.objects, octets = excluded.octets`, u[:], use.n, use.octets)
		}
	}
	t.putOffInboxes()
	t.putOffSenders()
	if len(c.dropped) > 0 {
		slices.SortFunc(c.dropped, bytes.Compare)
		// One account drops a message once, but a transaction may acknowledge for several.
		for _, ids := range distinctRuns(c.dropped) {
			t.write(int64(len(ids)), `WITH mine AS MATERIALIZED (SELECT id FROM messages WHERE id = ANY($1) ORDER BY id FOR UPDATE)
				UPDATE messages SET uses = uses - 1 FROM mine WHERE messages.id = mine.id`, ids)
			t.write(anyRows, "DELETE FROM messages WHERE id = ANY($1) AND uses = 0", ids)
		}
		c.dropped = nil
	}
}

// distinctRuns splits a sorted list into lists in which nothing occurs twice.
func distinctRuns(sorted [][]byte) [][][]byte {
	var runs [][][]byte
	nth := 0
	for i, id := range sorted {
		if nth++; i == 0 || !bytes.Equal(id, sorted[i-1]) {
			nth = 0
		}
		if nth == len(runs) {
			runs = append(runs, nil)
		}
		runs[nth] = append(runs[nth], id)
	}
	return runs
}

func (t *tx) putOffInboxes() {
	var keys [][]byte
	var last, n, octets []int64
	for key, state := range t.cache.inboxes {
		if state.changed {
			state.changed = false
			keys, last = append(keys, []byte(key)), append(last, state.last)
			n, octets = append(n, state.n), append(octets, state.octets)
		}
	}
	if keys != nil {
		t.write(int64(len(keys)), `INSERT INTO inbox_state (account, last_seq, messages, octets)
			SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
			ON CONFLICT (account) DO UPDATE SET last_seq = excluded.last_seq, messages = excluded.messages, octets = excluded.octets`,
			keys, last, n, octets)
	}
}

func (t *tx) putOffSenders() {
	var keys, users [][]byte
	var n, octets []int64
	empty := false
	for name, use := range t.cache.senders {
		if use.changed {
			use.changed = false
			empty = empty || use.n == 0
			keys, users = append(keys, []byte(name.inbox)), append(users, bytes.Clone(name.user[:]))
			n, octets = append(n, use.n), append(octets, use.octets)
		}
	}
	if keys == nil {
		return
	}
	t.write(int64(len(keys)), `INSERT INTO inbox_usage (account, user_id, messages, octets)
		SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[])
		ON CONFLICT (account, user_id) DO UPDATE SET messages = excluded.messages, octets = excluded.octets`, keys, users, n, octets)
	if empty {
		t.write(anyRows, `DELETE FROM inbox_usage WHERE account = ANY($1) AND messages = 0`, keys)
	}
}
