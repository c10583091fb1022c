package pgstore

import (
	"bytes"
	"fmt"

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
		if t.writing && len(p.Objects) > 0 {
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
	for _, a := range p.Accounts {
		names = append(names, lockAccount(a))
	}
	reads = append(reads, t.readAccounts(p.Accounts)...)
	if len(p.Accounts) > 0 && p.Pool == (keyapi.Account{}) {
		reads = append(reads, t.readInboxes(p.Accounts)...)
		if t.writing && p.User != nobody {
			reads = append(reads, t.readSenders(p.Accounts, p.User)...)
		}
	}
	if p.Pool != (keyapi.Account{}) {
		names = append(names, lockAccount(p.Pool))
		reads = append(reads, t.readPool(p.Pool, p.Now)...)
	}
	sends := p.Sender != (keyapi.Account{}) && p.User != nobody
	if sends {
		reads = append(reads, t.readAccounts([]keyapi.Account{p.Sender})...)
	}
	err := t.ask(t.locks(names...), reads...)
	if err == nil && sends {
		t.checkSender(p)
	}
	return err
}

// checkSender: the lock of a user is one on the records of the user's accounts,
// for nobody changes one without it. So who sends locks the inboxes of others and
// not the own, or all who write to each other would wait for each other. What
// turns out to be somebody else's is read again, under its own lock.
func (t *tx) checkSender(p *keyserver.Plan) {
	key := string(accountKey(p.Sender))
	if have := t.cache.accounts[key]; t.writing && !t.holds(lockAccount(p.Sender)) && (have == nil || have.User != p.User) {
		delete(t.cache.accounts, key)
	}
}

// The functions below ask for what is not known yet; the answers go into the
// cache.

func (t *tx) readUsage(u keyserver.UserID) []read {
	if t.cache.usage[u] != nil {
		return nil
	}
	c := &counts{}
	set(&t.cache.usage, u, c)
	return []read{question(formUsage, func(rows pgx.Rows) error { return fromDatabase(rows.Scan(nil, &c.n, &c.octets)) }, u[:])}
}

// readSession reads a session under the lock of the user whose it is said to be;
// one of another user stays unknown.
func (t *tx) readSession(u keyserver.UserID, id keyserver.SessionID) []read {
	if _, known := t.cache.sessions[id]; known {
		return nil
	}
	return []read{question(formSessionOf, func(rows pgx.Rows) error {
		s, err := t.store.sessions.scan(rows)
		if err == nil {
			set(&t.cache.sessions, id, s)
		}
		return err
	}, id[:], u[:])}
}

func (t *tx) readVersions(u keyserver.UserID, ids []keyapi.ObjectID) []read {
	var users, missing [][]byte
	for _, id := range ids {
		if _, known := t.cache.objects[objectName{u, id}]; !known {
			set(&t.cache.objects, objectName{u, id}, nil)
			users, missing = append(users, u[:]), append(missing, bytes.Clone(id[:]))
		}
	}
	if missing == nil {
		return nil
	}
	return []read{{form: formVersion, args: []any{users, missing}, scan: func(rows pgx.Rows) error {
		v := &keyapi.ObjectVersion{}
		err := scanVersion(rows, v, nil)
		set(&t.cache.objects, objectName{u, v.ID}, v)
		return err
	}}}
}

// readObjectNotes reads the notes that rule over a user's objects.
func (t *tx) readObjectNotes(u keyserver.UserID) []read {
	var kinds []int16
	var owners [][]byte
	for _, k := range []keyserver.NoteKind{keyserver.NoteQuota, keyserver.NoteMove} {
		name := noteName{k, string(u[:]), ""}
		if _, known := t.cache.notes[name]; !known {
			set(&t.cache.notes, name, nil)
			kinds, owners = append(kinds, int16(k)), append(owners, u[:])
		}
	}
	if kinds == nil {
		return nil
	}
	return []read{{form: formObjectNote, args: []any{kinds, owners}, scan: func(rows pgx.Rows) error {
		var kind int16
		n := &storedNote{}
		err := fromDatabase(rows.Scan(nil, &kind, &n.expires, &n.value))
		set(&t.cache.notes, noteName{keyserver.NoteKind(kind), string(u[:]), ""}, n)
		return err
	}}}
}

func (t *tx) readResult(u keyserver.UserID, body keyserver.Hash) []read {
	name := resultName{u, body}
	if _, known := t.cache.results[name]; known {
		return nil
	}
	set(&t.cache.results, name, nil)
	return []read{question(formResult, func(rows pgx.Rows) error {
		r := &result{}
		set(&t.cache.results, name, r)
		return fromDatabase(rows.Scan(nil, &r.expires, &r.record))
	}, u[:], body[:])}
}

func (t *tx) readConversation(kind keyapi.Kind, id keyserver.ConversationID) []read {
	name := talkName{kind, id}
	if _, known := t.cache.talks[name]; known {
		return nil
	}
	set(&t.cache.talks, name, nil)
	return []read{question(formConversation, func(rows pgx.Rows) error {
		c, err := t.store.talks.scan(rows)
		set(&t.cache.talks, name, c)
		return err
	}, int16(kind), id[:])}
}

func (t *tx) readGroup(group []byte) []read {
	if _, known := t.cache.groups[string(group)]; known {
		return nil
	}
	set(&t.cache.groups, string(group), false)
	return []read{question(formGroup, func(pgx.Rows) error {
		set(&t.cache.groups, string(group), true)
		return nil
	}, group)}
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
			set(&t.cache.accounts, key, nil)
		}
		return known
	})
	if keys == nil {
		return nil
	}
	return []read{{form: formAccount, args: []any{keys}, scan: func(rows pgx.Rows) error {
		a, err := t.store.accounts.scan(rows)
		if err != nil {
			return err
		}
		set(&t.cache.accounts, string(accountKey(a.Account)), a)
		return nil
	}}}
}

