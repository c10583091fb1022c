package keyservertest

import (
	"context"
	"sync"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Messenger is a messenger platform for tests: what the key server sends to an
// account of it lies in that account's inbox. It is safe for concurrent use.
type Messenger struct {
	mu    sync.Mutex
	inbox map[keyapi.Account][]keyserver.ChallengeMessage
	fail  error
}

var _ keyserver.Challenger = (*Messenger)(nil)

// SendToken puts a message into an inbox.
func (m *Messenger) SendToken(_ context.Context, c keyserver.ChallengeMessage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	if m.inbox == nil {
		m.inbox = map[keyapi.Account][]keyserver.ChallengeMessage{}
	}
	m.inbox[c.Account] = append(m.inbox[c.Account], c)
	return nil
}

// Inbox is what an account has received, the first message first.
func (m *Messenger) Inbox(a keyapi.Account) []keyserver.ChallengeMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]keyserver.ChallengeMessage(nil), m.inbox[a]...)
}

// Fail makes SendToken give err, until it is called with nil.
func (m *Messenger) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}
