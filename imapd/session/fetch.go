package session

import (
	"bytes"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// fetch treats FETCH and UID FETCH. Ranges without sealed messages go to the
// provider as they are; otherwise the set is split: plain messages by the
// provider, sealed ones from their opened content.
func (s *session) fetch(cmd *clientCommand) error {
	uid := cmd.name == "UID FETCH"
	req, err := overlay.ParseRequest(cmd.arguments())
	if s.plainRange(req, err, uid) {
		return s.forward(cmd, nil)
	}
	return s.exclusive(cmd, func(cmd *clientCommand) error {
		return s.fetchExclusive(cmd, req, uid)
	})
}

// plainRange tells whether a FETCH can be passed on at once, with other
// commands in progress: nothing that it names is sealed or unknown.
func (s *session) plainRange(req *overlay.Request, err error, uid bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := s.box
	if box == nil {
		return true // the provider says what is wrong
	}
	if box.classified < box.exists {
		return false
	}
	if err != nil {
		return len(box.sealed) == 0
	}
	set, err := wire.ParseSet(req.Set)
	if err != nil {
		return false // "$", or an error that the handler tells of
	}
	if uid {
		// An open end may name a message that arrives with the commands that
		// are still in progress.
		if set.HasStar() || set.Max() > box.lastUID() {
			return false
		}
		return len(box.sealed) == 0 || len(box.sealedUIDs(set.Resolve(0), true)) == 0
	}
	// Sequence numbers may shift under commands in progress.
	return len(box.sealed) == 0 && set.Max() <= box.classified && !(set.HasStar() && len(s.pending) > 0)
}

// fetchExclusive runs a FETCH alone.
func (s *session) fetchExclusive(cmd *clientCommand, req *overlay.Request, uid bool) error {
	s.mayExpunge = uid
	defer func() { s.mayExpunge = false }()
	if err := s.classify(); err != nil {
		return err
	}
	s.mu.Lock()
	box := s.box
	nothingSealed := len(box.sealed) == 0
	s.mu.Unlock()
	if nothingSealed && req == nil {
		return s.forward(cmd, nil)
	}
	if nothingSealed {
		return s.fetchOpenEnd(cmd, req, uid)
	}
	if req == nil {
		return s.bad(cmd.tag, "Invalid FETCH command")
	}
	set, err := s.resolveSet(req.Set, uid)
	if errors.Is(err, wire.ErrSyntax) {
		return s.bad(cmd.tag, "Invalid message set")
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	sealed := box.sealedUIDs(set, uid)
	s.mu.Unlock()

	content, flags := false, false
	for i := range req.Items {
		content = content || req.Items[i].Class() != policy.Provider
		flags = flags || req.Items[i].Name == "FLAGS"
	}
	if len(sealed) == 0 || !content {
		if flags {
			if err := s.learnKeywords(box, sealed); err != nil {
				return err
			}
		}
		return s.fetchOpenEnd(cmd, req, uid)
	}
	return s.fetchSplit(cmd, req, set, sealed, uid)
}

// fetchOpenEnd passes a FETCH on as it is. Where its set has an open end, a
// message may arrive while the provider answers, of which the relay does not
// know whether it is sealed: its content was held back, and is fetched again
// once that is known.
func (s *session) fetchOpenEnd(cmd *clientCommand, req *overlay.Request, uid bool) error {
	s.mu.Lock()
	box := s.box
	box.missed = false
	before := box.classified
	if uid {
		before = box.lastUID()
	}
	s.mu.Unlock()
	c := &command{capture: true}
	if err := s.forward(cmd, c); err != nil {
		return err
	}
	if err := s.wait(c); err != nil {
		return err
	}
	s.mu.Lock()
	missed := box.missed
	s.mu.Unlock()
	if missed && c.status == "OK" {
		if err := s.classify(); err != nil {
			return err
		}
		set, err := s.resolveSet(req.Set, uid)
		if err != nil {
			return err
		}
		set = set.From(before + 1)
		s.mu.Lock()
		sealed := box.sealedUIDs(set, uid)
		s.mu.Unlock()
		return s.fetchSplit(cmd, req, set, sealed, uid)
	}
	return s.tagged(cmd.tag, string(filterTagged(c.line)))
}

// resolveSet turns the client's message set into numbers.
func (s *session) resolveSet(text []byte, uid bool) (wire.Set, error) {
	s.mu.Lock()
	last := s.box.classified
	if uid {
		last = s.box.lastUID()
	}
	s.mu.Unlock()
	if string(text) != "$" {
		set, err := wire.ParseSet(text)
		if err != nil {
			return nil, wire.ErrSyntax
		}
		return set.Resolve(last), nil
	}
	// The saved search result (RFC 5182).
	seqs, err := s.search([]byte("SEARCH $"))
	if err != nil {
		return nil, err
	}
	slices.Sort(seqs)
	if uid {
		s.mu.Lock()
		for i, n := range seqs {
			seqs[i] = s.box.uidAt(n)
		}
		s.mu.Unlock()
		seqs = slices.DeleteFunc(seqs, func(n uint32) bool { return n == 0 })
	}
	return wire.SetOf(slices.Compact(seqs)), nil
}

// learnKeywords opens those messages whose keywords are not known yet. A
// message that cannot be opened now has $MLSEncrypted alone.
func (s *session) learnKeywords(box *mailbox, uids []uint32) error {
	s.mu.Lock()
	unknown := slices.DeleteFunc(slices.Clone(uids), func(u uint32) bool {
		e := box.sealed[u]
		return e == nil || e.Opened && !box.shown.outdated(u, e.StubKey)
	})
	s.mu.Unlock()
	for window := range slices.Chunk(unknown, openWindow) {
		if _, _, err := s.openAll(window, forFlag); err != nil {
			return err
		}
	}
	return nil
}

// fetchSplit answers a FETCH that touches sealed messages.
func (s *session) fetchSplit(cmd *clientCommand, req *overlay.Request, set wire.Set, sealed []uint32, uid bool) error {
	for i := range req.Items {
		if req.Items[i].Class() == policy.Unsupported {
			return overlay.ErrUnsupported
		}
	}
	final, err := s.fetchPlain(req, set, sealed, uid)
	if err != nil {
		return err
	}
	var failed error
	for len(sealed) > 0 {
		n := s.windowOf(sealed)
		f, err := s.fetchWindow(req, sealed[:n], uid)
		sealed = sealed[n:]
		if err != nil {
			return err
		}
		if f != nil {
			failed = f
		}
	}
	if failed != nil {
		return failed
	}
	if final == nil {
		return s.tagged(cmd.tag, "OK FETCH completed")
	}
	if err := s.out.line([]byte(cmd.tag+" "), filterTagged(final), []byte("\r\n")); err != nil {
		return errGone
	}
	return nil
}

// fetchPlain has the provider answer for the plain messages of a set. It
// returns the provider's last word, or nil if there are none.
func (s *session) fetchPlain(req *overlay.Request, set wire.Set, sealed []uint32, uid bool) ([]byte, error) {
	drop := sealed
	verb := []byte("UID FETCH ")
	if !uid {
		verb = verb[4:]
		drop = nil
		s.mu.Lock()
		for _, u := range sealed {
			if n := s.box.seqOf(u); n > 0 {
				drop = append(drop, n)
			}
		}
		s.mu.Unlock()
	}
	var final []byte
	for _, part := range set.Minus(drop).Chunks(setRanges) {
		text := part.Append(bytes.Clone(verb))
		text = append(append(append(text, ' '), req.ItemText...), req.Modifiers...)
		c, err := s.own(text, nil)
		var refused *refusal
		if errors.As(err, &refused) {
			return nil, &verbatim{line: c.line}
		}
		if err != nil {
			return nil, err
		}
		final = c.line
	}
	return final, nil
}
