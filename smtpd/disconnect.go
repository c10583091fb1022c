package smtpd

import "sync"

// liveSessions are the connections of mail clients.
type liveSessions struct {
	mu  sync.Mutex
	all map[*session]struct{}
}

func (l *liveSessions) enter(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*session]struct{})
	}
	l.all[s] = struct{}{}
}

func (l *liveSessions) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, s)
}

func (l *liveSessions) each(match func(Account) bool, do func(*session)) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for s := range l.all {
		if a, _ := s.current(); a != nil && match(a) {
			do(s)
			n++
		}
	}
	return n
}

// Disconnect says 421 with a text of one line on the connections of the
// accounts that match and closes them, as soon as no message is under way. It
// returns how many there were; it does not wait for their end.
func (s *Server) Disconnect(match func(Account) bool, text string) int {
	return s.live.each(match, func(s *session) { s.guard.drain(text) })
}

// Sessions counts the connections of the accounts that match.
func (s *Server) Sessions(match func(Account) bool) int {
	return s.live.each(match, func(*session) {})
}
