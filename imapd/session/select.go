package session

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/wire"
)

// selection is the provider's answer to SELECT or EXAMINE, kept back until the
// mailbox has been classified.
type selection struct {
	box *mailbox
	// lines are the untagged responses in their order, fetches the FETCH
	// responses among them (QRESYNC).
	lines   [][]byte
	fetches []selectedFetch
	size    int
	uidNext uint32
	// closed: the provider said that the old mailbox is closed (RFC 7162
	// section 3.2.11).
	closed bool
}

// selectMailbox runs SELECT and EXAMINE: it reads the answer, classifies the
// messages, gives those that opened since a new UID, and passes the answer on.
func (s *session) selectMailbox(cmd *clientCommand) error {
	name, known := mailboxName(cmd.arguments())
	if !known {
		// The provider says what is wrong. Where it finds nothing wrong, the
		// text stands for the name.
		name = strings.TrimSpace(string(cmd.arguments()))
	}
	// What arrives meanwhile belongs behind the answer.
	s.out.hold()
	s.mayExpunge = true
	err := s.selectHeld(cmd, name, !known)
	s.mayExpunge = false
	if rerr := s.out.release(); err == nil && rerr != nil {
		err = errGone
	}
	return err
}

// selectHeld is selectMailbox while the output is held. odd: the name is not one
// that could be written again, so nothing is stored in this mailbox.
func (s *session) selectHeld(cmd *clientCommand, name string, odd bool) error {
	sel, c, err := s.runSelect(cmd, cmd.tag, name)
	if err != nil {
		return err
	}
	sel.box.readOnly = sel.box.readOnly || odd
	if c.status == "OK" {
		if err := s.openMailbox(sel); err != nil {
			s.setBox(nil)
			return fmt.Errorf("classify mailbox: %w", err)
		}
		again, err := s.reissue(sel.box)
		if err != nil {
			s.setBox(nil)
			return err
		}
		if again {
			s.setBox(nil)
			if sel, c, err = s.runSelect(cmd, s.nextTag(), name); err != nil {
				return err
			}
			if c.status == "OK" {
				if err := s.openMailbox(sel); err != nil {
					s.setBox(nil)
					return fmt.Errorf("classify mailbox: %w", err)
				}
			}
		}
	}
	return s.answerSelect(cmd.tag, sel, c)
}

// runSelect sends the command under a tag and collects the answer.
func (s *session) runSelect(cmd *clientCommand, tag, name string) (*selection, *command, error) {
	sel := &selection{box: &mailbox{name: name, sealed: make(map[uint32]*sealedEntry), selecting: true}}
	c := &command{tag: tag, capture: true, claim: func(r *response) (bool, error) {
		return sel.claim(r, s.cfg.Limits.ResponseBytes)
	}}
	if err := s.start(c); err != nil {
		return nil, nil, err
	}
	at := len(cmd.tag)
	literals := make([]literalPos, len(cmd.literals))
	for i, l := range cmd.literals {
		literals[i] = literalPos{l.announce - at, l.data - at, l.end - at, l.binary}
	}
	if err := s.write([]byte(tag)); err != nil {
		return nil, nil, err
	}
	if err := s.writeCommand(c, cmd.raw[at:], literals); err != nil {
		return nil, nil, err
	}
	if err := s.wait(c); err != nil {
		return nil, nil, err
	}
	// OK and NO leave the old mailbox (RFC 9051 section 6.3.2). After a BAD that
	// does not say so it may still be open: then it stays what it is.
	if c.status != "BAD" || sel.closed {
		s.setBox(nil)
	}
	_, code := splitStatus(append([]byte("x "), c.line...))
	sel.box.readOnly = cmd.name == "EXAMINE" || hasPrefixFold(code, "[READ-ONLY]")
	return sel, c, nil
}

// claim collects the answer and reads from it what the relay must know.
func (sel *selection) claim(r *response, limit int) (bool, error) {
	if r.name == "BYE" || r.name == "CAPABILITY" {
		return false, nil
	}
	b, err := r.load()
	if err != nil {
		return false, err
	}
	b = bytes.Clone(b)
	if sel.size += len(b); sel.size > 4*limit {
		return false, wire.ErrTooLong
	}
	if r.name == "FETCH" {
		sel.fetches = append(sel.fetches, selectedFetch{r.num, b, bringsContent(r)})
		return true, nil
	}
	box := sel.box
	line := b[:len(b)-2]
	switch r.name {
	case "EXISTS", "EXPUNGE", "VANISHED":
		box.apply(r)
	case "OK":
		if _, rest := splitStatus(line); hasPrefixFold(rest, "[CLOSED]") {
			sel.closed = true
		}
		if n, ok := parseCode(line, "UIDVALIDITY"); ok {
			box.uidValidity = n
		} else if n, ok := parseCode(line, "UIDNEXT"); ok {
			sel.uidNext = n
		}
	}
	if r.name == "FLAGS" || r.name == "OK" {
		// Reads the lists, and drops the provider's namesakes of ours.
		b = append(bytes.Clone(box.filterFlagLists(line)), "\r\n"...)
	}
	sel.lines = append(sel.lines, b)
	return true, nil
}

