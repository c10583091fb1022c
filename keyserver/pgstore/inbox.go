package pgstore

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (t *tx) inbox(a keyapi.Account) (*inboxState, error) {
	if reads := t.readInboxes([]keyapi.Account{a}); reads != nil {
		if err := t.ask(t.locks(lockAccount(a)), reads...); err != nil {
			return nil, err
		}
	}
	return t.cache.inboxes[string(accountKey(a))], nil
}

func (t *tx) sender(a keyapi.Account, u keyserver.UserID) (*counts, error) {
	if reads := t.readSenders([]keyapi.Account{a}, u); reads != nil {
		if err := t.ask(t.locks(lockAccount(a)), reads...); err != nil {
			return nil, err
		}
	}
	return t.cache.senders[senderName{string(accountKey(a)), u}], nil
}

// header is a delivery as it is stored: Seq is in the row, Message in messages.
func header(m *keyapi.Delivery) ([]byte, error) {
	h := *m
	h.Seq, h.Message = 0, nil
	return encode(&h)
}

// scanDelivery scans a delivery behind other columns.
func scanDelivery(rows pgx.Rows, before ...any) (*keyapi.Delivery, error) {
	var seq int64
	var record, data []byte
	if err := rows.Scan(append(before, &seq, &record, &data)...); err != nil {
		return nil, fromDatabase(err)
	}
	d := &keyapi.Delivery{}
	if err := json.Unmarshal(record, d); err != nil {
		return nil, fmt.Errorf("store is damaged: %w", err)
	}
	if data == nil {
		return nil, fmt.Errorf("store is damaged: a delivery without its octets")
	}
	d.Seq, d.Message = uint64(seq), data
	return d, nil
}

func (t *tx) Deliveries(a keyapi.Account, after uint64, limit, size int) ([]keyapi.Delivery, error) {
	all := []keyapi.Delivery{}
	if limit < 1 || after >= math.MaxInt64 {
		return all, nil
	}
	page := question(formPage, func(rows pgx.Rows) error {
		d, err := scanDelivery(rows, nil)
		if err == nil {
			all = append(all, *d)
		}
		return err
	}, accountKey(a), int64(after))
	page.same = []any{limit, size}
	err := t.ask(t.locks(lockAccount(a)), page)
	return all, err
}

func (t *tx) LastSeq(a keyapi.Account) (uint64, error) {
	s, err := t.inbox(a)
	if err != nil {
		return 0, err
	}
	return uint64(s.last), nil
}

func (t *tx) DeliveredCommit(a keyapi.Account, group []byte, epoch uint64) (*keyapi.Delivery, error) {
	var d *keyapi.Delivery
	err := t.ask(t.locks(lockAccount(a)), read{
		sql: `SELECT i.seq, i.record, m.data FROM inbox i LEFT JOIN messages m ON m.id = i.message
			WHERE i.account = $1 AND i.type = $2 AND i.mls_group = $3 AND i.epoch = $4 ORDER BY i.seq DESC LIMIT 1`,
		args: []any{accountKey(a), keyapi.DeliveryCommit, group, int64(epoch)},
		scan: func(rows pgx.Rows) (err error) {
			d, err = scanDelivery(rows)
			return err
		},
	})
	return d, err
}

func (t *tx) InboxUsage(a keyapi.Account, from keyserver.UserID) (keyserver.InboxUsage, error) {
	s, err := t.inbox(a)
	if err != nil {
		return keyserver.InboxUsage{}, err
	}
	f := &counts{}
	if from != (keyserver.UserID{}) { // else it is asked about all of it
		if f, err = t.sender(a, from); err != nil {
			return keyserver.InboxUsage{}, err
		}
	}
	return keyserver.InboxUsage{Messages: int(s.n), Bytes: s.octets, MessagesFrom: int(f.n), BytesFrom: f.octets}, nil
}

// fewInboxes get a row each that says all; more of them share what they have in
// common.
const fewInboxes = 4

// Deliver stores the octets under a random id: a number would be a row that all
// transactions wait for.
func (t *tx) Deliver(m *keyapi.Delivery, from keyserver.UserID, to []keyapi.Account) error {
	if len(to) == 0 {
		return nil
	}
	names := make([]lockName, len(to))
	for i, a := range to {
		names[i] = lockAccount(a)
	}
	if err := t.ask(t.locks(names...), append(t.readInboxes(to), t.readSenders(to, from)...)...); err != nil {
		return err
	}
	record, err := header(m)
	if err != nil {
		return err
	}
	keys, seqs := make([][]byte, len(to)), make([]int64, len(to))
	size := int64(len(m.Message))
	for i, a := range to {
		keys[i] = accountKey(a)
		s := t.cache.inboxes[string(keys[i])]
		s.last++
		s.add(1, size)
		t.cache.senders[senderName{string(keys[i]), from}].add(1, size)
		seqs[i] = s.last
		t.topics = append(t.topics, keyserver.AccountTopic(a))
	}
	id := make([]byte, 16)
	rand.Read(id)
	t.row(formPutMessage, id, int64(len(to)), octets(m.Message))
	if len(to) > fewInboxes {
		t.write(anyRows, `INSERT INTO inbox (account, seq, sender_user, message, size, type, mls_group, epoch, record)
			SELECT a, s, $3, $4, $5, $6, $7, $8, $9 FROM unnest($1::bytea[], $2::bigint[]) AS t(a, s)`,
			keys, seqs, from[:], id, size, m.Type, octets(m.Group), int64(m.Epoch), record)
		return nil
	}
	n := len(to)
	t.rows(formDeliver, keys, seqs, slices.Repeat([][]byte{from[:]}, n), slices.Repeat([][]byte{id}, n), slices.Repeat([]int64{size}, n),
		slices.Repeat([]string{m.Type}, n), slices.Repeat([][]byte{octets(bytes.Clone(m.Group))}, n), slices.Repeat([]int64{int64(m.Epoch)}, n),
		slices.Repeat([][]byte{record}, n))
	return nil
}

func (t *tx) Acknowledge(a keyapi.Account, seq uint64) error {
	s, err := t.inbox(a)
	if err != nil {
		return err
	}
	key := accountKey(a)
	until := int64(min(seq, math.MaxInt64))
	done := map[keyserver.UserID]*counts{}
	n := int64(0)
	var dropped [][]byte
	err = t.send(question(formWaiting, func(rows pgx.Rows) error {
		var from, message []byte
		var size int64
		if err := rows.Scan(nil, &from, &message, &size); err != nil {
			return fromDatabase(err)
		}
		if len(from) != len(keyserver.UserID{}) {
			return errUserID(from)
		}
		u := keyserver.UserID(from)
		if done[u] == nil {
			done[u] = &counts{}
		}
		done[u].add(1, size)
		n++
		dropped = append(dropped, bytes.Clone(message))
		return nil
	}, key, until))
	if err != nil || n == 0 {
		return err
	}
	if err := t.ask(nil, t.readSenders([]keyapi.Account{a}, slices.Collect(maps.Keys(done))...)...); err != nil {
		return err
	}
	for u, c := range done {
		t.cache.senders[senderName{string(key), u}].add(-c.n, -c.octets)
		s.add(-c.n, -c.octets)
	}
	t.cache.dropped = append(t.cache.dropped, dropped...)
	t.row(formAcknowledge, key, until, n)
	return nil
}
