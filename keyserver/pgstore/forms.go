package pgstore

// The statements of what is done most, each for any number of rows. Every
// condition has an index (plans.go).

// Questions.
var (
	formSession   = &form{sql: `SELECT k.n, s.record FROM unnest($1::bytea[]) WITH ORDINALITY AS k(id, n) JOIN sessions s ON s.id = k.id`}
	formSessionOf = &form{sql: `SELECT k.n, s.record FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k(id, user_id, n)
		JOIN sessions s ON s.id = k.id AND s.user_id = k.user_id`}
	formUsage = &form{sql: `SELECT k.n, u.objects, u.octets FROM unnest($1::bytea[]) WITH ORDINALITY AS k(user_id, n)
		JOIN usage u ON u.user_id = k.user_id`}
	formVersion = &form{sql: `SELECT k.n, o.id, o.counter, o.size, o.hash FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k(user_id, id, n)
		JOIN objects o ON o.user_id = k.user_id AND o.id = k.id`}
	formObjectNote = &form{sql: `SELECT k.n, t.kind, t.expires, t.value FROM unnest($1::smallint[], $2::bytea[]) WITH ORDINALITY AS k(kind, owner, n)
		JOIN notes t ON t.kind = k.kind AND t.owner = k.owner AND t.key = ''`}
	formResult = &form{sql: `SELECT k.n, r.expires, r.record FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k(user_id, body, n)
		JOIN results r ON r.user_id = k.user_id AND r.body = k.body`}
	formConversation = &form{sql: `SELECT k.n, c.record FROM unnest($1::smallint[], $2::bytea[]) WITH ORDINALITY AS k(kind, id, n)
		JOIN conversations c ON c.kind = k.kind AND c.id = k.id`}
	formGroup = &form{sql: `SELECT k.n FROM unnest($1::bytea[]) WITH ORDINALITY AS k(id, n) JOIN mls_groups g ON g.id = k.id`}

	formAccount = &form{sql: `SELECT k.n, a.record FROM unnest($1::bytea[]) WITH ORDINALITY AS k(account, n) JOIN accounts a ON a.account = k.account`}
	formInbox   = &form{sql: `SELECT k.n, s.account, s.last_seq, s.messages, s.octets FROM unnest($1::bytea[]) WITH ORDINALITY AS k(account, n)
		JOIN inbox_state s ON s.account = k.account`}
	formSender = &form{sql: `SELECT k.n, u.account, u.user_id, u.messages, u.octets FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS k(account, user_id, n)
		JOIN inbox_usage u ON u.account = k.account AND u.user_id = k.user_id`}

	// formPage reads the sizes first: no more octets are fetched than are asked for,
	// the first message aside.
	formPage = &form{sql: `SELECT k.n, p.seq, p.record, m.data FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS k(account, seq, n)
		CROSS JOIN LATERAL (SELECT i.seq, i.record, i.message, row_number() OVER (ORDER BY i.seq) AS nth, sum(i.size) OVER (ORDER BY i.seq) AS total
			FROM (SELECT seq, record, message, size FROM inbox WHERE account = k.account AND seq > k.seq ORDER BY seq LIMIT $3) i) p
		LEFT JOIN messages m ON m.id = p.message WHERE p.nth = 1 OR p.total <= $4 ORDER BY k.n, p.seq`}
	formWaiting = &form{sql: `SELECT k.n, i.sender_user, i.message, i.size FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS k(account, seq, n)
		JOIN inbox i ON i.account = k.account AND i.seq <= k.seq`}

	formFirstKeyPackage = &form{sql: `SELECT k.n, p.n, p.ref, p.not_after, p.data FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS k(account, first, n)
		CROSS JOIN LATERAL (SELECT n, ref, not_after, data FROM keypackages WHERE account = k.account AND not_after >= k.first ORDER BY n LIMIT 1) p`}
	formLastResort = &form{sql: `SELECT k.n, 0::bigint, p.ref, p.not_after, p.data FROM unnest($1::bytea[], $2::bigint[]) WITH ORDINALITY AS k(account, first, n)
		JOIN last_resort p ON p.account = k.account AND p.not_after >= k.first`}
)

