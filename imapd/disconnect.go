package imapd

import "github.com/cloudmls/gateway/imapd/session"

// Watcher is an Account that wants to know how its provider does.
type Watcher = session.Watcher

// Settler is an Account that stores what it found in many messages at once.
type Settler = session.Settler

// What a Watcher may find in an error, see package session.
var (
	ErrLogin      = session.ErrLogin
	ErrNotNow     = session.ErrNotNow
	ErrNoPassword = session.ErrNoPassword
	ErrQuota      = session.ErrQuota
)

// SignInError tells from the text of a refused sign-in whether the credentials are
// the trouble (ErrLogin) or not (ErrNotNow).
func SignInError(text string) error { return session.SignInError(text) }

// ProviderText is what may be shown to people about an error given to a
// Watcher; it may hold the provider's own words.
func ProviderText(err error) string { return session.ProviderText(err) }

// Disconnect says BYE with a text of one line to the sessions of the accounts
// that match, and ends them. It returns how many there were; it does not wait
// for their end.
func (s *Server) Disconnect(match func(Account) bool, text string) int {
	return s.config.Disconnect(match, text)
}

// Sessions counts the sessions of the accounts that match.
func (s *Server) Sessions(match func(Account) bool) int { return s.config.Sessions(match) }
