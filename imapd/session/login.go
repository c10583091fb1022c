package session

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// authenticate serves the client until it has signed in and the provider's
// connection stands.
func (s *session) authenticate(onLogin func()) error {
	// One deadline for the whole phase: it does not move with progress.
	deadline := time.Now().Add(s.cfg.Limits.LoginTimeout)
	if err := s.client.Conn.SetReadDeadline(deadline); err != nil {
		return errGone
	}
	greeting := "* OK [CAPABILITY " + strings.Join(policy.Greeting, " ") + "] CloudMLS Gateway ready\r\n"
	if err := s.out.line([]byte(greeting)); err != nil {
		return errGone
	}
	s.flush() // and with it the TLS handshake
	s.client.beforeWaiting(s.flush)
	failures := 0
	for range preAuthCommands {
		cmd, err := s.preAuthCommand()
		switch {
		case errors.Is(err, errBadCommand):
			if s.bads++; s.bads >= preAuthBadCommands {
				s.out.lastWord("* BYE Too many bad commands")
				return errHostile
			}
			continue
		case err != nil:
			return err
		}
		done, err := s.preAuth(cmd, onLogin)
		switch {
		case done:
			return nil
		case errors.Is(err, ErrCredentials):
			if failures++; failures >= preAuthFailures {
				s.out.lastWord("* BYE Too many failed sign-ins")
				return errGone
			}
		case errors.Is(err, errBadCommand):
			if s.bads++; s.bads >= preAuthBadCommands {
				s.out.lastWord("* BYE Too many bad commands")
				return errHostile
			}
		case err != nil:
			return err
		}
	}
	s.out.lastWord("* BYE Too many commands before sign-in")
	return errGone
}

// preAuthCommand reads a command under the limits before login.
func (s *session) preAuthCommand() (*clientCommand, error) {
	cmd := &clientCommand{}
	if c, err := s.cr.Wait(); err == nil && c == tlsHandshake {
		return nil, errHostile // TLS where none is spoken
	}
	for {
		seg, err := s.cr.ReadSegment(preAuthCommandBytes)
		if errors.Is(err, wire.ErrTooLong) {
			s.out.lastWord("* BYE Command too long")
			return nil, errHostile
		}
		if err != nil {
			s.out.lastWord("* BYE Sign-in timed out")
			return nil, errGone
		}
		if cmd.raw == nil {
			if isHTTP(seg.Line()) {
				return nil, errHostile
			}
			if err := s.parseHead(cmd, &seg); err != nil {
				return nil, err
			}
		} else if !cleanText(&seg) {
			return nil, s.bad(cmd.tag, "Command line contains a control character")
		}
		cmd.raw = append(cmd.raw, seg.Raw...)
		if !seg.Literal {
			return cmd, nil
		}
		if seg.Size+int64(len(cmd.raw)) > preAuthLiteralBytes {
			s.out.lastWord("* BYE Literal too large")
			return nil, errHostile
		}
		if !seg.NonSync {
			if err := s.out.line([]byte("+ OK\r\n")); err != nil {
				return nil, errGone
			}
		}
		at := len(cmd.raw)
		cmd.raw = append(cmd.raw, make([]byte, seg.Size)...)
		if err := readFull(s.cr, cmd.raw[at:]); err != nil {
			return nil, errGone
		}
		if bytes.IndexByte(cmd.raw[at:], 0) >= 0 {
			return nil, s.bad(cmd.tag, "Literal contains NUL")
		}
	}
}

// tlsHandshake is the first octet of a TLS connection (RFC 8446 section 5.1).
const tlsHandshake = 22

// isHTTP recognises a browser.
func isHTTP(line []byte) bool {
	for _, verb := range policy.HTTPVerbs {
		if hasPrefixFold(line, verb) {
			return true
		}
	}
	return false
}

// preAuth treats one command. done means that the session is ready.
func (s *session) preAuth(cmd *clientCommand, onLogin func()) (done bool, err error) {
	switch cmd.name {
	case "CAPABILITY":
		if err := s.out.line([]byte("* CAPABILITY " + strings.Join(policy.Greeting, " ") + "\r\n")); err != nil {
			return false, errGone
		}
		return false, s.tagged(cmd.tag, "OK Capability completed")
	case "NOOP":
		return false, s.tagged(cmd.tag, "OK Nothing done")
	case "ID":
		if err := s.out.line([]byte("* ID (\"name\" \"CloudMLS Gateway\")\r\n")); err != nil {
			return false, errGone
		}
		return false, s.tagged(cmd.tag, "OK ID completed")
	case "LOGOUT":
		s.out.lastWord("* BYE Logging out\r\n" + cmd.tag + " OK Logout completed")
		return false, errGone
	case "LOGIN":
		sc := wire.NewScanner(cmd.arguments())
		user, ok1 := sc.AString()
		sp := sc.SP()
		pass, ok2 := sc.AString()
		if !ok1 || !sp || !ok2 || !sc.End() {
			return false, s.bad(cmd.tag, "LOGIN takes user name and password")
		}
		return s.signIn(cmd.tag, string(user), string(pass), onLogin)
	case "AUTHENTICATE":
		return s.authenticateCommand(cmd, onLogin)
	case "STARTTLS":
		return false, s.bad(cmd.tag, "STARTTLS is not offered here")
	}
	return false, s.bad(cmd.tag, "Please sign in first")
}

