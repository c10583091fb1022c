package pgstore

import (
	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
)

func (t *tx) Mark() ([]byte, error) {
	var mark []byte
	err := t.ask(t.locks(lockMark), read{sql: "SELECT value FROM meta WHERE key = 'mark'", scan: func(rows pgx.Rows) error {
		return fromDatabase(rows.Scan(&mark))
	}})
	return mark, err
}

func (t *tx) PutMark(mark []byte) error {
	t.write(1, "INSERT INTO meta (key, value) VALUES ('mark', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value", mark)
	return nil
}

func (t *tx) User(id keyserver.UserID) (*keyserver.User, error) {
	var u *keyserver.User
	err := t.ask(t.locks(lockUser(id)), read{sql: "SELECT record FROM users WHERE id = $1", args: []any{id[:]}, scan: one(&u, 0)})
	return u, err
}

// UserByName locks the name, and then the user who has it.
func (t *tx) UserByName(name string) (*keyserver.User, error) {
	var u *keyserver.User
	err := t.ask(t.locks(lockUserName(name)), read{sql: "SELECT record FROM users WHERE name = $1", args: []any{[]byte(name)}, scan: one(&u, 0)})
	if err != nil || u == nil || !t.writing {
		return u, err
	}
	return t.User(u.ID)
}

func (t *tx) Users(after string, limit int) ([]keyserver.User, error) {
	var all []keyserver.User
	err := t.send(read{
		sql: "SELECT record FROM users WHERE name > $1 ORDER BY name LIMIT $2", args: []any{[]byte(after), limit}, scan: each(&all),
	})
	return all, err
}

func (t *tx) PutUser(u *keyserver.User) error {
	if err := t.ask(t.locks(lockUserName(u.Name), lockUser(u.ID))); err != nil {
		return err
	}
	record, err := encode(u)
	if err != nil {
		return err
	}
	t.write(1, `INSERT INTO users (id, name, record) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record`, u.ID[:], []byte(u.Name), record)
	return nil
}

func (t *tx) DeleteUser(id keyserver.UserID) error {
	if err := t.ask(t.locks(lockUser(id))); err != nil {
		return err
	}
	if err := t.send(); err != nil { // or counts that were put off would come back
		return err
	}
	for _, table := range []string{"objects", "usage", "results"} {
		t.write(anyRows, "DELETE FROM "+table+" WHERE user_id = $1", id[:])
	}
	t.write(anyRows, "DELETE FROM users WHERE id = $1", id[:])
	err := t.send()
	t.forget(id)
	return err
}

// forget drops what the cache has of a user whose rows are gone.
func (t *tx) forget(id keyserver.UserID) {
	c := &t.cache
	delete(c.usage, id)
	for name := range c.objects {
		if name.user == id {
			delete(c.objects, name)
		}
	}
	for name := range c.results {
		if name.user == id {
			delete(c.results, name)
		}
	}
}

func (t *tx) Session(id keyserver.SessionID) (*keyserver.Session, error) {
	if s := t.cache.sessions[id]; s != nil { // foreseen
		own := *s
		return &own, nil
	}
	var s *keyserver.Session
	record := func() read {
		return question(formSession, func(rows pgx.Rows) error {
			known, err := t.store.sessions.scan(rows)
			if err == nil {
				own := *known
				s = &own
			}
			return err
		}, id[:])
	}
	if t.writing {
		return t.session("SELECT user_id FROM sessions WHERE id = $1", id[:], record, &s)
	}
	err := t.send(record())
	return s, err
}

func (t *tx) SessionByToken(hash keyserver.Hash) (*keyserver.Session, error) {
	var s *keyserver.Session
	record := func() read {
		return read{sql: "SELECT s.record FROM tokens t JOIN sessions s ON s.id = t.session WHERE t.hash = $1", args: []any{hash[:]}, scan: one(&s, 0)}
	}
	if t.writing {
		return t.session("SELECT s.user_id FROM tokens t JOIN sessions s ON s.id = t.session WHERE t.hash = $1", hash[:], record, &s)
	}
	err := t.send(record())
	return s, err
}

// session locks the user of a session, which never changes, and reads.
func (t *tx) session(whose string, key []byte, record func() read, s **keyserver.Session) (*keyserver.Session, error) {
	var owner []byte
	err := t.send(read{sql: whose, args: []any{key}, scan: func(rows pgx.Rows) error { return fromDatabase(rows.Scan(&owner)) }})
	if err != nil || len(owner) != len(keyserver.UserID{}) {
		return nil, err
	}
	err = t.ask(t.locks(lockUser(keyserver.UserID(owner))), record())
	return *s, err
}

func (t *tx) Sessions(u keyserver.UserID) ([]keyserver.Session, error) {
	var all []keyserver.Session
	err := t.ask(t.locks(lockUser(u)), read{
		sql: "SELECT record FROM sessions WHERE user_id = $1 ORDER BY id", args: []any{u[:]}, scan: each(&all),
	})
	return all, err
}

func (t *tx) PutSession(s *keyserver.Session) error {
	if err := t.ask(t.locks(lockUser(s.User))); err != nil {
		return err
	}
	record, err := encode(s)
	if err != nil {
		return err
	}
	delete(t.cache.sessions, s.ID)
	t.write(1, "INSERT INTO sessions (id, user_id, record) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
		s.ID[:], s.User[:], record)
	if s.Generation >= keyserver.MaxOldTokens {
		t.write(anyRows, "DELETE FROM tokens WHERE session = $1 AND generation <= $2", s.ID[:], int64(s.Generation-keyserver.MaxOldTokens))
	}
	t.write(anyRows, "INSERT INTO tokens (hash, session, generation) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		s.Token[:], s.ID[:], int64(s.Generation))
	return nil
}

func (t *tx) DeleteSession(id keyserver.SessionID) error {
	s, err := t.Session(id)
	if err != nil || s == nil {
		return err
	}
	delete(t.cache.sessions, id)
	t.write(1, "DELETE FROM sessions WHERE id = $1", id[:])
	t.write(anyRows, "DELETE FROM tokens WHERE session = $1", id[:])
	t.topics = append(t.topics, keyserver.SessionTopic(id))
	return nil
}
