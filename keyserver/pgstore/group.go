package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudmls/gateway/keyserver"
)

// group is a transaction of the database that several transactions share. Each
// of these has locked all that it reads or writes, and no two have a lock in
// common, so they can be carried out in any order, or all at once: the locks are
// held until the end of all, and it is one commit that makes all of them last.
// The members work each on the goroutine of its caller; when all of them are at
// rest their questions go out together.
//
// One that gives up is left out, for it has written nothing. Where that is not
// so, or the database refuses something, all of them start over, if need be each
// alone.
type group struct {
	store   *Store
	crowd   *crowd
	conn    *pgxpool.Conn
	members []*tx
	begun   bool
	working atomic.Int32 // members that are not at rest
	ready   chan struct{}
}

// errCompany: what went wrong may be the fault of another member of the group.
var errCompany = errors.New("transaction has to be carried out alone")

// endTimeout bounds the end of a transaction that was not committed.
const endTimeout = 5 * time.Second

// rest tells that a member waits, or has gone.
func (g *group) rest() {
	if g.working.Add(-1) == 0 {
		g.ready <- struct{}{}
	}
}

// keepConn transactions that only read use a connection before the pool may look
// how old it is.
const keepConn = 100

// lead carries out groups until nobody waits. A transaction that only reads is
// ended together with the beginning of the next one.
func (c *crowd) lead() {
	var conn *pgxpool.Conn
	open := false // conn is in a transaction that has served
	for n := 0; ; n++ {
		members := c.take()
		if conn != nil && (members == nil || !open || n%keepConn == 0 || conn.Conn().IsClosed()) {
			if open {
				c.rollBack(conn)
			}
			conn.Release() // which closes a connection that is not idle
			conn, open = nil, false
		}
		if members == nil {
			return
		}
		g := &group{store: c.store, crowd: c, members: members, ready: make(chan struct{}, 1)}
		for _, t := range members {
			t.group = g
		}
		if conn == nil {
			var err error
			if conn, err = c.acquire(); err != nil {
				g.fail(errors.Join(keyserver.ErrUnavailable, err), false)
				c.release(members)
				continue
			}
		}
		g.conn = conn
		open = g.carryOut(open)
		c.release(members)
	}
}

// acquire takes a connection, for which those who wait have the patience of a
// statement.
func (c *crowd) acquire() (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.store.options.StatementTimeout)
	defer cancel()
	return c.store.pool.Acquire(ctx)
}

// rollBack ends what was not committed. Where that fails the connection is not
// idle, and Release closes it.
func (c *crowd) rollBack(conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		c.store.log.Debug("transaction could not be rolled back", "error", err)
	}
}

// carryOut answers the members until they want to commit, and commits. after: a
// transaction that has served must be ended before. open: so must this one.
func (g *group) carryOut(after bool) (open bool) {
	for {
		var now []*tx
		commit := false
		for _, t := range g.members {
			switch {
			case t.state == asking:
				now = append(now, t)
			case t.state == gone && t.sent: // its writes cannot be taken back by themselves
				g.fail(errCompany, true)
				g.end()
				return false
			case t.state == final:
				commit = true
			}
		}
		if len(now) == 0 {
			if !commit && !g.crowd.writing {
				return g.begun
			}
			g.commit(commit)
			return false
		}
		if err := g.round(now, after); err != nil {
			g.fail(err, true)
			g.end()
			return false
		}
		after = false
		g.wake(now)
		<-g.ready
	}
}

func (g *group) end() {
	if g.begun {
		g.crowd.rollBack(g.conn)
		g.begun = false
	}
}

func (g *group) wake(members []*tx) {
	g.working.Store(int32(len(members)))
	for _, t := range members {
		t.answered <- struct{}{}
	}
}

// fail ends the group for those who are in it still. again: nothing was done, and
// it may be tried again.
func (g *group) fail(err error, again bool) {
	for _, t := range g.members {
		if t.state == asking || t.state == final {
			t.over, t.err, t.again, t.company = true, err, again, len(g.members) > 1
			t.answered <- struct{}{}
		}
	}
}