func (t *tx) readInboxes(accounts []keyapi.Account) []read {
	keys := missing(accounts, func(key string) bool {
		known := t.cache.inboxes[key] != nil
		if !known {
			set(&t.cache.inboxes, key, &inboxState{})
		}
		return known
	})
	if keys == nil {
		return nil
	}
	return []read{{form: formInbox, args: []any{keys}, scan: func(rows pgx.Rows) error {
		var key []byte
		s := &inboxState{}
		err := fromDatabase(rows.Scan(nil, &key, &s.last, &s.n, &s.octets))
		set(&t.cache.inboxes, string(key), s)
		return err
	}}}
}

// readSenders reads what is in inboxes of any of the users.
func (t *tx) readSenders(accounts []keyapi.Account, users ...keyserver.UserID) []read {
	var inboxes, senders [][]byte
	for _, u := range users {
		for _, key := range missing(accounts, func(key string) bool {
			name := senderName{key, u}
			known := t.cache.senders[name] != nil
			if !known {
				set(&t.cache.senders, name, &counts{})
			}
			return known
		}) {
			inboxes, senders = append(inboxes, key), append(senders, bytes.Clone(u[:]))
		}
	}
	if inboxes == nil {
		return nil
	}
	return []read{{form: formSender, args: []any{inboxes, senders}, scan: func(rows pgx.Rows) error {
		var key, user []byte
		c := &counts{}
		if err := rows.Scan(nil, &key, &user, &c.n, &c.octets); err != nil {
			return fromDatabase(err)
		}
		if len(user) != len(keyserver.UserID{}) {
			return errUserID(user)
		}
		set(&t.cache.senders, senderName{string(key), keyserver.UserID(user)}, c)
		return nil
	}}}
}

func errUserID(b []byte) error { return fmt.Errorf("store is damaged: user id of %d octets", len(b)) }
