package session

import (
	"errors"
	"net"
	"strings"
	"sync"
)

// What a Watcher may find in an error with errors.Is.
var (
	// ErrLogin: the provider refused the gateway's sign-in.
	ErrLogin = errors.New("the mail provider refused the sign-in")
	// ErrNotNow: the provider takes no sign-in at the moment, from anybody or
	// beside those that there are; user name and password may well be right.
	ErrNotNow = errors.New("the mail provider takes no sign-in for now")
	// ErrNoPassword: Upstream.Password gave no password.
	ErrNoPassword = errors.New("the password for the mail provider is not available")
	// ErrQuota: the provider has no room for a message (RFC 9208 section 4.3).
	ErrQuota = errors.New("the mailbox at the mail provider is full")
)

// Watcher is an Account that wants to know how its provider does. Its methods
// must return at once.
type Watcher interface {
	// ProviderResult is told how an attempt to sign in ended, nil for well, and
	// later why the provider's connection ended, unless it was left.
	ProviderResult(err error)
	// UploadResult is told how an upload ended at the provider: nil for well,
	// ErrQuota, or another error if it was refused.
	UploadResult(err error)
}

// SignInError tells from the text of a refused sign-in (behind NO) whether the
// credentials are the trouble: ErrLogin, or ErrNotNow by the response codes of RFC
// 5530 that say otherwise, and LIMIT.
func SignInError(text string) error {
	code, _, ok := strings.Cut(strings.TrimPrefix(text, "["), "]")
	if !ok || !strings.HasPrefix(text, "[") {
		return ErrLogin
	}
	code, _, _ = strings.Cut(strings.ToUpper(code), " ")
	switch code {
	case "UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG":
		return ErrNotNow
	}
	return ErrLogin
}

// ProviderText is what may be shown to people about a failure of the
// provider's connection: one line, which may hold the provider's own words.
func ProviderText(err error) string {
	var f *Failure
	if errors.As(err, &f) {
		return oneLine(f.Text)
	}
	return oneLine(dialSentence(err))
}

func watch(a Account, tell func(Watcher)) {
	if w, ok := a.(Watcher); ok {
		tell(w)
	}
}

// watchEnd tells why the provider's connection ended where that is its doing.
func (s *session) watchEnd(err error) {
	if err == nil || s.left.Load() || s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, errGone) {
		return
	}
	watch(s.acct, func(w Watcher) { w.ProviderResult(err) })
}

// watchUpload tells how an APPEND ended.
func (s *session) watchUpload(c *command) {
	var err error
	if c.status != "OK" {
		err = &refusal{command: "APPEND", text: string(c.line)}
		if strings.Contains(strings.ToUpper(string(c.line)), "[OVERQUOTA]") {
			err = errors.Join(ErrQuota, err)
		}
	}
	watch(s.acct, func(w Watcher) { w.UploadResult(err) })
}

// liveSessions are the sessions whose client has shown its credentials.
type liveSessions struct {
	mu  sync.Mutex
	all map[*session]Account
}

// enter adds a session before the provider is dialled; the returned function
// takes it out.
func (l *liveSessions) enter(s *session, a Account) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*session]Account)
	}
	l.all[s] = a
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, s)
	}
}

// farewell is why Disconnect ends a session: the text behind BYE.
type farewell string

// Error implements error.
func (f farewell) Error() string { return string(f) }

// Disconnect says BYE with a text of one line to the sessions of the accounts
// that match, and ends them. It returns how many there were. Account.Dial of a
// sign-in that is under way is called after the session counts here.
func (c *Config) Disconnect(match func(Account) bool, text string) int {
	return c.live.each(match, func(s *session) { s.end(farewell(oneLine(text))) })
}

// Sessions counts the sessions of the accounts that match.
func (c *Config) Sessions(match func(Account) bool) int {
	return c.live.each(match, func(*session) {})
}

func (l *liveSessions) each(match func(Account) bool, do func(*session)) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for s, a := range l.all {
		if match(a) {
			do(s)
			n++
		}
	}
	return n
}