// openMailbox makes the selected mailbox current and classifies it.
func (s *session) openMailbox(sel *selection) error {
	s.setBox(sel.box)
	if err := s.loadIndex(sel); err != nil {
		return err
	}
	return s.classify()
}

// answerSelect passes the collected answer on.
func (s *session) answerSelect(tag string, sel *selection, c *command) error {
	s.mu.Lock()
	box := sel.box
	box.selecting = false
	box.extended = c.status == "OK" && len(box.sealed) > 0
	var out []byte
	for _, line := range sel.lines {
		out = append(append(out, box.filterFlagLists(line[:len(line)-2])...), "\r\n"...)
	}
	for _, f := range sel.fetches {
		line, err := box.fetchSelected(f)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		out = append(out, line...)
	}
	s.mu.Unlock()
	out = append(out, tag+" "...)
	out = append(append(out, filterTagged(c.line)...), "\r\n"...)
	if _, err := s.out.direct().Write(out); err != nil {
		return errGone
	}
	return nil
}

// selectedFetch is a FETCH response that came with SELECT (QRESYNC).
type selectedFetch struct {
	num     uint32
	text    []byte
	content bool // it has items about the message's content
}

// fetchSelected returns such a response for the client: flags as it sees them,
// and nothing of the content, which no provider is asked for here.
func (b *mailbox) fetchSelected(f selectedFetch) ([]byte, error) {
	if f.content {
		return nil, nil
	}
	uid := uint32(0)
	if len(b.sealed) > 0 {
		uid = b.uidAt(f.num)
	}
	return rewriteWhole(f.text, b.keywordsOf(uid), uid)
}

// filterTagged is filterStatus for a line without its tag.
func filterTagged(line []byte) []byte {
	return filterStatus(append([]byte("* "), line...))[2:]
}

// mailboxName reads a mailbox argument; INBOX in any case is "INBOX".
func mailboxName(args []byte) (string, bool) {
	sc := wire.NewScanner(args)
	name, ok := sc.AString()
	if !ok {
		return "", false
	}
	if equalFold(string(name), "INBOX") {
		return "INBOX", true
	}
	return string(name), true
}

// loadIndex takes over what the index knows of the mailbox.
func (s *session) loadIndex(sel *selection) error {
	box := sel.box
	if s.idx == nil || box.uidValidity == 0 {
		return nil
	}
	state, err := s.idx.Load(box.name, box.uidValidity)
	if err != nil {
		// Without the stubs that were shown, UIDs could change their content.
		return fmt.Errorf("load mailbox index: %w", err)
	}
	s.mu.Lock()
	exists := box.exists
	s.mu.Unlock()
	switch {
	case state.ClassifiedTo == 0 || exists == 0:
		return nil
	case len(state.Sealed) > 0:
		return s.adoptSealed(box, state)
	case sel.uidNext > 0 && state.ClassifiedTo+1 >= sel.uidNext:
		s.mu.Lock()
		box.classified, box.classifiedTo = box.exists, state.ClassifiedTo
		s.mu.Unlock()
		return nil
	}
	// Nothing sealed so far: where does the new range begin?
	seqs, err := s.search(fmt.Appendf(nil, "SEARCH UID %d:*", state.ClassifiedTo+1))
	var refused *refusal
	if errors.As(err, &refused) {
		return nil // classify all
	}
	if err != nil {
		return err
	}
	first := exists + 1
	for _, n := range seqs {
		first = min(first, n)
	}
	s.mu.Lock()
	box.classified, box.classifiedTo = min(first-1, box.exists), state.ClassifiedTo
	s.mu.Unlock()
	return nil
}

// adoptSealed loads the UIDs and keeps those index entries whose message is
// still there.
func (s *session) adoptSealed(box *mailbox, state State) error {
	s.mu.Lock()
	exists := box.exists
	s.mu.Unlock()
	uids, err := s.fetchUIDs(1, exists)
	if err != nil {
		return err
	}
	there := make(map[uint32]bool, len(uids))
	n := 0
	for i, uid := range uids {
		there[uid] = true
		if uid <= state.ClassifiedTo {
			n = i + 1
		}
	}
	var gone []uint32
	s.mu.Lock()
	for uid, e := range state.Sealed {
		if !there[uid] {
			gone = append(gone, uid)
			continue
		}
		layout, err := overlay.ParseLayout(e.Layout)
		if err != nil {
			s.mu.Unlock()
			return fmt.Errorf("read mailbox index: %w", err)
		}
		box.sealed[uid] = &sealedEntry{Entry: e, layout: layout}
	}
	box.uids = uids[:n:n]
	box.classified, box.classifiedTo = uint32(n), state.ClassifiedTo
	s.mu.Unlock()
	if len(gone) > 0 {
		s.updateIndex(box, Change{Delete: gone})
	}
	return nil
}

// updateIndex stores a change; the index is a cache here, so an error is only
// logged.
func (s *session) updateIndex(box *mailbox, c Change) {
	if s.idx == nil || box.uidValidity == 0 {
		return
	}
	if err := s.idx.Update(box.name, box.uidValidity, c); err != nil {
		s.log.Warn("update mailbox index", "error", err)
	}
}
