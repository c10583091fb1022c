package pgstore

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// expiring are the tables whose rows end, with their keys.
var expiring = []struct{ table, key, more string }{
	{"challenges", "id", ""},
	{"results", "user_id, body", ""},
	{"keypackage_refs", "account, ref", ""},
	{"notes", "kind, owner, key", " AND expires > 0"},
}

// lookAgain is how long Expire does nothing after it has found nothing due.
const lookAgain = 10 // seconds

// expireSQL deletes what is due of one table. Where transactions that meet are
// given up and not made to wait, nothing is skipped: YugabyteDB cannot there.
func expireSQL(table, key, more string, serializable bool) string {
	skip := " SKIP LOCKED"
	if serializable {
		skip = ""
	}
	return "WITH due AS MATERIALIZED (SELECT " + key + " FROM " + table + " WHERE expires < $1" + more + " ORDER BY expires LIMIT $2 FOR UPDATE" + skip +
		") DELETE FROM " + table + " WHERE (" + key + ") IN (SELECT " + key + " FROM due) RETURNING 1"
}

// Expire skips rows that others have locked: somebody renews them, or removes
// them already. It needs no locks of its own: a row that has ended counts for
// nobody, and the database looks at a row's end again after waiting for it.
// Where it found less than it may remove, nothing is left that is due.
func (t *tx) Expire(now time.Time, n int) error {
	quiet := &t.store.quietUntil
	at := seconds(now)
	if until := quiet.Load(); until-lookAgain <= at && at < until || n < 1 {
		return nil
	}
	if !t.store.expiring.CompareAndSwap(false, true) {
		return nil // somebody is at it
	}
	if t.store.options.Serializable {
		t.expiring = true // until its end, or all at work would want the same rows, and give up
	} else {
		defer t.store.expiring.Store(false)
	}
	most := 0
	var reads []read
	for _, e := range expiring {
		found := 0
		reads = append(reads, read{
			sql: expireSQL(e.table, e.key, e.more, t.store.options.Serializable), args: []any{at, n}, scan: func(pgx.Rows) error {
				found++
				most = max(most, found)
				return nil
			},
		})
	}
	t.sent = true
	if err := t.send(reads...); err != nil {
		return err
	}
	if most < n {
		quiet.Store(at + lookAgain)
	}
	return nil
}
