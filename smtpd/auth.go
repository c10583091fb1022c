package smtpd

import (
	"errors"
	"log/slog"
	"strings"
	"unicode"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Limits of credentials: RFC 4616 names 255 octets for a user name; passwords
// may be tokens.
const (
	maxUsername = 255
	maxPassword = 4096
)

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			if identity != "" && identity != username {
				return errAuthFailed
			}
			return s.login(username, password)
		}), nil
	case sasl.Login:
		return &loginServer{login: s.login}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// login checks credentials, slowly after failures.
func (s *session) login(username, password string) error {
	malformed := username == "" || len(username) > maxUsername || len(password) > maxPassword ||
		strings.IndexFunc(username+password, unicode.IsControl) >= 0
	err := ErrCredentials
	var account Account
	if !malformed {
		account, err = s.server.o.Backend.Login(s.ctx, username, password)
	}
	if err == nil && account == nil {
		err = errors.New("backend returned no account")
	}
	switch {
	case err == nil:
	case errors.Is(err, ErrCredentials):
		return s.loginFailed(username)
	default:
		s.log.Error("login not checked", "err", err)
		return errAuthUnavailable
	}
	s.server.throttle.success(username)
	s.guard.loggedIn()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account, s.username = account, username
	return nil
}

func (s *session) loginFailed(username string) error {
	if len(username) > maxUsername {
		username = username[:maxUsername]
	}
	delay := s.server.throttle.failure(username)
	s.log.LogAttrs(s.ctx, slog.LevelWarn, "wrong user name or password", slog.Duration("delay", delay))
	if delay > 0 {
		s.guard.extendLogin(delay + s.server.timeouts.Login)
		if err := s.server.throttle.wait(s.ctx, delay); err != nil {
			return errAuthUnavailable
		}
	}
	return errAuthFailed
}

// loginServer is the server side of the LOGIN mechanism, which go-sasl has for
// clients only; Outlook and others know no better one.
type loginServer struct {
	login    func(username, password string) error
	username *string
	asked    bool
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.username == nil && response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.username == nil:
		username := string(response)
		l.username = &username
		return []byte("Password:"), false, nil
	}
	return nil, true, l.login(*l.username, string(response))
}

// loginClient is the client side of LOGIN, for providers without PLAIN. Unlike
// go-sasl's it sends nothing unasked and takes the challenges in any wording.
type loginClient struct {
	username, password string
	sent               int
}

// Start implements sasl.Client.
func (l *loginClient) Start() (mechanism string, response []byte, err error) {
	return sasl.Login, nil, nil
}

// Next implements sasl.Client.
func (l *loginClient) Next([]byte) ([]byte, error) {
	l.sent++
	switch l.sent {
	case 1:
		return []byte(l.username), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}
