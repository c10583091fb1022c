package pgstore

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// news carries between processes that somebody's long-poll should look again.
// It is a hint: it goes out after the commit, many topics at once, in a
// transaction of its own that is not synced. As part of the transactions that
// deliver, it would make them commit one after another, for PostgreSQL orders
// notifications by a lock that it holds while a commit is synced. What is lost
// with a process is found by the slow poll below.
type news struct {
	store  *Store
	config *pgx.ConnConfig
	ctx    context.Context
	stop   func()

	mu          sync.Mutex
	subscribers map[*keyserver.Subscriber]keyserver.Subscriber
	outgoing    map[keyserver.Topic]struct{}
	pending     chan struct{} // has a value when outgoing has
}

const (
	// slowPoll finds what no notification told of.
	slowPoll = 20 * time.Second
	// reconnectPause is between two attempts to listen.
	reconnectPause = time.Second
	// sendPause lies between two notifications. Each wakes every process, the one
	// that sends it too.
	sendPause = 10 * time.Millisecond
	// perPayload topics of 22 characters fit into the 8000 of a payload.
	perPayload = 300
	// perPoll accounts are asked about at once.
	perPoll = 1000
)

func startNews(s *Store, config *pgx.ConnConfig) *news {
	ctx, cancel := context.WithCancel(context.Background())
	n := &news{
		store: s, config: config, ctx: ctx, subscribers: map[*keyserver.Subscriber]keyserver.Subscriber{},
		outgoing: map[keyserver.Topic]struct{}{}, pending: make(chan struct{}, 1),
	}
	delete(config.RuntimeParams, "idle_in_transaction_session_timeout")
	var wg sync.WaitGroup
	if s.options.Poll > 0 {
		wg.Go(func() { n.poll(s.options.Poll) })
	} else {
		wg.Go(n.listen)
		wg.Go(n.send)
		wg.Go(func() { n.poll(slowPoll) })
	}
	n.stop = func() { cancel(); wg.Wait() }
	return n
}

// Subscribe has a server's long-polls told.
func (s *Store) Subscribe(subscriber keyserver.Subscriber) (stop func()) {
	n, key := s.news, &subscriber
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subscribers[key] = subscriber
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subscribers, key)
	}
}

func (n *news) each(f func(keyserver.Subscriber)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.subscribers {
		f(s)
	}
}

// publish tells of a transaction that was committed.
func (n *news) publish(topics []keyserver.Topic) {
	if len(topics) == 0 {
		return
	}
	n.each(func(s keyserver.Subscriber) { s.Wake(topics) }) // this process, at once
	if n.store.options.Poll > 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range topics {
		n.outgoing[t] = struct{}{}
	}
	select {
	case n.pending <- struct{}{}:
	default:
	}
}

// send sends what has come together while the last notification was on its way,
// and somewhat longer where there is much.
func (n *news) send() {
	var last time.Time
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.pending:
		}
		if early := sendPause - time.Since(last); early > 0 && !n.pause(early) {
			return
		}
		last = time.Now()
		n.mu.Lock()
		topics := n.outgoing
		n.outgoing = map[keyserver.Topic]struct{}{}
		n.mu.Unlock()
		if err := n.notify(topics); err != nil && n.ctx.Err() == nil {
			n.store.log.Warn("other processes were not notified; they look by themselves", "error", err)
		}
	}
}

func (n *news) notify(topics map[keyserver.Topic]struct{}) error {
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	b.Queue("SET LOCAL synchronous_commit = off")
	var words []string
	flush := func() {
		if len(words) > 0 {
			b.Queue("SELECT pg_notify($1, $2)", n.channel(), strings.Join(words, " "))
			words = nil
		}
	}
	for t := range topics {
		if words = append(words, base64.RawURLEncoding.EncodeToString(t[:])); len(words) == perPayload {
			flush()
		}
	}
	flush()
	b.Queue("COMMIT")
	ctx, cancel := context.WithTimeout(n.ctx, n.store.options.StatementTimeout)
	defer cancel()
	return n.store.pool.SendBatch(ctx, b).Close()
}

// channel is one per schema: several servers may share a database.
func (n *news) channel() string { return n.store.options.Schema + "_news" }

// listen keeps a connection of its own and connects again when it is lost.
func (n *news) listen() {
	for n.ctx.Err() == nil {
		err := n.listenOnce()
		if n.ctx.Err() != nil {
			return
		}
		n.store.log.Warn("connection for notifications was lost", "error", err)
		n.pause(reconnectPause)
	}
}

func (n *news) listenOnce() (err error) {
	conn, err := pgx.ConnectConfig(n.ctx, n.config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		err = errors.Join(err, conn.Close(ctx))
	}()
	if _, err := conn.Exec(n.ctx, "LISTEN "+pgx.Identifier{n.channel()}.Sanitize()); err != nil {
		return err
	}
	n.each(keyserver.Subscriber.WakeAll) // what was missed before
	for {
		got, err := conn.WaitForNotification(n.ctx)
		if err != nil {
			return err
		}
		topics := parseTopics(got.Payload)
		n.each(func(s keyserver.Subscriber) { s.Wake(topics) })
	}
}

// parseTopics leaves out what is no topic: a hint of another version.
func parseTopics(payload string) []keyserver.Topic {
	var topics []keyserver.Topic
	for _, word := range strings.Fields(payload) {
		if b, err := base64.RawURLEncoding.DecodeString(word); err == nil && len(b) == len(keyserver.Topic{}) {
			topics = append(topics, keyserver.Topic(b))
		}
	}
	return topics
}

// pause waits; false when the store is closed.
func (n *news) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// poll compares the inboxes that somebody waits for with what they were when it
// looked last. An inbox that it has not seen counts as changed.
func (n *news) poll(every time.Duration) {
	seen := map[string]int64{}
	for n.pause(every) {
		now := map[string]int64{}
		n.mu.Lock()
		all := make([]keyserver.Subscriber, 0, len(n.subscribers))
		for _, s := range n.subscribers {
			all = append(all, s)
		}
		n.mu.Unlock()
		for _, s := range all {
			waiting := s.WaitingFor()
			for len(waiting) > 0 {
				part := waiting[:min(len(waiting), perPoll)]
				waiting = waiting[len(part):]
				last, err := n.lastSeqs(part)
				if err != nil {
					if n.ctx.Err() == nil {
						n.store.log.Warn("inboxes could not be polled", "error", err)
					}
					continue
				}
				var topics []keyserver.Topic
				for _, a := range part {
					key := string(accountKey(a))
					now[key] = last[key]
					if before, known := seen[key]; !known || before != last[key] {
						topics = append(topics, keyserver.AccountTopic(a))
					}
				}
				s.Wake(topics)
			}
		}
		seen = now
	}
}

func (n *news) lastSeqs(accounts []keyapi.Account) (map[string]int64, error) {
	keys := make([][]byte, len(accounts))
	for i, a := range accounts {
		keys[i] = accountKey(a)
	}
	rows, err := n.store.pool.Query(n.ctx, "SELECT account, last_seq FROM inbox_state WHERE account = ANY($1)", keys)
	if err != nil {
		return nil, err
	}
	last := make(map[string]int64, len(keys))
	var key []byte
	var seq int64
	_, err = pgx.ForEachRow(rows, []any{&key, &seq}, func() error {
		last[string(key)] = seq
		return nil
	})
	return last, err
}
