package keyserver

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Verifying the signature of an access token is half of what a small request
// costs, so tokens that were found good are remembered for a minute. Whether
// their key still counts, and whether the session still exists, is looked up
// each time all the same.
const (
	checkedLifetime = keyReload
	maxChecked      = 50_000 // some 10 MB
)

// checkedToken is what a good token says, and when that holds.
type checkedToken struct {
	user        UserID
	session     SessionID
	key         string // its id
	from, until time.Time
}

// checkedTokens is safe for concurrent use.
type checkedTokens struct {
	mu sync.Mutex
	m  recent[Hash, checkedToken]
}

func newCheckedTokens() *checkedTokens {
	return &checkedTokens{m: newRecent[Hash, checkedToken](maxChecked)}
}

func (c *checkedTokens) find(token string, now time.Time) (id identity, key string, ok bool) {
	h := Hash(sha256.Sum256([]byte(token)))
	c.mu.Lock()
	t, ok := c.m.get(h)
	c.mu.Unlock()
	if !ok || now.Before(t.from) || !now.Before(t.until) {
		return identity{}, "", false
	}
	return identity{user: t.user, session: t.session, token: token}, t.key, true
}

// remember keeps what was verified at now and expires.
func (c *checkedTokens) remember(id identity, key string, now, expires time.Time) {
	until := now.Add(checkedLifetime)
	if expires.Before(until) {
		until = expires
	}
	h := Hash(sha256.Sum256([]byte(id.token)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m.put(h, checkedToken{id.user, id.session, key, now, until})
}
