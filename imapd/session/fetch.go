package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

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
		return e == nil || e.Opened
	})
	s.mu.Unlock()
	for window := range slices.Chunk(unknown, openWindow) {
		if _, _, err := s.openAll(window); err != nil {
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
	for window := range slices.Chunk(sealed, openWindow) {
		f, err := s.fetchWindow(req, window, uid)
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

// fetchWindow answers for a few sealed messages. failed says that some of them
// could not be served; err ends the command.
func (s *session) fetchWindow(req *overlay.Request, uids []uint32, uid bool) (failed, err error) {
	s.mu.Lock()
	box := s.box
	s.mu.Unlock()
	var provided map[uint32][]overlay.ResponseItem
	if len(req.Modifiers) > 0 {
		// The modifiers say which messages are answered at all.
		provided, err = s.fetchProvided(box, req, uids, false)
		if err != nil {
			return nil, err
		}
		uids = slices.DeleteFunc(slices.Clone(uids), func(u uint32) bool { return provided[u] == nil })
	}
	views, failed, err := s.openAll(uids)
	if err != nil {
		return nil, err
	}
	var serve []uint32
	for _, u := range uids {
		v := views[u]
		if v == nil {
			continue
		}
		if err := s.checkBroken(box, u, v, req); err != nil {
			failed = err
			continue
		}
		serve = append(serve, u)
	}
	seen := slices.ContainsFunc(req.Items, func(it overlay.Item) bool { return it.SetsSeen() })
	if provided == nil || seen {
		if provided, err = s.fetchProvided(box, req, serve, seen); err != nil {
			return nil, err
		}
	}
	for _, u := range serve {
		if err := s.answerOne(box, req, u, views[u], provided[u], uid); err != nil {
			if errors.Is(err, errGone) || errors.Is(err, errCut) {
				return nil, err
			}
			s.log.Warn("encrypted message not served", "error", err)
			failed = err
		}
	}
	return failed, nil
}

// checkBroken reads a message once before it is served when its content broke
// off the last time: the client gets NO then, and no cut connection.
func (s *session) checkBroken(box *mailbox, uid uint32, v *overlay.View, req *overlay.Request) error {
	s.mu.Lock()
	e := box.sealed[uid]
	broken := e != nil && e.Broken
	s.mu.Unlock()
	if !broken || !slices.ContainsFunc(req.Items, func(it overlay.Item) bool { return it.ReadsContent() }) {
		return nil
	}
	return v.Verify()
}

// fetchProvided asks the provider for the items that are its own, and sets
// \Seen where that is asked by fetching a piece of the message without PEEK
// (RFC 9051 section 6.4.5).
func (s *session) fetchProvided(box *mailbox, req *overlay.Request, uids []uint32, seen bool) (map[uint32][]overlay.ResponseItem, error) {
	provided := make(map[uint32][]overlay.ResponseItem, len(uids))
	items := []byte("UID")
	for i := range req.Items {
		it := &req.Items[i]
		if it.Class() == policy.Provider && it.Name != "UID" {
			items = append(append(items, ' '), it.Text...)
		}
	}
	const seenItem = "BODY[HEADER.FIELDS (MIME-Version)]"
	if seen {
		items = append(items, " "+seenItem...)
	}
	if len(items) == len("UID") && len(req.Modifiers) == 0 {
		return provided, nil
	}
	set := s.seqSet(box, uids)
	if len(set) == 0 {
		return provided, nil
	}
	text := set.Append([]byte("FETCH "))
	text = append(append(append(text, " ("...), items...), ')')
	text = append(text, withoutVanished(req.Modifiers)...)
	wanted := make(map[uint32]bool, len(uids))
	for _, u := range uids {
		wanted[u] = true
	}
	_, err := s.own(text, func(r *response) (bool, error) {
		if r.name != "FETCH" {
			return false, nil
		}
		if _, err := r.load(); err != nil {
			return false, err
		}
		got, err := overlay.ParseItems(r.body())
		if err != nil {
			return false, errProtocol("FETCH response")
		}
		s.mu.Lock()
		u := box.uidAt(r.num)
		s.mu.Unlock()
		if !wanted[u] {
			return false, nil
		}
		// A provider may answer in several responses: the later value counts.
		for _, it := range got {
			if it.Name == "UID" || hasPrefixFold([]byte(it.Name), "BODY[") {
				continue
			}
			if old := overlay.FindItem(provided[u], it.Name); old != nil {
				*old = it
			} else {
				provided[u] = append(provided[u], it)
			}
		}
		if provided[u] == nil {
			provided[u] = []overlay.ResponseItem{}
		}
		return true, nil
	})
	return provided, err
}

// withoutVanished drops the VANISHED modifier, which goes with UID FETCH only
// (RFC 7162 section 3.2.6): the provider tells of vanished messages in its
// answer for the plain ones.
func withoutVanished(modifiers []byte) []byte {
	words := strings.Fields(strings.Trim(string(modifiers), " ()"))
	words = slices.DeleteFunc(words, func(w string) bool { return equalFold(w, "VANISHED") })
	if len(words) == 0 {
		return nil
	}
	return []byte(" (" + strings.Join(words, " ") + ")")
}

// errCut says that a response broke off in the middle: the connection must be
// closed.
var errCut = errors.New("response broke off")

// answerOne sends the FETCH response of one sealed message.
func (s *session) answerOne(box *mailbox, req *overlay.Request, uid uint32, v *overlay.View, provided []overlay.ResponseItem, byUID bool) error {
	s.mu.Lock()
	seq := box.seqOf(uid)
	var own []string
	if e := box.sealed[uid]; e != nil {
		own = e.keywords()
	}
	s.mu.Unlock()
	if seq == 0 {
		return nil // gone meanwhile, as EXPUNGE has told
	}
	items := req.Items
	uidItem := overlay.ResponseItem{Name: "UID", Value: fmt.Appendf(nil, "%d", uid)}
	asked := slices.ContainsFunc(items, func(it overlay.Item) bool { return it.Name == "UID" })
	if byUID && !asked {
		items = append([]overlay.Item{{Name: "UID", Text: []byte("UID")}}, items...)
	}
	final := make([]overlay.ResponseItem, 0, len(provided)+1)
	if byUID || asked {
		final = append(final, uidItem)
	}
	for _, it := range provided {
		if it.Name == "FLAGS" {
			it.Value = flagValue(it.Flags(), own)
		}
		final = append(final, it)
	}
	answer, err := overlay.NewAnswer(seq, items, v, final)
	if err != nil {
		return err
	}
	s.out.begin()
	_, err = answer.WriteTo(s.out.direct())
	if err != nil {
		if errors.Is(err, overlay.ErrCorrupt) {
			s.markBroken(box, uid)
		}
		return fmt.Errorf("%w: %w", errCut, err)
	}
	if err := s.out.end(); err != nil {
		return errGone
	}
	return nil
}

// markBroken remembers that a message's content is damaged.
func (s *session) markBroken(box *mailbox, uid uint32) {
	s.mu.Lock()
	e := box.sealed[uid]
	if e == nil {
		s.mu.Unlock()
		return
	}
	e.Broken = true
	entry := e.Entry
	s.mu.Unlock()
	s.updateIndex(box, Change{Put: map[uint32]Entry{uid: entry}})
}
