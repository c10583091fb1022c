package pgstore

import (
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (t *tx) account(a keyapi.Account) (*keyserver.Account, error) {
	if reads := t.readAccounts([]keyapi.Account{a}); reads != nil {
		if err := t.ask(t.locks(lockAccount(a)), reads...); err != nil {
			return nil, err
		}
	}
	return t.cache.accounts[string(accountKey(a))], nil
}

func (t *tx) Account(a keyapi.Account) (*keyserver.Account, error) {
	have, err := t.account(a)
	if err != nil || have == nil {
		return nil, err
	}
	mine := *have // callers replace its fields, and write none of their octets
	return &mine, nil
}

func (t *tx) Accounts(u keyserver.UserID) ([]keyserver.Account, error) {
	var all []keyserver.Account
	err := t.ask(t.locks(lockUser(u)), read{
		sql: "SELECT record FROM accounts WHERE user_id = $1 ORDER BY account", args: []any{u[:]}, scan: each(&all),
	})
	return all, err
}

// lockOwners locks an account and the user whose it is; see checkSender.
func (t *tx) lockOwners(a keyapi.Account, users ...keyserver.UserID) error {
	have, err := t.account(a)
	if err != nil {
		return err
	}
	names := []lockName{lockAccount(a)}
	if have != nil {
		users = append(users, have.User)
	}
	for _, u := range users {
		names = append(names, lockUser(u))
	}
	return t.ask(t.locks(names...))
}

func (t *tx) PutAccount(a *keyserver.Account) error {
	if err := t.lockOwners(a.Account, a.User); err != nil {
		return err
	}
	record, err := encode(a)
	if err != nil {
		return err
	}
	t.write(1, `INSERT INTO accounts (account, user_id, record) VALUES ($1, $2, $3)
		ON CONFLICT (account) DO UPDATE SET user_id = excluded.user_id, record = excluded.record`, accountKey(a.Account), a.User[:], record)
	mine := *a
	set(&t.cache.accounts, string(accountKey(a.Account)), &mine)
	return nil
}

func (t *tx) DeleteAccount(a keyapi.Account) error {
	if err := t.lockOwners(a); err != nil {
		return err
	}
	if err := t.Acknowledge(a, ^uint64(0)); err != nil {
		return err
	}
	if err := t.send(); err != nil { // or counts that were put off would come back
		return err
	}
	t.cache.first = nil
	key := accountKey(a)
	for _, table := range []string{"keypackages", "last_resort", "keypackage_refs", "inbox_state", "accounts"} {
		t.write(anyRows, "DELETE FROM "+table+" WHERE account = $1", key)
	}
	if err := t.send(); err != nil {
		return err
	}
	set(&t.cache.accounts, string(key), nil)
	set(&t.cache.inboxes, string(key), &inboxState{})
	return nil
}

func (t *tx) Challenge(id keyserver.ChallengeID) (*keyserver.Challenge, error) {
	var c *keyserver.Challenge
	err := t.ask(t.locks(lockChallenge(id)), read{sql: "SELECT record FROM challenges WHERE id = $1", args: []any{id[:]}, scan: one(&c, 0)})
	return c, err
}

func (t *tx) PutChallenge(c *keyserver.Challenge) error {
	if err := t.ask(t.locks(lockChallenge(c.ID))); err != nil {
		return err
	}
	record, err := encode(c)
	if err != nil {
		return err
	}
	t.write(1, `INSERT INTO challenges (id, expires, record) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, record = excluded.record`, c.ID[:], seconds(c.Expires), record)
	return nil
}

func (t *tx) DeleteChallenge(id keyserver.ChallengeID) error {
	if err := t.ask(t.locks(lockChallenge(id))); err != nil {
		return err
	}
	t.write(anyRows, "DELETE FROM challenges WHERE id = $1", id[:])
	return nil
}
