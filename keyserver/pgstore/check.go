package pgstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// inspection finds what cannot be: the query gives ids of damaged things or, with
// look, all things, of which look gives the ids of damaged ones.
type inspection struct {
	what, sql string
	look      func(pgx.Rows) (id []byte, err error) // nil id: it is sound
}

var inspections = []inspection{
	{"objects: octets altered or of another length", "SELECT user_id, id, size, hash, data FROM objects", lookAtObject},
	{"objects: ids of the wrong length", "SELECT user_id || id FROM objects WHERE octet_length(user_id) <> 16 OR octet_length(id) <> 32", nil},
	{"usage: does not fit the objects", `SELECT coalesce(o.user_id, u.user_id) FROM usage u FULL JOIN
		(SELECT user_id, count(*) AS n, sum(size) AS octets FROM objects GROUP BY user_id) o ON o.user_id = u.user_id
		WHERE coalesce(o.n, 0) <> coalesce(u.objects, 0) OR coalesce(o.octets, 0) <> coalesce(u.octets, 0)`, nil},
	{"tokens: of a session that is not there", "SELECT t.hash FROM tokens t LEFT JOIN sessions s ON s.id = t.session WHERE s.id IS NULL", nil},
	{"sessions: without a refresh token", "SELECT s.id FROM sessions s WHERE NOT EXISTS (SELECT 1 FROM tokens t WHERE t.session = s.id)", nil},
	{"groups: the conversation is not there", `SELECT g.id FROM mls_groups g LEFT JOIN conversations c ON c.kind = g.kind AND c.id = g.conversation
		WHERE c.id IS NULL`, nil},
	{"inbox: octets missing or of another length", `SELECT i.account FROM inbox i LEFT JOIN messages m ON m.id = i.message
		WHERE m.id IS NULL OR octet_length(m.data) <> i.size`, nil},
	{"inbox: numbers have a gap", `SELECT i.account FROM inbox i LEFT JOIN inbox_state s ON s.account = i.account
		GROUP BY i.account, s.last_seq HAVING s.last_seq IS NULL OR max(i.seq) <> s.last_seq OR max(i.seq) - min(i.seq) + 1 <> count(*)`, nil},
	{"inbox: counts do not fit", `SELECT s.account FROM inbox_state s LEFT JOIN
		(SELECT account, count(*) AS n, sum(size) AS octets FROM inbox GROUP BY account) i ON i.account = s.account
		WHERE coalesce(i.n, 0) <> s.messages OR coalesce(i.octets, 0) <> s.octets`, nil},
	{"inbox: counts by sender do not fit", `SELECT coalesce(i.account, u.account) FROM inbox_usage u FULL JOIN
		(SELECT account, sender_user, count(*) AS n, sum(size) AS octets FROM inbox GROUP BY account, sender_user) i
		ON i.account = u.account AND i.sender_user = u.user_id
		WHERE coalesce(i.n, 0) <> coalesce(u.messages, 0) OR coalesce(i.octets, 0) <> coalesce(u.octets, 0)`, nil},
	{"messages: uses do not fit", `SELECT m.id FROM messages m LEFT JOIN (SELECT message, count(*) AS n FROM inbox GROUP BY message) i ON i.message = m.id
		WHERE coalesce(i.n, 0) <> m.uses`, nil},
	{"locks: rows are missing", "SELECT ''::bytea FROM (SELECT count(*) AS n FROM locks) l WHERE n <> 65536", nil},
}

// maxFindings bounds what Check lists of one sort.
const maxFindings = 20

// Check reads everything, on one snapshot and while servers go on, and names
// what is wrong. No findings: the data are sound. That the database's own pages
// are is for pg_amcheck and checksums to say. It may take longer than
// Options.StatementTimeout.
func (s *Store) Check(ctx context.Context) (findings []string, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, outcome(ctx, fromDatabase(err))
	}
	defer conn.Release()
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, anyWay); err != nil {
			return err
		}
		for _, i := range inspections {
			found, err := i.run(ctx, tx)
			if err != nil {
				return err
			}
			findings = append(findings, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check key server store: %w", outcome(ctx, fromDatabase(err)))
	}
	return findings, nil
}

// run has one row in memory at a time.
func (i *inspection) run(ctx context.Context, tx pgx.Tx) (findings []string, err error) {
	sql := i.sql
	if i.look == nil {
		sql = fmt.Sprintf("%s LIMIT %d", sql, maxFindings+1)
	}
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() && len(findings) <= maxFindings {
		var id []byte
		if i.look != nil {
			id, err = i.look(rows)
		} else if err = rows.Scan(&id); id == nil {
			id = []byte{}
		}
		switch {
		case err != nil:
			return nil, err
		case id == nil:
		case len(findings) == maxFindings:
			findings = append(findings, i.what+": there are more")
		default:
			findings = append(findings, fmt.Sprintf("%s: %x", i.what, id))
		}
	}
	rows.Close()
	return findings, rows.Err()
}

// lookAtObject compares an object with its hash here: what sha256 of a database
// gives differs, in CockroachDB it is a text.
func lookAtObject(rows pgx.Rows) (id []byte, err error) {
	var user, object, hash []byte
	var size int64
	if err := rows.Scan(&user, &object, &size, &hash, nil); err != nil {
		return nil, err
	}
	data, err := octetsOf(rows, 4)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); int64(len(data)) == size && bytes.Equal(sum[:], hash) {
		return nil, nil
	}
	return append(user, object...), nil
}
