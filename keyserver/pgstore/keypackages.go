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
	t.write(anyRows, "DELETE FROM keypackages WHERE account = $1 AND not_after < $2", accountKey(a), notBefore(now))
	return nil
}

func scanKeyPackage(into **keyserver.KeyPackage, n *int64) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var end int64
		kp := &keyserver.KeyPackage{}
		err := rows.Scan(n, &kp.Ref, &end, &kp.Data)
		kp.NotAfter = time.Unix(end, 0)
		*into = kp
		return fromDatabase(err)
	}
}

// TakeKeyPackage must delete the very row that it gives out: the write fails
// where it does not.
func (t *tx) TakeKeyPackage(a keyapi.Account, now time.Time) (*keyserver.KeyPackage, bool, error) {
	key, first := accountKey(a), notBefore(now)
	var taken, last *keyserver.KeyPackage
	var n, none int64
	err := t.ask(t.locks(lockAccount(a)),
		read{sql: "SELECT n, ref, not_after, data FROM keypackages WHERE account = $1 AND not_after >= $2 ORDER BY n LIMIT 1",
			args: []any{key, first}, scan: scanKeyPackage(&taken, &n)},
		read{sql: "SELECT 0::bigint, ref, not_after, data FROM last_resort WHERE account = $1 AND not_after >= $2",
			args: []any{key, first}, scan: scanKeyPackage(&last, &none)})
	if err != nil {
		return nil, false, err
	}
	if taken == nil {
		t.write(anyRows, "DELETE FROM keypackages WHERE account = $1 AND not_after < $2", key, first)
		return last, last != nil, nil
	}
	t.write(1, "DELETE FROM keypackages WHERE account = $1 AND n = $2", key, n)
	t.write(anyRows, "DELETE FROM keypackages WHERE account = $1 AND n < $2", key, n) // these have ended
	return taken, false, nil
}