// Writes, in the order in which they go out together.
var (
	formInsertObject = &form{rank: 1, sql: `INSERT INTO objects (user_id, id, counter, size, hash, data)
		SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[])`}
	// A compare-and-swap of the counter, as is the next.
	formUpdateObject = &form{rank: 2, sql: `WITH done AS (UPDATE objects o SET counter = k.counter, size = k.size, hash = k.hash, data = k.data
			FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bigint[]) AS k(user_id, id, counter, size, hash, data, was)
			WHERE o.user_id = k.user_id AND o.id = k.id AND o.counter = k.was RETURNING 1)
		SELECT 1 / CASE WHEN count(*) = array_length($1::bytea[], 1) THEN 1 ELSE 0 END FROM done`}
	formDeleteObject = &form{rank: 3, sql: `WITH done AS (DELETE FROM objects o USING unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS k(user_id, id, was)
			WHERE o.user_id = k.user_id AND o.id = k.id AND o.counter = k.was RETURNING 1)
		SELECT 1 / CASE WHEN count(*) = array_length($1::bytea[], 1) THEN 1 ELSE 0 END FROM done`}

	// formTakeKeyPackage deletes those before the one that is given out too: they
	// have ended.
	formTakeKeyPackage = &form{rank: 4, sql: `WITH done AS (DELETE FROM keypackages p USING unnest($1::bytea[], $2::bigint[]) AS k(account, n)
			WHERE p.account = k.account AND p.n <= k.n RETURNING p.n = k.n AS it)
		SELECT 1 / CASE WHEN count(*) = array_length($1::bytea[], 1) THEN 1 ELSE 0 END FROM done WHERE it`}

	formPutConversation = &form{rank: 5, sql: `INSERT INTO conversations (kind, id, record) SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[])
		ON CONFLICT (kind, id) DO UPDATE SET record = excluded.record`}
	formPutGroup = &form{rank: 6, sql: `INSERT INTO mls_groups (id, kind, conversation) SELECT * FROM unnest($1::bytea[], $2::smallint[], $3::bytea[])`}

	formPutMessage = &form{rank: 7, sql: `INSERT INTO messages (id, uses, data) SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[])`}
	formDeliver    = &form{rank: 8, sql: `INSERT INTO inbox (account, seq, sender_user, message, size, type, mls_group, epoch, record)
		SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::text[], $7::bytea[], $8::bigint[], $9::bytea[])`}
	formAcknowledge = &form{rank: 9, sql: `WITH done AS (DELETE FROM inbox i USING unnest($1::bytea[], $2::bigint[]) AS k(account, seq)
			WHERE i.account = k.account AND i.seq <= k.seq RETURNING 1)
		SELECT 1 / CASE WHEN count(*) = (SELECT sum(n) FROM unnest($3::bigint[]) AS w(n)) THEN 1 ELSE 0 END FROM done`}

	formPutResult = &form{rank: 10, sql: `INSERT INTO results (user_id, body, expires, record) SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[])
		ON CONFLICT (user_id, body) DO UPDATE SET expires = excluded.expires, record = excluded.record`}
	formPutUsage = &form{rank: 11, sql: `INSERT INTO usage (user_id, objects, octets) SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[])
		ON CONFLICT (user_id) DO UPDATE SET objects = excluded.objects, octets = excluded.octets`}
	formPutInbox = &form{rank: 12, sql: `INSERT INTO inbox_state (account, last_seq, messages, octets)
		SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
		ON CONFLICT (account) DO UPDATE SET last_seq = excluded.last_seq, messages = excluded.messages, octets = excluded.octets`}
	formPutSender = &form{rank: 13, sql: `INSERT INTO inbox_usage (account, user_id, messages, octets)
		SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bigint[])
		ON CONFLICT (account, user_id) DO UPDATE SET messages = excluded.messages, octets = excluded.octets`}

	// A message that is dropped several times is named as often. Rows of messages
	// are locked in their order: they belong to several inboxes, whose locks say
	// nothing of them.
	formDropMessages = &form{rank: 14, sql: `WITH k AS (SELECT id, count(*) AS n FROM unnest($1::bytea[]) AS u(id) GROUP BY id),
			mine AS MATERIALIZED (SELECT id FROM messages WHERE id = ANY($1::bytea[]) ORDER BY id FOR UPDATE),
			done AS (UPDATE messages m SET uses = m.uses - k.n FROM mine, k WHERE m.id = mine.id AND k.id = mine.id RETURNING 1)
		SELECT 1 / CASE WHEN count(*) = (SELECT count(*) FROM k) THEN 1 ELSE 0 END FROM done`}
	formDropUnused = &form{rank: 15, sql: `DELETE FROM messages WHERE id = ANY($1::bytea[]) AND uses = 0`}
)
