package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// GatewayStatus is how a gateway fares. It holds addresses and no secrets.
type GatewayStatus struct {
	Started time.Time // zero: Run was not called yet
	Reloads int
	// Accounts are sorted by address.
	Accounts []AccountStatus
	// Stranded are messages whose account is not configured any more: they
	// wait until it is.
	Stranded []Stranded
}

// AccountStatus is how one account fares.
type AccountStatus struct {
	Address    string
	IMAP, SMTP ProviderStatus
	KeyServer  KeyServerStatus
	Queue      QueueStatus
	// Conversations and Contacts are how many there are.
	Conversations, Contacts int
	// Problems are what is wrong and stands, the gravest first.
	Problems []Problem
}

// ProviderStatus is how one server of the mail provider does, as far as mail
// clients and the outbox made the gateway connect. Zero times: not since the
// gateway started.
type ProviderStatus struct {
	Server      string // host:port
	LastSuccess time.Time
	LastError   *Fault
	Failing     bool // the last attempt failed
	Sessions    int  // of mail clients, open now
}

// KeyServerStatus is how an account does at the key server.
type KeyServerStatus struct {
	State     SyncState
	LastSync  time.Time // that went through
	LastError *Fault
	Failing   bool      // the last Sync failed
	RetryAt   time.Time // with SyncBackingOff
	// KeyPackages were left for others when they were last Counted.
	KeyPackages int
	LastResort  bool
	Counted     time.Time
}

// SyncState is what the background loop of an account does.
type SyncState string

// States of the loop.
const (
	SyncStopped    SyncState = "stopped"
	SyncRunning    SyncState = "running"
	SyncBackingOff SyncState = "backing-off"
)

// QueueStatus is what waits to be sent, and what could not be.
type QueueStatus struct {
	Entries     int
	Octets      int64
	Oldest      time.Time
	NextAttempt time.Time
	LastError   *Fault
	Failed      []FailedDelivery // given up, newest first
}

// Stranded is what waits for an address that is not configured.
type Stranded struct {
	Address string
	Queue   QueueStatus
}

// statusTimeout bounds what a Status may wait for the local state; where parts
// of it are not cached the key server would be asked.
const statusTimeout = 2 * time.Second

// Status tells how the gateway fares. It reads memory and the local state, and
// may be called at any time.
func (g *Gateway) Status(ctx context.Context) GatewayStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	g.mu.Lock()
	s := GatewayStatus{Started: g.started, Reloads: g.reloads}
	places := make([]*place, 0, len(g.places))
	for _, p := range g.places {
		places = append(places, p)
	}
	g.mu.Unlock()
	slices.SortFunc(places, func(a, b *place) int { return cmp.Compare(a.id, b.id) })
	queues := g.queues()
	for _, p := range places {
		a := g.accountStatus(ctx, p)
		if q, ok := queues[p.id]; ok {
			q.Failed = a.Queue.Failed
			a.Queue = q
			delete(queues, p.id)
		}
		s.Accounts = append(s.Accounts, a)
	}
	for id, q := range queues {
		s.Stranded = append(s.Stranded, Stranded{Address: id, Queue: q})
	}
	slices.SortFunc(s.Stranded, func(a, b Stranded) int { return cmp.Compare(a.Address, b.Address) })
	return s
}

// queues sums up the outbox, by canonical address.
func (g *Gateway) queues() map[string]QueueStatus {
	queues := make(map[string]QueueStatus)
	lastTried := make(map[string]time.Time)
	for _, w := range g.outbox.Waiting() { // oldest first
		id := canonicalOr(w.Username)
		q := queues[id]
		q.Entries++
		q.Octets += w.Size
		if q.Oldest.IsZero() {
			q.Oldest = w.Created
		}
		if q.NextAttempt.IsZero() || w.Next.Before(q.NextAttempt) {
			q.NextAttempt = w.Next
		}
		if w.LastError != nil && !w.LastTried.Before(lastTried[id]) {
			lastTried[id], q.LastError = w.LastTried, smtpFault(w.LastError, w.LastTried)
		}
		queues[id] = q
	}
	return queues
}

func canonicalOr(username string) string {
	if id, err := groupid.Canonical(username); err == nil {
		return id
	}
	return printable(username)
}

func (g *Gateway) accountStatus(ctx context.Context, p *place) AccountStatus {
	a := p.now.Load()
	f, err := readFacts(ctx, a.client, a.self, a.health.journal, a.now())
	if err != nil {
		a.log.Warn("status of an account is incomplete", "err", err)
	}
	s := f.status(a.self)
	imapSessions := g.imap.Sessions(func(x imapd.Account) bool { return placeOf(x) == p })
	smtpSessions := g.smtp.Sessions(func(x smtpd.Account) bool { return placeOf(x) == p })
	h := a.health
	h.mu.Lock()
	defer h.mu.Unlock()
	s.IMAP = h.imap.provider(a.cfg.IMAP.Addr, imapSessions)
	s.SMTP = h.smtp.provider(a.cfg.SMTP.Addr, smtpSessions)
	h.sync.fill(&s.KeyServer)
	s.Problems = append(s.Problems, h.mailboxes(h.now())...)
	sortProblems(s.Problems)
	return s
}

func (l *loopHealth) fill(s *KeyServerStatus) {
	if l.lastSuccess.After(s.LastSync) {
		s.LastSync = l.lastSuccess
	}
	s.LastError, s.RetryAt = copyFault(l.lastError), l.retryAt
	s.Failing = l.failing && !s.LastSync.After(l.lastError.Time) // a submission may have had more luck since
	switch {
	case !l.running:
		s.State = SyncStopped
	case l.retryAt.IsZero():
		s.State = SyncRunning
	default:
		s.State = SyncBackingOff
	}
}

// LocalStatus tells of an account what the local state knows: for programs that
// look while no gateway runs.
func LocalStatus(ctx context.Context, client *cloudmls.Client, address string) (AccountStatus, error) {
	id, err := groupid.Canonical(address)
	if err != nil {
		return AccountStatus{}, fmt.Errorf("address: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	f, err := readFacts(ctx, client, mailAccount(id), newJournal(client, id), time.Now())
	if err != nil {
		return AccountStatus{}, err
	}
	s := f.status(mailAccount(id))
	s.KeyServer.State = SyncStopped
	return s, nil
}

// readFacts reads the local state. With an error it holds what could be read.
func readFacts(ctx context.Context, client *cloudmls.Client, self cloudmls.Account, j *journal, now time.Time) (*facts, error) {
	f := &facts{journal: &journalRecord{}, now: now}
	var errs [4]error
	f.conversations, errs[0] = client.Conversations(ctx, self)
	if errors.Is(errs[0], cloudmls.ErrNoAccount) {
		return f, nil // not added yet: there is nothing
	}
	f.contacts, errs[1] = client.Contacts(ctx, self)
	f.sdk, errs[2] = client.Status(ctx, self)
	r, err := j.read()
	if errs[3] = err; err == nil {
		f.journal = r
	}
	return f, errors.Join(errs[:]...)
}

func (f *facts) status(self cloudmls.Account) AccountStatus {
	return AccountStatus{
		Address: self.ID, Conversations: len(f.conversations), Contacts: len(f.contacts), Problems: f.standing(),
		Queue: QueueStatus{Failed: f.journal.Failed},
		KeyServer: KeyServerStatus{
			LastSync: f.sdk.LastSync, KeyPackages: f.sdk.KeyPackages, LastResort: f.sdk.LastResort, Counted: f.sdk.Counted,
		},
	}
}
