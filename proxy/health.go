package proxy

import (
	"errors"
	"sync"
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
)

// maxMailboxNotes bounds how many renumbered mailboxes are remembered.
const maxMailboxNotes = 32

// health is what this process saw of an account's servers. It outlives a
// reload and is safe for concurrent use.
type health struct {
	now     func() time.Time
	journal *journal

	mu         sync.Mutex
	imap, smtp serverHealth
	sync       loopHealth
	full       *Fault               // the mailbox, since then
	renumbered map[string]time.Time // by mailbox
}

// serverHealth is how one server did.
type serverHealth struct {
	lastSuccess time.Time
	lastError   *Fault
	failing     bool
}

func (s *serverHealth) result(f *Fault, now time.Time) {
	if s.failing = f != nil; s.failing {
		s.lastError = f
		return
	}
	s.lastSuccess = now
}

// loopHealth is what the background loop does.
type loopHealth struct {
	serverHealth
	running bool
	retryAt time.Time // zero: it does not wait
}

func newHealth(now func() time.Time, j *journal) *health {
	return &health{now: now, journal: j, renumbered: make(map[string]time.Time)}
}

// imapResult notes how an attempt to sign in at the provider ended, or why a
// connection broke.
func (h *health) imapResult(err error) {
	now := h.now()
	var f *Fault
	if err != nil {
		f = imapFault(err, now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.imap.result(f, now)
}

// uploadResult notes how storing a message at the provider ended.
func (h *health) uploadResult(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.full = nil
	case errors.Is(err, imapd.ErrQuota) && h.full == nil:
		h.full = &Fault{Kind: FaultRefused, Text: "the mailbox at the mail provider is full: drafts, sent copies and notices are not stored", Time: h.now()}
	}
}

func (h *health) smtpResult(err error) {
	now := h.now()
	var f *Fault
	if err != nil {
		f = smtpFault(err, now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.smtp.result(f, now)
}

// syncResult notes how a Sync went.
func (h *health) syncResult(err error) {
	now := h.now()
	var f *Fault
	if err != nil {
		f = keyServerFault(err, now)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sync.result(f, now)
}

// loop notes what the background loop does from here on.
func (h *health) loop(running bool, retryAt time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sync.running, h.sync.retryAt = running, retryAt
}

// renumber notes that a mailbox got another UIDVALIDITY.
func (h *health) renumber(mailbox string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.renumbered) < maxMailboxNotes {
		h.renumbered[mailbox] = h.now()
	}
}

// fork notes that a message showed that its sender and this account hold
// different states of a group.
func (h *health) fork(id groupid.ID) error { return h.journal.fork(id, h.now()) }

// provider gives one server's part of a status.
func (s *serverHealth) provider(addr string, sessions int) ProviderStatus {
	return ProviderStatus{
		Server: addr, LastSuccess: s.lastSuccess, LastError: copyFault(s.lastError), Failing: s.failing, Sessions: sessions,
	}
}

func copyFault(f *Fault) *Fault {
	if f == nil {
		return nil
	}
	c := *f
	return &c
}
