package session

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudmls/gateway/imapd/wire"
)

// response is one untagged response of the provider: its first segment, and
// the rest still to be read.
type response struct {
	s   *session
	seg wire.Segment
	// name is the word that says what it is, in capitals: EXISTS, FETCH, OK.
	name string
	// num is the number before it: "* 12 EXISTS".
	num uint32
	// rest is the offset behind the name and its space.
	rest int
	// whole is the response in memory once load was called.
	whole []byte
	// cut: the response was longer than it may be, and was read to its end
	// without being kept.
	cut bool
}

// parseResponse looks at the head of an untagged response.
func (s *session) parseResponse(seg wire.Segment) *response {
	r := &response{s: s, seg: seg}
	sc := wire.NewScanner(seg.Line())
	sc.Byte('*')
	sc.SP()
	if n, ok := sc.Number(); ok && sc.SP() && n <= 1<<32-1 {
		r.num = uint32(n)
	}
	word, _ := sc.Atom()
	r.name = strings.ToUpper(string(word))
	sc.SP()
	r.rest = sc.Pos()
	switch r.name {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		// Human-readable text may end in what looks like a literal.
		r.seg.Literal = false
	}
	return r
}

// load reads the whole response into memory.
func (r *response) load() ([]byte, error) {
	if r.whole != nil {
		return r.whole, nil
	}
	if r.cut {
		return nil, wire.ErrTooLong
	}
	limit := r.s.cfg.Limits.ResponseBytes
	b := bytes.Clone(r.seg.Raw)
	seg := r.seg
	for seg.Literal {
		if int64(limit-len(b)) < seg.Size {
			return nil, r.cutOff(seg)
		}
		at := len(b)
		b = append(b, make([]byte, seg.Size)...)
		if err := readFull(r.s.up.r, b[at:]); err != nil {
			return nil, err
		}
		var err error
		seg, err = r.s.up.r.ReadSegment(limit - len(b))
		if errors.Is(err, wire.ErrTooLong) {
			if seg, err = r.s.up.r.SkipLine(); err == nil {
				err = r.cutOff(seg)
			}
		}
		if err != nil {
			return nil, err
		}
		b = append(b, seg.Raw...)
	}
	r.whole = b
	return b, nil
}

// cutOff reads to the end of a response that is too long, seg being where
// reading stands. It returns ErrTooLong, or why the rest could not be read.
func (r *response) cutOff(seg wire.Segment) error {
	r.cut = true
	for seg.Literal {
		if err := r.s.up.r.Discard(seg.Size); err != nil {
			return err
		}
		var err error
		seg, err = r.s.up.r.ReadSegment(r.s.cfg.Limits.ResponseBytes)
		if errors.Is(err, wire.ErrTooLong) {
			seg, err = r.s.up.r.SkipLine()
		}
		if err != nil {
			return err
		}
	}
	return wire.ErrTooLong
}

// cutResponse makes a response of a line that was too long, for the claim that
// expects one. Others end the connection.
func (s *session) cutResponse() error {
	head := append(bytes.Clone(s.up.r.Cut()[:min(len(s.up.r.Cut()), maxHead)]), "\r\n"...)
	seg, err := s.up.r.SkipLine()
	if err != nil {
		return err
	}
	if len(head) < maxHead || head[0] != '*' || head[1] != ' ' {
		return wire.ErrTooLong
	}
	r := s.parseResponse(wire.Segment{Raw: head})
	if err := r.cutOff(seg); !errors.Is(err, wire.ErrTooLong) {
		return err
	}
	s.mu.Lock()
	var claim func(*response) (bool, error)
	if len(s.pending) > 0 {
		claim = s.pending[0].claim
	}
	s.mu.Unlock()
	if r.name != "FETCH" || r.isOdd() || claim == nil {
		return wire.ErrTooLong
	}
	if taken, err := claim(r); !taken || err != nil {
		return cmp.Or(err, wire.ErrTooLong)
	}
	return nil
}

// maxHead is enough of a response to tell what it is: "* 4294967295 FETCH (".
const maxHead = 32

// body returns what stands behind the name, without the final CRLF. The
// response must have been loaded, or be one without literals.
func (r *response) body() []byte {
	b := r.whole
	if b == nil {
		b = r.seg.Raw
	}
	if len(b)-2 < r.rest {
		return nil
	}
	return b[r.rest : len(b)-2]
}

// pass sends the response to the client as it is.
func (r *response) pass() error {
	if r.whole != nil {
		return r.s.out.line(r.whole)
	}
	return r.s.out.stream(func(w io.Writer) error {
		seg := r.seg
		for {
			if _, err := w.Write(seg.Raw); err != nil {
				return err
			}
			if !seg.Literal {
				return nil
			}
			if err := r.s.up.r.CopyLiteral(w, seg.Size); err != nil {
				return err
			}
			var err error
			if seg, err = r.s.up.r.ReadSegment(r.s.cfg.Limits.ResponseBytes); err != nil {
				return err
			}
		}
	})
}

// skip reads the response and drops it.
func (r *response) skip() error {
	if r.whole != nil {
		return nil
	}
	seg := r.seg
	for seg.Literal {
		if err := r.s.up.r.Discard(seg.Size); err != nil {
			return err
		}
		var err error
		if seg, err = r.s.up.r.ReadSegment(r.s.cfg.Limits.ResponseBytes); err != nil {
			return err
		}
	}
	return nil
}

