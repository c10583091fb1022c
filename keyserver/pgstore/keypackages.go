package pgstore

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (t *tx) KeyPackageCount(a keyapi.Account, now time.Time) (keyapi.KeyPackageCount, error) {
	var n keyapi.KeyPackageCount
	key, first := accountKey(a), notBefore(now)
	err := t.ask(t.locks(lockAccount(a)),
		read{sql: "SELECT count(*) FROM keypackages WHERE account = $1 AND not_after >= $2", args: []any{key, first},
			scan: func(rows pgx.Rows) error { return fromDatabase(rows.Scan(&n.Available)) }},
		read{sql: "SELECT count(*) > 0 FROM last_resort WHERE account = $1 AND not_after >= $2", args: []any{key, first},
			scan: func(rows pgx.Rows) error { return fromDatabase(rows.Scan(&n.LastResort)) }})
	return n, err
}

func (t *tx) KeyPackageKnown(a keyapi.Account, ref []byte) (known bool, err error) {
	err = t.ask(t.locks(lockAccount(a)), read{
		sql: "SELECT true FROM keypackage_refs WHERE account = $1 AND ref = $2", args: []any{accountKey(a), ref},
		scan: func(rows pgx.Rows) error { return fromDatabase(rows.Scan(&known)) },
	})
	return known, err
}

// AddKeyPackage numbers under the account's lock: nobody else adds meanwhile.
func (t *tx) AddKeyPackage(a keyapi.Account, kp *keyserver.KeyPackage) error {
	if err := t.ask(t.locks(lockAccount(a))); err != nil {
		return err
	}
	t.cache.first = nil
	key, end := accountKey(a), seconds(kp.NotAfter)
	t.write(1, `INSERT INTO keypackage_refs (account, ref, expires) VALUES ($1, $2, $3)
		ON CONFLICT (account, ref) DO UPDATE SET expires = excluded.expires`, key, kp.Ref, end)
	t.write(1, `INSERT INTO keypackages (account, n, ref, not_after, data)
		SELECT $1, coalesce(max(n), 0) + 1, $2, $3, $4 FROM keypackages WHERE account = $1`, key, kp.Ref, end, kp.Data)
	return nil
}

func (t *tx) PutLastResort(a keyapi.Account, kp *keyserver.KeyPackage) error {
	if err := t.ask(t.locks(lockAccount(a))); err != nil {
		return err
	}
	t.write(1, `INSERT INTO last_resort (account, ref, not_after, data) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account) DO UPDATE SET ref = excluded.ref, not_after = excluded.not_after, data = excluded.data`,
		accountKey(a), kp.Ref, seconds(kp.NotAfter), kp.Data)
	return nil
}

func (t *tx) DropEndedKeyPackages(a keyapi.Account, now time.Time) error {
	if err := t.ask(t.locks(lockAccount(a))); err != nil {
		return err
	}
	t.cache.first = nil
	t.write(anyRows, "DELETE FROM keypackages WHERE account = $1 AND not_after < $2", accountKey(a), notBefore(now))
	return nil
}

func scanKeyPackage(into **keyserver.KeyPackage, n *int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var end int64
		kp := &keyserver.KeyPackage{}
		err := rows.Scan(nil, n, &kp.Ref, &end, &kp.Data)
		kp.NotAfter = time.Unix(end, 0)
		*into = kp
		return fromDatabase(err)
	}
}

// firstOf is the KeyPackage that is next in a pool at a time; nil: there is none.
type firstOf struct {
	pool string // accountKey
	at   int64
	n    int64
	kp   *keyserver.KeyPackage
}

// readPool reads what TakeKeyPackage is going to ask for.
func (t *tx) readPool(a keyapi.Account, now time.Time) []read {
	f := &firstOf{pool: string(accountKey(a)), at: notBefore(now)}
	t.cache.first = f
	return []read{question(formFirstKeyPackage, scanKeyPackage(&f.kp, &f.n), []byte(f.pool), f.at)}
}

// TakeKeyPackage must delete the very row that it gives out: the write fails
// where it does not.
func (t *tx) TakeKeyPackage(a keyapi.Account, now time.Time) (*keyserver.KeyPackage, bool, error) {
	key, at := accountKey(a), notBefore(now)
	if f := t.cache.first; f == nil || f.pool != string(key) || f.at != at {
		if err := t.ask(t.locks(lockAccount(a)), t.readPool(a, now)...); err != nil {
			return nil, false, err
		}
	}
	first := t.cache.first
	t.cache.first = nil
	if first.kp != nil {
		t.row(formTakeKeyPackage, key, first.n)
		return first.kp, false, nil
	}
	var last *keyserver.KeyPackage
	var none int64
	if err := t.send(question(formLastResort, scanKeyPackage(&last, &none), key, at)); err != nil {
		return nil, false, err
	}
	t.write(anyRows, "DELETE FROM keypackages WHERE account = $1 AND not_after < $2", key, at)
	return last, last != nil, nil
}