// authenticateCommand serves AUTHENTICATE PLAIN and LOGIN, with and without
// initial response (RFC 4616, RFC 4959).
func (s *session) authenticateCommand(cmd *clientCommand, onLogin func()) (bool, error) {
	f := strings.Fields(string(cmd.arguments()))
	if len(f) == 0 || len(f) > 2 {
		return false, s.bad(cmd.tag, "AUTHENTICATE takes a mechanism")
	}
	var initial []string
	if len(f) == 2 {
		initial = f[1:]
	}
	var user, pass string
	switch strings.ToUpper(f[0]) {
	case "PLAIN":
		b, err := s.response(cmd.tag, "", initial)
		if err != nil {
			return false, err
		}
		parts := bytes.Split(b, []byte{0})
		if len(parts) != 3 || len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
			return false, s.bad(cmd.tag, "Invalid PLAIN response")
		}
		user, pass = string(parts[1]), string(parts[2])
	case "LOGIN":
		u, err := s.response(cmd.tag, "Username:", initial)
		if err != nil {
			return false, err
		}
		p, err := s.response(cmd.tag, "Password:", nil)
		if err != nil {
			return false, err
		}
		user, pass = string(u), string(p)
	default:
		return false, s.no(cmd.tag, "CANNOT", "This mechanism is not supported")
	}
	return s.signIn(cmd.tag, user, pass, onLogin)
}

// response gets one SASL response, the initial one if there is one.
func (s *session) response(tag, challenge string, initial []string) ([]byte, error) {
	var text string
	if len(initial) > 0 {
		if text = initial[0]; text == "=" {
			text = ""
		}
	} else {
		if err := s.out.line([]byte("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)) + "\r\n")); err != nil {
			return nil, errGone
		}
		seg, err := s.cr.ReadSegment(preAuthCommandBytes)
		if err != nil {
			return nil, errGone
		}
		if text = string(seg.Line()); text == "*" {
			return nil, s.bad(tag, "Authentication cancelled")
		}
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, s.bad(tag, "Invalid base64")
	}
	return b, nil
}

// signIn checks the credentials, connects to the provider, and answers the
// client. ErrCredentials means that the client may try again.
func (s *session) signIn(tag, user, pass string, onLogin func()) (bool, error) {
	// The client has shown its credentials: from here on time is ours.
	s.client.arm(false)
	s.flush()
	guard := &s.cfg.guard
	if err := guard.wait(s.ctx, user, s.cfg.Limits); err != nil {
		return false, errGone
	}
	acct, err := s.cfg.Backend.Login(s.ctx, user, pass)
	if errors.Is(err, ErrCredentials) {
		guard.note(user, false)
		s.log.Warn("sign-in refused")
		if err := s.no(tag, "AUTHENTICATIONFAILED", "User name or password is wrong"); err != nil {
			return false, err
		}
		return false, s.extendLogin(ErrCredentials)
	}
	if err != nil {
		s.report(slog.LevelError, "sign-in failed", err)
		code, text := answerFor(err)
		if err := s.no(tag, code, text); err != nil {
			return false, err
		}
		return false, s.extendLogin(nil)
	}
	guard.note(user, true)
	onLogin()
	s.leave()
	s.leave = s.cfg.live.enter(s, acct)
	up, alerts, err := connect(s.ctx, acct, s.cfg.Limits)
	if s.ctx.Err() == nil {
		watch(acct, func(w Watcher) { w.ProviderResult(err) })
	}
	for _, a := range alerts {
		if err := s.out.line(a); err != nil {
			return false, errGone
		}
	}
	if err != nil {
		s.leave()
		s.report(slog.LevelWarn, "mail provider not available", err)
		code, text := "UNAVAILABLE", dialSentence(err)
		var f *Failure
		if errors.As(err, &f) {
			code, text = answerFor(err)
		}
		if err := s.no(tag, code, oneLine(text)); err != nil {
			return false, err
		}
		return false, s.extendLogin(nil)
	}
	s.mu.Lock()
	s.up = up
	s.mu.Unlock()
	s.user, s.acct, s.idx = user, acct, acct.Index()
	s.opened = newViewCache(s.cfg.Limits.CacheBytes)
	ok := "OK [CAPABILITY " + strings.Join(policy.FilterCapabilities(up.caps), " ") + "] Signed in"
	return true, s.tagged(tag, ok)
}

// extendLogin gives the client time for another attempt, and returns cause.
func (s *session) extendLogin(cause error) error {
	deadline := time.Now().Add(s.cfg.Limits.LoginTimeout)
	if err := s.client.Conn.SetReadDeadline(deadline); err != nil {
		return errGone
	}
	return cause
}