// errProtocol is the provider's violation of IMAP.
func errProtocol(what string) error {
	return &providerError{text: "The mail provider sent something that is not IMAP", err: errors.New(what)}
}

// relayLoop reads the provider's responses until its connection ends. It
// returns why.
func (s *session) relayLoop() error {
	s.up.conn.beforeWaiting(func() { _ = s.out.flushRelay() }) // errors show at the next write
	for {
		seg, err := s.up.r.ReadSegment(s.cfg.Limits.ResponseBytes)
		switch {
		case errors.Is(err, wire.ErrTooLong):
			if err := s.cutResponse(); errors.Is(err, wire.ErrTooLong) {
				return errProtocol("line too long")
			} else if err != nil {
				return err
			}
			continue
		case err != nil:
			return fmt.Errorf("read from mail provider: %w", err)
		}
		if err := s.route(seg); err != nil {
			if errors.Is(err, wire.ErrTooLong) {
				return errProtocol("response too long")
			}
			return err
		}
	}
}

// route treats one response by its first octet.
func (s *session) route(seg wire.Segment) error {
	switch line := seg.Line(); {
	case len(line) > 0 && line[0] == '+':
		return s.continuation(line)
	case len(line) > 1 && line[0] == '*' && line[1] == ' ':
		return s.untagged(s.parseResponse(seg))
	default:
		return s.taggedResponse(line)
	}
}

// continuation hands a continuation request to the command that waits for it.
// The client's own is passed on from here: what the provider says next must
// stand behind it.
func (s *session) continuation(line []byte) error {
	c := s.waiting()
	if c == nil {
		return errProtocol("continuation request without reason")
	}
	if c.passCont {
		if err := s.out.line(line, []byte("\r\n")); err != nil {
			return err
		}
	}
	c.cont <- struct{}{} // has room: waiting says so, and only this goroutine sends
	return nil
}

// waiting returns the command for which a continuation request is meant.
func (s *session) waiting() *command {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.pending) - 1; i >= 0; i-- {
		if cap(s.pending[i].cont) > len(s.pending[i].cont) {
			return s.pending[i]
		}
	}
	return nil
}

func (s *session) taggedResponse(line []byte) error {
	tag, rest, _ := bytes.Cut(line, []byte{' '})
	c := s.lookup(string(tag))
	if c == nil {
		return errProtocol("tagged response to no command")
	}
	status, _, _ := bytes.Cut(rest, []byte{' '})
	switch st := strings.ToUpper(string(status)); st {
	case "OK", "NO", "BAD":
		if !c.capture {
			if err := s.out.line(filterStatus(line), []byte("\r\n")); err != nil {
				return err
			}
		}
		s.complete(c, st, bytes.Clone(rest))
		return nil
	}
	return errProtocol("tagged response without status")
}

// isOdd tells whether a mail client may read something else in the response's
// head than parseResponse: what has no name, or a number in another form or where
// none belongs, such as before STORE, which was FETCH in IMAP2.
func (r *response) isOdd() bool {
	if r.name == "" || r.name[0] < 'A' || r.name[0] > 'Z' {
		return true
	}
	first := r.seg.Raw[len("* ")]
	numbered := first >= '0' && first <= '9'
	switch r.name {
	case "FETCH", "EXPUNGE", "EXISTS", "RECENT":
		return !numbered
	}
	return numbered
}

// untagged offers the response to the command that claims it, notes what it
// says of the mailbox, and passes it on.
func (s *session) untagged(r *response) error {
	if r.isOdd() {
		return errProtocol("untagged response out of grammar")
	}
	s.mu.Lock()
	var claim func(*response) (bool, error)
	if len(s.pending) > 0 {
		claim = s.pending[0].claim // those that claim run alone
	}
	s.mu.Unlock()
	if claim != nil {
		if taken, err := claim(r); taken || err != nil {
			return err
		}
	}
	switch r.name {
	case "FETCH", "EXISTS", "EXPUNGE", "VANISHED", "RECENT":
		if s.abandoned() {
			return s.skipNumbers(r)
		}
	}
	switch r.name {
	case "FETCH":
		return s.passFetch(r)
	case "EXISTS", "EXPUNGE", "VANISHED":
		return s.passNumbers(r)
	case "CAPABILITY", "OK", "NO", "BAD", "PREAUTH", "FLAGS":
		return s.passStatus(r)
	case "BYE":
		s.mu.Lock()
		s.bye = true
		s.mu.Unlock()
	case "ENABLED":
		if containsFold(r.seg.Line(), "qresync") {
			s.mu.Lock()
			s.qresync = true
			s.mu.Unlock()
		}
	}
	return r.pass()
}

// passNumbers notes a change of the mailbox's numbering and passes it on.
func (s *session) passNumbers(r *response) error {
	if r.name == "VANISHED" {
		if _, err := r.load(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.box != nil {
		s.box.apply(r)
	}
	s.mu.Unlock()
	return r.pass()
}

func (s *session) abandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.box != nil && s.box.abandoned
}

// skipNumbers notes a change without telling the client.
func (s *session) skipNumbers(r *response) error {
	if _, err := r.load(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.box.apply(r)
	return nil
}

// passStatus passes a status response, a capability list or the mailbox's
// flags on, filtered.
func (s *session) passStatus(r *response) error {
	if _, err := r.load(); err != nil {
		return err
	}
	s.mu.Lock()
	line := r.seg.Line()
	if s.box != nil {
		line = s.box.filterFlagLists(line)
	}
	s.mu.Unlock()
	return s.out.line(filterStatus(line), []byte("\r\n"))
}
