package pgstore

import (
	"bytes"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// cache is what a transaction has read under its locks, or at its snapshot, with
// its own changes; maps are made when they are needed. Counts and inbox numbers are written once, when the writes go
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
	first    *firstOf                             // KeyPackage of a pool
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

func (c *counts) add(n, octets int64) {
	c.n, c.octets, c.changed = c.n+n, c.octets+octets, c.changed || n != 0 || octets != 0
}

type inboxState struct {
	counts
	last int64 // sequence number
}

// putOffState adds the writes of all counts that have changed.
func (t *tx) putOffState() {
	c := &t.cache
	for u, use := range c.usage {
		if !use.changed {
			continue
		}
		use.changed = false
		if use.n == 0 {
			t.write(anyRows, "DELETE FROM usage WHERE user_id = $1", u[:])
			continue
		}
		t.row(formPutUsage, u[:], use.n, use.octets)
	}
	t.putOffInboxes()
	t.putOffSenders()
	if len(c.dropped) > 0 {
		t.rows(formDropMessages, c.dropped)
		t.rows(formDropUnused, c.dropped)
		c.dropped = nil
	}
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
		t.rows(formPutInbox, keys, last, n, octets)
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
	t.rows(formPutSender, keys, users, n, octets)
	if empty {
		t.write(anyRows, `DELETE FROM inbox_usage WHERE account = ANY($1) AND messages = 0`, keys)
	}
}
