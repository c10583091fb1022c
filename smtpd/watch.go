package smtpd

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What Upstream.Report may find in an error with errors.Is.
var (
	// ErrLogin: the provider refused the gateway's login.
	ErrLogin = errors.New("the mail provider refused the login")
	// ErrNotNow: the provider takes no login at the moment (a 4xx reply); user
	// name and password may well be right.
	ErrNotNow = errors.New("the mail provider takes no login for now")
	// ErrNoPassword: Upstream.Password gave no password.
	ErrNoPassword = errors.New("the password for the mail provider is not available")
)

// ProviderText is what may be shown to people about an error given to
// Upstream.Report or in Waiting: it may hold the provider's own words.
func ProviderText(err error) string {
	said, internal := smtpError(err, "")
	if internal {
		return "the message could not be sent"
	}
	return said.Message
}

// report tells whoever watches how it went with the provider. An error that
// says nothing about the provider is not told.
func (r *relay) report(ctx context.Context, err error) {
	if r.watcher == nil || ctx.Err() != nil {
		return
	}
	r.watcher(err)
}

// renew gives an idle connection up that was made under other settings.
func (r *relay) renew() {
	if r.l != nil && r.generation != r.upstream().Generation {
		r.close()
	}
}

// Waiting is a transaction in the outbox.
type Waiting struct {
	ID, Username string
	Size         int64 // octets
	Created      time.Time
	Next         time.Time // when it is tried again
	Attempts     int
	// LastError is why the last attempt failed, as far as this process made
	// it; see ProviderText.
	LastError error
	// LastTried is when that was.
	LastTried time.Time
}

// attemptNotes remember why transactions still wait.
type attemptNotes struct {
	mu sync.Mutex
	by map[string]attemptNote
}

type attemptNote struct {
	err  error
	when time.Time
}

func (n *attemptNotes) put(id string, err error, when time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.by == nil {
		n.by = make(map[string]attemptNote)
	}
	n.by[id] = attemptNote{err, when}
}

func (n *attemptNotes) drop(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.by, id)
}

func (n *attemptNotes) get(id string) attemptNote {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.by[id]
}

// Waiting lists the transactions that wait, the oldest first.
func (b *Outbox) Waiting() []Waiting {
	entries := b.q.List()
	all := make([]Waiting, len(entries))
	for i, e := range entries {
		note := b.notes.get(e.ID)
		all[i] = Waiting{
			ID: e.ID, Username: e.Username, Size: e.Size, Created: e.Created, Next: e.Next, Attempts: e.Attempts,
			LastError: note.err, LastTried: note.when,
		}
	}
	return all
}
