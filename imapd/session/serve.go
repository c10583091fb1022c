package session

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

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
	views, failed, err := s.openAll(uids, toShow)
	if err != nil {
		return nil, err
	}
	var serve []uint32
	for _, u := range uids {
		if views[u] != nil {
			serve = append(serve, u)
		}
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
			s.report(slog.LevelWarn, "encrypted message not served", err)
			failed = err
		}
	}
	return failed, nil
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
	left := s.cfg.Limits.ResponseBytes
	_, err := s.own(text, func(r *response) (bool, error) {
		if r.name != "FETCH" {
			return false, nil
		}
		whole, err := r.load()
		if err != nil {
			return false, err
		}
		// All of them are kept until they are answered.
		if left -= len(whole); left < 0 {
			return false, wire.ErrTooLong
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
	items := req.Items
	asked := slices.ContainsFunc(items, func(it overlay.Item) bool { return it.Name == "UID" })
	if byUID && !asked {
		items = append([]overlay.Item{{Name: "UID", Text: []byte("UID")}}, items...)
	}
	seq := uint32(0)
	answer, err := s.serveContent(box, uid, v, func(c *overlay.Content, superseded bool) (*overlay.Answer, error) {
		if superseded && overlay.FindItem(provided, "FLAGS") == nil {
			// The keywords that were shown do not hold any more.
			flags, err := s.fetchFlags(box, uid)
			if err != nil {
				return nil, err
			}
			provided = append(provided, flags...)
		}
		s.mu.Lock()
		seq = box.seqOf(uid)
		own := box.keywordsOf(uid)
		s.mu.Unlock()
		if seq == 0 {
			return nil, nil // gone meanwhile, as EXPUNGE has told
		}
		final := make([]overlay.ResponseItem, 0, len(provided)+1)
		if byUID || asked {
			final = append(final, overlay.ResponseItem{Name: "UID", Value: fmt.Appendf(nil, "%d", uid)})
		}
		for _, it := range provided {
			if it.Name == "FLAGS" {
				it.Value = flagValue(it.Flags(), own)
			}
			final = append(final, it)
		}
		return overlay.NewAnswer(seq, items, c, final)
	})
	if err != nil || answer == nil {
		return err
	}
	s.out.begin()
	if _, err = answer.WriteTo(s.out.direct()); err != nil {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	if err := s.out.end(); err != nil {
		return errGone
	}
	return nil
}

// fetchFlags asks the provider for the flags of one message.
func (s *session) fetchFlags(box *mailbox, uid uint32) ([]overlay.ResponseItem, error) {
	var flags []overlay.ResponseItem
	err := s.fetchOwn(s.seqSet(box, []uint32{uid}), "UID FLAGS", "FLAGS", func(_ uint32, got []overlay.ResponseItem) error {
		if itemUID(got) == uid {
			flags = []overlay.ResponseItem{*overlay.FindItem(got, "FLAGS")}
		}
		return nil
	})
	return flags, err
}
