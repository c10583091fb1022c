package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/wire"
)

const (
	// windowMessages is how many BODYSTRUCTUREs one command asks for. Larger
	// ranges are searched for our media type first.
	windowMessages = 1000
	// setRanges is how many ranges one command's message set may have.
	setRanges = 500
	// maxRounds bounds how often new arrivals prolong one classification.
	maxRounds = 10
)

// searchControl finds messages whose root says that they are sealed, and those
// whose root was rewritten on the way but that kept the marker field.
const searchControl = `SEARCH %d:%d OR HEADER Content-Type "vnd.cloudmls.control" HEADER CloudMLS-Conversation ""`

// classify finds out which of the messages that are new since the last time
// are sealed. Nothing else may be in progress at the provider.
func (s *session) classify() error {
	for range maxRounds {
		s.mu.Lock()
		box := s.box
		lo, hi := box.classified+1, box.exists
		s.mu.Unlock()
		if lo > hi {
			return nil
		}
		err := s.classifyRange(box, lo, hi)
		if errors.Is(err, errMissing) && s.mayExpunge {
			// Messages are gone that the provider could not tell of.
			if _, err := s.own([]byte("NOOP"), nil); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errMissing says that the provider did not answer for every message: some
// were expunged by someone else.
var errMissing = &Failure{Code: "EXPUNGEISSUED", Text: "Some messages were removed meanwhile, please try again"}

// classifyRange classifies messages lo to hi, which follow those classified.
func (s *session) classifyRange(box *mailbox, lo, hi uint32) error {
	candidates, err := s.candidates(lo, hi)
	if err != nil {
		return err
	}
	found := make(map[uint32]*sealedEntry)
	for window := range slices.Chunk(candidates, windowMessages) {
		if err := s.structures(window, found); err != nil {
			return err
		}
	}
	s.mu.Lock()
	needUIDs := len(found) > 0 || box.uids != nil || s.qresync
	from := uint32(len(box.uids)) + 1
	s.mu.Unlock()
	last := uint32(0)
	if needUIDs {
		uids, err := s.fetchUIDs(from, hi)
		if err != nil {
			return err
		}
		s.mu.Lock()
		box.uids = append(box.uids, uids...)
		s.mu.Unlock()
		last = uids[len(uids)-1]
	} else {
		uids, err := s.fetchUIDs(hi, hi)
		if err != nil {
			return err
		}
		last = uids[0]
	}

	change := Change{ClassifiedTo: last, Put: make(map[uint32]Entry)}
	s.mu.Lock()
	first := len(found) > 0 && len(box.sealed) == 0
	for uid, e := range found {
		box.sealed[uid] = e
		change.Put[uid] = e.Entry
	}
	box.classified, box.classifiedTo = hi, last
	s.mu.Unlock()
	s.updateIndex(box, change)
	if first && !box.extended && (box.flags != nil || box.permanent != nil) {
		return s.announceKeywords(box)
	}
	return nil
}

// announceKeywords tells the client of our keywords when the first sealed
// message arrives in an open mailbox. While SELECT is in progress its own
// answer does.
func (s *session) announceKeywords(box *mailbox) error {
	s.mu.Lock()
	if box.selecting {
		s.mu.Unlock()
		return nil
	}
	box.extended = true
	text := box.announcement()
	s.mu.Unlock()
	if err := s.out.line(text); err != nil {
		return errGone
	}
	return nil
}

// candidates returns the messages of a range that may be sealed.
func (s *session) candidates(lo, hi uint32) ([]uint32, error) {
	if hi-lo >= windowMessages {
		hits, err := s.search(fmt.Appendf(nil, searchControl, lo, hi))
		var refused *refusal
		if err == nil {
			hits = slices.DeleteFunc(hits, func(n uint32) bool { return n < lo || n > hi })
			slices.Sort(hits)
			return slices.Compact(hits), nil
		}
		if !errors.As(err, &refused) {
			return nil, err
		}
	}
	all := make([]uint32, 0, hi-lo+1)
	for n := lo; n <= hi; n++ {
		all = append(all, n)
	}
	return all, nil
}

// search runs a SEARCH and returns the sequence numbers found.
func (s *session) search(text []byte) ([]uint32, error) {
	var found []uint32
	_, err := s.own(text, func(r *response) (bool, error) {
		if r.name != "SEARCH" {
			return false, nil
		}
		if _, err := r.load(); err != nil {
			return false, err
		}
		sc := wire.NewScanner(r.body())
		for {
			for sc.SP() {
			}
			n, ok := sc.Number() // ends at "(MODSEQ n)"
			if !ok || n > 1<<32-1 {
				return true, nil
			}
			found = append(found, uint32(n))
		}
	})
	return found, err
}

// structures looks at the BODYSTRUCTUREs of messages and adds the sealed ones. Ours
// are short: a message with one that is longer than a response may be is none, or
// anybody could close a mailbox by what they send.
func (s *session) structures(seqs []uint32, found map[uint32]*sealedEntry) error {
	return s.fetchOwn(wire.SetOf(seqs), "UID BODYSTRUCTURE", "BODYSTRUCTURE", func(_ uint32, items []overlay.ResponseItem) error {
		layout, ok := overlay.Locate(overlay.FindItem(items, "BODYSTRUCTURE").Value)
		if !ok {
			return nil
		}
		uid := itemUID(items)
		if uid == 0 {
			return errProtocol("FETCH without UID")
		}
		found[uid] = &sealedEntry{Entry: Entry{Layout: layout.String()}, layout: layout}
		return nil
	})
}

// fetchUIDs returns the UIDs of messages lo to hi.
func (s *session) fetchUIDs(lo, hi uint32) ([]uint32, error) {
	uids := make([]uint32, hi-lo+1)
	err := s.fetchOwn(wire.Set{{Lo: lo, Hi: hi}}, "UID", "UID", func(seq uint32, items []overlay.ResponseItem) error {
		if seq >= lo && seq <= hi {
			uids[seq-lo] = itemUID(items)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, uid := range uids {
		switch {
		case uid == 0:
			return nil, errMissing
		case i > 0 && uid <= uids[i-1]:
			return nil, errProtocol("UIDs are not ascending")
		}
	}
	return uids, nil
}

func itemUID(items []overlay.ResponseItem) uint32 {
	it := overlay.FindItem(items, "UID")
	if it == nil {
		return 0
	}
	n, ok := wire.NewScanner(it.Value).Number()
	if !ok || n > 1<<32-1 {
		return 0
	}
	return uint32(n)
}

// fetchOwn runs a FETCH of the relay's own. each gets the responses that have
// the item named want, on the relay goroutine; what else the provider says
// goes to the client. Flags that come along unasked are passed on by
// themselves.
func (s *session) fetchOwn(set wire.Set, items, want string, each func(seq uint32, items []overlay.ResponseItem) error) error {
	flagsAsked := bytes.Contains([]byte(items), []byte("FLAGS"))
	for _, part := range set.Chunks(setRanges) {
		text := append(part.Append([]byte("FETCH ")), " ("+items+")"...)
		_, err := s.own(text, func(r *response) (bool, error) {
			if r.name != "FETCH" {
				return false, nil
			}
			_, err := r.load()
			if r.cut && errors.Is(err, wire.ErrTooLong) && want == "BODYSTRUCTURE" {
				return part.Contains(r.num), nil
			}
			if err != nil {
				return false, err
			}
			got, err := overlay.ParseItems(r.body())
			if err != nil {
				return false, errProtocol("FETCH response")
			}
			if !part.Contains(r.num) || overlay.FindItem(got, want) == nil {
				return false, nil
			}
			if !flagsAsked && overlay.FindItem(got, "FLAGS") != nil {
				if err := s.passFlags(r.num, got); err != nil {
					return false, err
				}
			}
			return true, each(r.num, got)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// passFlags tells the client of flags that came with other items.
func (s *session) passFlags(seq uint32, got []overlay.ResponseItem) error {
	items := []overlay.ResponseItem{*overlay.FindItem(got, "FLAGS")}
	if m := overlay.FindItem(got, "MODSEQ"); m != nil {
		if u := overlay.FindItem(got, "UID"); u != nil {
			items = append(items, *u)
		}
		items = append(items, *m)
	}
	s.mu.Lock()
	var own []string
	if s.box != nil {
		own = s.box.keywordsOf(s.box.uidAt(seq))
	}
	s.mu.Unlock()
	line := appendItems(fmt.Appendf(nil, "* %d FETCH ", seq), items, own)
	return s.out.line(line, []byte("\r\n"))
}
