package session

import (
	"errors"
	"log/slog"
	"strings"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// commandLoop treats the client's commands until it leaves or the provider's
// connection ends.
func (s *session) commandLoop() error {
	s.client.arm(false)
	s.client.armLazily()
	for {
		cmd, err := s.readCommand()
		switch {
		case errors.Is(err, errBadCommand), errors.Is(err, errAnswered):
			continue
		case err != nil:
			return err
		}
		if err := s.dispatch(cmd); err != nil && !errors.Is(err, errBadCommand) {
			return err
		}
		if cmd.name == "LOGOUT" {
			return nil
		}
	}
}

// dispatch treats one command. An error ends the session, except
// errBadCommand.
func (s *session) dispatch(cmd *clientCommand) error {
	switch policy.Command(cmd.name) {
	case policy.Refuse:
		return s.no(cmd.tag, "CANNOT", "This command is not available through the gateway")
	case policy.Inspect:
		return s.inspect(cmd)
	}
	return s.forward(cmd, nil)
}

func (s *session) inspect(cmd *clientCommand) error {
	switch cmd.name {
	case "SELECT", "EXAMINE":
		return s.exclusive(cmd, s.selectMailbox)
	case "CLOSE", "UNSELECT":
		return s.exclusive(cmd, s.leaveMailbox)
	case "FETCH", "UID FETCH":
		return s.fetch(cmd)
	case "STORE", "UID STORE":
		return s.store(cmd)
	case "APPEND":
		return s.exclusive(cmd, s.append)
	case "IDLE":
		return s.exclusive(cmd, s.idle)
	case "ENABLE":
		return s.enable(cmd)
	case "LOGOUT":
		return s.exclusive(cmd, func(cmd *clientCommand) error {
			c := &command{}
			if err := s.forward(cmd, c); err != nil {
				return err
			}
			return s.wait(c)
		})
	}
	return s.bad(cmd.tag, "Unknown command")
}

// exclusive runs a handler once everything before it is done. Its error is
// answered with a tagged NO unless it ends the session: then the provider's
// end is told by BYE, from the relay goroutine.
func (s *session) exclusive(cmd *clientCommand, handler func(*clientCommand) error) error {
	if err := s.drain(); err != nil {
		return err
	}
	s.serving.Store(true)
	err := handler(cmd)
	if s.ahead != nil && !errors.Is(err, errGone) && !errors.Is(err, errCut) {
		s.flush() // the client need not wait for the end of what was read ahead
		s.finishAhead()
	}
	s.serving.Store(false)
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errGone), errors.Is(err, errBadCommand), errors.Is(err, errCut), dead != nil:
		return err
	}
	var v *verbatim
	if errors.As(err, &v) {
		return s.tagged(cmd.tag, string(filterTagged(v.line)))
	}
	s.report(slog.LevelInfo, "command refused: "+cmd.name, err)
	code, text := answerFor(err)
	return s.no(cmd.tag, code, text)
}

// leaveMailbox runs CLOSE and UNSELECT.
func (s *session) leaveMailbox(cmd *clientCommand) error {
	c := &command{}
	if err := s.forward(cmd, c); err != nil {
		return err
	}
	if err := s.wait(c); err != nil {
		return err
	}
	if c.status == "OK" {
		s.setBox(nil)
	}
	return nil
}

// setBox changes the selected mailbox.
func (s *session) setBox(b *mailbox) {
	if b != nil {
		b.shown = s.cfg.shown.enter(s.user, b.name, b.uidValidity)
	}
	s.mu.Lock()
	old := s.box
	s.box = b
	s.mu.Unlock()
	if old != nil {
		s.cfg.shown.leave(old.shown)
	}
	s.opened.clear()
	s.dropContent()
}

// hiddenName stands in ENABLE for an extension that is hidden: a provider
// ignores what it does not know (RFC 5161 section 3.1).
const hiddenName = "X-HIDDEN"

// enable keeps extensions that are hidden from the provider, so that it does not
// change its answers behind the relay's back (RFC 5161).
func (s *session) enable(cmd *clientCommand) error {
	names := strings.Fields(string(cmd.arguments()))
	hidden := false
	for i, n := range names {
		if policy.Capability(n) == policy.Hide {
			names[i], hidden = hiddenName, true
		}
	}
	if hidden {
		cmd.raw = []byte(cmd.tag + " ENABLE " + strings.Join(names, " ") + "\r\n")
		cmd.literals = nil
	}
	return s.forward(cmd, nil)
}

// store passes STORE on without our keywords: they are the gateway's alone.
func (s *session) store(cmd *clientCommand) error {
	if !containsFold(cmd.raw, ownMark) || len(cmd.literals) > 0 {
		return s.forward(cmd, nil)
	}
	sc := wire.NewScanner(cmd.arguments())
	flagsAt := -1
	for !sc.End() {
		word, err := sc.Value()
		if err != nil {
			return s.bad(cmd.tag, "Invalid STORE command")
		}
		if flagsAt >= 0 {
			break
		}
		if containsFold(word, "flags") && word[0] != '(' {
			flagsAt = sc.Pos() + 1
		}
		sc.SP()
	}
	if flagsAt < 0 || flagsAt > len(cmd.arguments()) {
		return s.bad(cmd.tag, "Invalid STORE command")
	}
	args := cmd.arguments()
	list := strings.Fields(strings.Trim(string(args[flagsAt:]), "() \r\n"))
	kept := withoutOwn(list)
	if len(kept) == len(list) {
		return s.forward(cmd, nil)
	}
	op := args[:flagsAt]
	if len(kept) == 0 && (containsFold(op, "+flags") || containsFold(op, "-flags")) {
		return s.no(cmd.tag, "CANNOT", "These keywords are set by the gateway only")
	}
	raw := append([]byte{}, cmd.raw[:cmd.args+flagsAt]...)
	raw = append(raw, "("+strings.Join(kept, " ")+")\r\n"...)
	cmd.raw = raw
	return s.forward(cmd, nil)
}

// idle relays IDLE (RFC 2177). DONE may come in one packet with the commands
// after it.
func (s *session) idle(cmd *clientCommand) error {
	c := &command{passCont: true}
	if err := s.forward(cmd, c); err != nil {
		return err
	}
	s.flush()
	select {
	case <-c.cont:
		s.setIdle(c, true)
	case <-c.done:
		return c.err // refused: the tagged response has been passed on
	}
	seg, err := s.cr.ReadSegment(s.cfg.Limits.CommandBytes)
	if err != nil {
		return errGone
	}
	if !equalFold(string(seg.Line()), "DONE") {
		s.setIdle(c, false)
		if err := s.write([]byte("DONE\r\n")); err != nil {
			return err
		}
		if err := s.wait(c); err != nil {
			return err
		}
		return s.bad("*", "Expected DONE")
	}
	s.setIdle(c, false) // from here on the provider owes an answer
	return s.write([]byte("DONE\r\n"))
}

func (s *session) setIdle(c *command, idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.idle = idle
	s.armLocked()
}
