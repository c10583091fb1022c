package session

import (
	"bytes"
	"fmt"
	"slices"
)

// command is a command sent to the provider whose tagged response is awaited.
type command struct {
	tag string
	// own commands and captured ones of the client: the tagged response is not
	// passed on.
	capture bool
	// idle commands may wait for ever.
	idle bool
	// claim is offered each untagged response and tells whether it took it. It
	// runs on the relay goroutine.
	claim func(*response) (bool, error)
	// cont receives continuation requests; passCont: the client gets them too.
	cont     chan struct{}
	passCont bool

	// done is closed when the tagged response is there, or err.
	done   chan struct{}
	status string
	line   []byte // behind the tag, without CRLF
	err    error
}

// start registers a command before it is written. What is read ahead ends
// before: its responses must not be taken for another's.
func (s *session) start(c *command) error {
	s.finishAhead()
	c.done = make(chan struct{})
	c.cont = make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return s.dead
	}
	s.pending = append(s.pending, c)
	s.armLocked()
	return nil
}

// armLocked puts a deadline on the provider's next octet while something other
// than IDLE is awaited.
func (s *session) armLocked() {
	s.up.conn.arm(slices.ContainsFunc(s.pending, func(c *command) bool { return !c.idle }))
}

// lookup returns the pending command with that tag, nil if there is none.
func (s *session) lookup(tag string) *command {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.pending {
		if c.tag == tag {
			return c
		}
	}
	return nil
}

// complete wakes who waits for c, after its tagged response was passed on.
func (s *session) complete(c *command, status string, line []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.pending, c)
	if i < 0 {
		return
	}
	s.pending = slices.Delete(s.pending, i, i+1)
	c.status, c.line = status, line
	close(c.done)
	s.armLocked()
	if len(s.pending) == 0 {
		s.drained.Broadcast()
	}
}

// drain waits until every command sent to the provider has been answered.
func (s *session) drain() error {
	s.flush()
	s.finishAhead()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.pending) > 0 && s.dead == nil {
		s.drained.Wait()
	}
	return s.dead
}

// wait blocks until c is answered.
func (s *session) wait(c *command) error {
	s.flush()
	<-c.done
	return c.err
}

// nextTag returns a tag for an own command.
func (s *session) nextTag() string {
	s.tagN++
	return fmt.Sprintf("%s%d", tagPrefix, s.tagN)
}

// own runs a command of the relay's own and waits for its end. A NO or BAD is
// a *refusal. Only when no client command is in progress at the provider.
func (s *session) own(text []byte, claim func(*response) (bool, error)) (*command, error) {
	c := &command{tag: s.nextTag(), capture: true, claim: claim}
	if err := s.start(c); err != nil {
		return nil, err
	}
	if err := s.write([]byte(c.tag), []byte{' '}, text, []byte("\r\n")); err != nil {
		return nil, err
	}
	if err := s.wait(c); err != nil {
		return nil, err
	}
	if c.status != "OK" {
		name, _, _ := bytes.Cut(text, []byte{' '})
		return c, &refusal{command: string(name), text: string(c.line)}
	}
	return c, s.passHighest(c)
}

// passHighest tells the client of a HIGHESTMODSEQ that the provider put into its
// answer to a command of the relay's own: it tells each only once (RFC 7162
// section 3.1.2.1).
func (s *session) passHighest(c *command) error {
	_, rest, _ := bytes.Cut(c.line, []byte{' '})
	if !hasPrefixFold(rest, "[HIGHESTMODSEQ ") || s.abandoned() {
		return nil
	}
	if err := s.out.line([]byte("* "), c.line, []byte("\r\n")); err != nil {
		return errGone
	}
	return nil
}

// write sends pieces to the provider.
func (s *session) write(pieces ...[]byte) error {
	for _, p := range pieces {
		if _, err := s.up.w.Write(p); err != nil {
			return s.lost(err)
		}
	}
	return nil
}

// lost returns why the provider's connection failed: what the relay goroutine
// knows is better than a write error.
func (s *session) lost(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return s.dead
	}
	return &providerError{text: "The connection to the mail provider ended, please try again", err: err}
}

// forward sends a client's command as it is; literals are announced in the way
// that the provider takes. c may be nil, or say what is special about it.
func (s *session) forward(cmd *clientCommand, c *command) error {
	if c == nil {
		c = &command{}
	}
	c.tag = cmd.tag
	if err := s.start(c); err != nil {
		return err
	}
	return s.writeCommand(c, cmd.raw, cmd.literals)
}

// writeCommand writes a command's text with its literals. A synchronising
// literal waits for the provider; when it answers the command instead, the
// rest is not sent.
func (s *session) writeCommand(c *command, raw []byte, literals []literalPos) error {
	at := 0
	for _, l := range literals {
		if err := s.write(raw[at:l.announce]); err != nil {
			return err
		}
		ok, err := s.announce(c, int64(l.end-l.data), l.binary, false)
		if err != nil || !ok {
			return err
		}
		at = l.data
	}
	return s.write(raw[at:])
}

// announce writes the announcement of a literal, and waits for the provider unless
// nonSync is wanted and it takes that. Only uploads want it: some providers read
// the literal of another command that they refused as commands. false means that
// the command has been answered.
func (s *session) announce(c *command, size int64, binary, nonSync bool) (bool, error) {
	tilde := ""
	if binary {
		tilde = "~"
	}
	if nonSync && s.up.nonSync(size) {
		return true, s.write(fmt.Appendf(nil, "%s{%d+}\r\n", tilde, size))
	}
	if err := s.write(fmt.Appendf(nil, "%s{%d}\r\n", tilde, size)); err != nil {
		return false, err
	}
	s.flush()
	select {
	case <-c.cont:
		return true, nil
	case <-c.done:
		return false, c.err
	}
}

// nonSync tells whether the provider takes a literal of that size without
// being asked (RFC 7888).
func (u *upstream) nonSync(size int64) bool {
	const literalMinus = 4096
	return u.caps.has("LITERAL+") || u.caps.has("LITERAL-") && size <= literalMinus
}