// round locks, writes and asks what the members want.
func (g *group) round(members []*tx, after bool) error {
	var steps []step
	if after {
		steps = append(steps, step{"COMMIT", nil, executed})
	}
	first := !g.begun
	steps = append(steps, g.beginning()...)
	company := len(g.members) > 1
	var got map[int32]bool // rows that could be had without waiting
	refused := map[*tx]bool{}
	var rows []int32
	for _, t := range members {
		if first || len(t.locking) == 0 {
			rows = append(rows, t.locking...)
			continue
		}
		if !g.crowd.claim(t, company) {
			refused[t] = true
			continue
		}
		rows = append(rows, t.locking...)
	}
	if company && !first {
		got = map[int32]bool{}
		steps = append(steps, lockSteps(rows, true, got)...)
	} else {
		steps = append(steps, lockSteps(rows, false, nil)...)
	}
	now := members
	if len(refused) > 0 {
		now = slices.DeleteFunc(slices.Clone(members), func(t *tx) bool { return refused[t] })
	}
	lists := make([][]write, len(now))
	for i, t := range now {
		lists[i], t.sent = t.writes, t.sent || len(t.writes) > 0
	}
	writes, _ := writeSteps(lists)
	steps = append(append(steps, writes...), readSteps(now)...)
	if err := g.exchange(steps); err != nil {
		return err
	}
	g.begun = true
	for _, t := range members {
		t.writes, t.reads = nil, nil
		for _, row := range t.locking {
			if refused[t] || got != nil && !got[row] {
				t.err, t.again, t.company = errCompany, true, true
			}
		}
		t.locking = nil
	}
	return nil
}

func (g *group) beginning() []step {
	if g.begun {
		return nil
	}
	return []step{{g.crowd.beginning, nil, executed}}
}

// lockSteps lock rows, in their order: those who say all at once what they need
// never wait for each other. skip leaves out those for which one would have to
// wait, and marks the others in got.
func lockSteps(rows []int32, skip bool, got map[int32]bool) []step {
	if len(rows) == 0 {
		return nil
	}
	slices.Sort(rows)
	rows = slices.Compact(rows)
	sql := "SELECT n FROM locks WHERE n = ANY($1) ORDER BY n FOR UPDATE"
	if skip {
		sql += " SKIP LOCKED"
	}
	return []step{{sql, []any{rows}, func(results pgx.BatchResults) error {
		n := 0
		err := eachRow(results, func(r pgx.Rows) error {
			n++
			if !skip {
				return nil
			}
			var row int32
			err := r.Scan(&row)
			got[row] = true
			return fromDatabase(err)
		})
		if err == nil && !skip && n != len(rows) {
			err = fmt.Errorf("store is damaged: %d rows of table locks where %d were due", n, len(rows))
		}
		return err
	}}}
}

func executed(results pgx.BatchResults) error {
	_, err := results.Exec()
	return fromDatabase(err)
}

// exchange sends statements in one go and takes the answers.
func (g *group) exchange(steps []step) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*g.store.options.StatementTimeout)
	defer cancel()
	b := &pgx.Batch{}
	for i := range steps {
		b.Queue(steps[i].sql, steps[i].args...)
	}
	g.store.trips.Add(1)
	g.store.statements.Add(int64(len(steps)))
	results := g.conn.SendBatch(ctx, b)
	for i := range steps {
		if err := steps[i].receive(results); err != nil {
			_ = results.Close() // repeats the error
			g.begun = true      // perhaps
			return err
		}
	}
	if err := fromDatabase(results.Close()); err != nil {
		g.begun = true
		return err
	}
	return nil
}

// commit sends the writes of all who want to commit together with the COMMIT,
// unless something about them is to be looked at before.
func (g *group) commit(wanted bool) {
	if !wanted { // all have gone
		g.end()
		return
	}
	var lists [][]write
	var topics []keyserver.Topic
	for _, t := range g.members {
		if t.state == final {
			lists = append(lists, t.writes)
			topics = append(topics, t.topics...)
		}
	}
	writes, unchecked := writeSteps(lists)
	steps := append(g.beginning(), writes...)
	if unchecked || !g.begun { // a connection that died long ago should cost nothing
		if err := g.exchange(steps); err != nil {
			g.fail(err, true)
			g.end()
			return
		}
		g.begun, steps = true, nil
	}
	reached, tag := false, ""
	steps = append(steps, step{"COMMIT", nil, func(results pgx.BatchResults) error {
		reached = true
		ended, err := results.Exec()
		tag = ended.String()
		return fromDatabase(err)
	}})
	err := g.exchange(steps)
	if tag == "" {
		g.fail(g.outcome(err, reached))
		g.end()
		return
	}
	g.begun = false
	if tag != "COMMIT" { // what the server says when it had given up before
		g.fail(fmt.Errorf("store: COMMIT was answered with %s", tag), true)
		return
	}
	g.store.news.publish(topics)
	for _, t := range g.members {
		if t.state == final {
			t.over = true
			t.answered <- struct{}{}
		}
	}
}

// outcome tells of a commit that failed, and whether it is sure that nothing was
// done. The server answers in order: an error of its own before it came to the
// COMMIT means that it never did.
func (g *group) outcome(err error, reached bool) (error, bool) {
	if !reached && isFromServer(err) || isServerError(err, "40001", "40P01") {
		return err, true
	}
	return fmt.Errorf("%w: %w: %w", keyserver.ErrUnavailable, errUnsure, err), false
}
