package pgstore

import (
	"bytes"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Foresee locks everything that a Plan names at once, and reads the small parts
// of it in the same round trip.
func (t *tx) Foresee(p *keyserver.Plan) error {
	var names []lockName
	var reads []read
	var nobody keyserver.UserID
	if p.User != nobody {
		names = append(names, lockUser(p.User))
		reads = append(reads, t.readVersions(p.User, p.Objects)...)
		if len(p.Objects) > 0 {
			reads = append(reads, t.readObjectNotes(p.User)...)
		}
		if t.writing {
			reads = append(reads, t.readUsage(p.User)...)
		}
		if p.Session != (keyserver.SessionID{}) {
			reads = append(reads, t.readSession(p.User, p.Session)...)
		}
		if p.Body != (keyserver.Hash{}) {
			reads = append(reads, t.readResult(p.User, p.Body)...)
		}
	}
	if p.Kind != 0 {
		names = append(names, lockConversation(p.Kind, p.Conv))
		reads = append(reads, t.readConversation(p.Kind, p.Conv)...)
	}
	if len(p.Group) > 0 {
		names = append(names, lockGroup(p.Group))
		reads = append(reads, t.readGroup(p.Group)...)
	}
	if len(p.Accounts) > 0 {
		for _, a := range p.Accounts {
			names = append(names, lockAccount(a))
		}
		reads = append(reads, t.readAccounts(p.Accounts)...)
		reads = append(reads, t.readInboxes(p.Accounts)...)
		if p.User != nobody {
			reads = append(reads, t.readSenders(p.Accounts, p.User)...)
		}
	}
	return t.ask(t.locks(names...), reads...)
}

// The functions below ask for what is not known yet; the answers go into the
// cache.

func (t *tx) readUsage(u keyserver.UserID) []read {
	if t.cache.usage[u] != nil {
		return nil
	}
	c := &counts{}
	t.cache.usage[u] = c
	return []read{{sql: "SELECT objects, octets FROM usage WHERE user_id = $1", args: []any{u[:]}, scan: func(rows pgx.Rows) error {
		return fromDatabase(rows.Scan(&c.n, &c.octets))
	}}}
}

// readSession reads a session under the lock of the user whose it is said to be;
// one of another user stays unknown.
func (t *tx) readSession(u keyserver.UserID, id keyserver.SessionID) []read {
	if _, known := t.cache.sessions[id]; known {
		return nil
	}
	sql := "SELECT record FROM sessions WHERE id = $1 AND user_id = $2"
	return []read{{sql: sql, args: []any{id[:], u[:]}, scan: func(rows pgx.Rows) error {
		var s *keyserver.Session
		err := one(&s)(rows)
		if err == nil {
			t.cache.sessions[id] = s
		}
		return err
	}}}
}

func (t *tx) readVersions(u keyserver.UserID, ids []keyapi.ObjectID) []read {
	var missing [][]byte
	for _, id := range ids {
		if _, known := t.cache.objects[objectName{u, id}]; !known {
			t.cache.objects[objectName{u, id}] = nil
			missing = append(missing, bytes.Clone(id[:]))
		}
	}
	if missing == nil {
		return nil
	}
	sql := "SELECT id, counter, size, hash FROM objects WHERE user_id = $1 AND id = ANY($2)"
	return []read{{sql: sql, args: []any{u[:], missing}, scan: func(rows pgx.Rows) error {
		v, err := scanVersion(rows)
		if err == nil {
			t.cache.objects[objectName{u, v.ID}] = v
		}
		return err
	}}}
}

// readObjectNotes reads the notes that rule over a user's objects.
func (t *tx) readObjectNotes(u keyserver.UserID) []read {
	var kinds []int16
	for _, k := range []keyserver.NoteKind{keyserver.NoteQuota, keyserver.NoteMove} {
		name := noteName{k, string(u[:]), ""}
		if _, known := t.cache.notes[name]; !known {
			t.cache.notes[name] = nil
			kinds = append(kinds, int16(k))
		}
	}
	if kinds == nil {
		return nil
	}
	sql := "SELECT kind, expires, value FROM notes WHERE kind = ANY($1) AND owner = $2 AND key = ''"
	return []read{{sql: sql, args: []any{kinds, u[:]}, scan: func(rows pgx.Rows) error {
		var kind int16
		n := &storedNote{}
		err := fromDatabase(rows.Scan(&kind, &n.expires, &n.value))
		t.cache.notes[noteName{keyserver.NoteKind(kind), string(u[:]), ""}] = n
		return err
	}}}
}

func (t *tx) readResult(u keyserver.UserID, body keyserver.Hash) []read {
	name := resultName{u, body}
	if _, known := t.cache.results[name]; known {
		return nil
	}
	t.cache.results[name] = nil
	sql := "SELECT expires, record FROM results WHERE user_id = $1 AND body = $2"
	return []read{{sql: sql, args: []any{u[:], body[:]}, scan: func(rows pgx.Rows) error {
		r := &result{}
		t.cache.results[name] = r
		return fromDatabase(rows.Scan(&r.expires, &r.record))
	}}}
}

func (t *tx) readConversation(kind keyapi.Kind, id keyserver.ConversationID) []read {
	name := talkName{kind, id}
	if _, known := t.cache.talks[name]; known {
		return nil
	}
	t.cache.talks[name] = nil
	sql := "SELECT record FROM conversations WHERE kind = $1 AND id = $2"
	return []read{{sql: sql, args: []any{int16(kind), id[:]}, scan: func(rows pgx.Rows) error {
		var c *keyserver.Conversation
		err := one(&c)(rows)
		t.cache.talks[name] = c
		return err
	}}}
}

func (t *tx) readGroup(group []byte) []read {
	if _, known := t.cache.groups[string(group)]; known {
		return nil
	}
	t.cache.groups[string(group)] = false
	return []read{{sql: "SELECT kind FROM mls_groups WHERE id = $1", args: []any{group}, scan: func(pgx.Rows) error {
		t.cache.groups[string(group)] = true
		return nil
	}}}
}

// missing gives the keys of accounts that are not known, and makes them so.
func missing(accounts []keyapi.Account, known func(key string) bool) [][]byte {
	var keys [][]byte
	for _, a := range accounts {
		if key := accountKey(a); !known(string(key)) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (t *tx) readAccounts(accounts []keyapi.Account) []read {
	keys := missing(accounts, func(key string) bool {
		_, known := t.cache.accounts[key]
		if !known {
			t.cache.accounts[key] = nil
		}
		return known
	})
	if keys == nil {
		return nil
	}
	return []read{{sql: "SELECT record FROM accounts WHERE account = ANY($1)", args: []any{keys}, scan: func(rows pgx.Rows) error {
		var a *keyserver.Account
		if err := one(&a)(rows); err != nil {
			return err
		}
		t.cache.accounts[string(accountKey(a.Account))] = a
		return nil
	}}}
}

func (t *tx) readInboxes(accounts []keyapi.Account) []read {
	keys := missing(accounts, func(key string) bool {
		known := t.cache.inboxes[key] != nil
		if !known {
			t.cache.inboxes[key] = &inboxState{}
		}
		return known
	})
	if keys == nil {
		return nil
	}
	sql := "SELECT account, last_seq, messages, octets FROM inbox_state WHERE account = ANY($1)"
	return []read{{sql: sql, args: []any{keys}, scan: func(rows pgx.Rows) error {
		var key []byte
		s := &inboxState{}
		err := fromDatabase(rows.Scan(&key, &s.last, &s.n, &s.octets))
		t.cache.inboxes[string(key)] = s
		return err
	}}}
}

func (t *tx) readSenders(accounts []keyapi.Account, u keyserver.UserID) []read {
	keys := missing(accounts, func(key string) bool {
		name := senderName{key, u}
		known := t.cache.senders[name] != nil
		if !known {
			t.cache.senders[name] = &counts{}
		}
		return known
	})
	if keys == nil {
		return nil
	}
	sql := "SELECT account, messages, octets FROM inbox_usage WHERE account = ANY($1) AND user_id = $2"
	return []read{{sql: sql, args: []any{keys, u[:]}, scan: func(rows pgx.Rows) error {
		var key []byte
		c := &counts{}
		err := fromDatabase(rows.Scan(&key, &c.n, &c.octets))
		t.cache.senders[senderName{string(key), u}] = c
		return err
	}}}
}
