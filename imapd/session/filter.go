package session

import (
	"bytes"
	"io"
	"strings"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
)

// filterStatus filters the capabilities in an untagged CAPABILITY or in the
// response code of a status response; other lines come back as they are.
func filterStatus(line []byte) []byte {
	list, ok := capabilityList(line)
	if !ok {
		return line
	}
	at := bytes.Index(line, list)
	shown := strings.Join(policy.FilterCapabilities(strings.Fields(string(list))), " ")
	out := make([]byte, 0, len(line)+len(shown))
	out = append(out, line[:at]...)
	out = append(out, shown...)
	return append(out, line[at+len(list):]...)
}

// ownMark begins all of our keywords, in lower case.
const ownMark = "$mls"

// passFetch passes a FETCH response on with the flags that the gateway shows.
// One that brings content of a message not yet classified is dropped: the
// message arrived in the middle of a command, and what a UID shows first must
// be what it shows for ever. The client has been told of it by EXISTS.
func (s *session) passFetch(r *response) error {
	s.mu.Lock()
	box := s.box
	var own []string
	sealed, known := false, true
	if box != nil {
		known = r.num > 0 && r.num <= box.classified
		// A message that was never announced: the provider knows better.
		box.exists = max(box.exists, r.num)
		if sealed = box.sealedAt(r.num) != nil; sealed {
			own = box.keywordsOf(box.uidAt(r.num))
		}
	}
	s.mu.Unlock()

	if !known {
		if r.seg.Literal || bringsContent(r) {
			s.mu.Lock()
			box.missed = true
			s.mu.Unlock()
			return r.skip()
		}
	}
	if !r.seg.Literal && !sealed && !containsFold(r.seg.Raw, ownMark) {
		return r.pass()
	}
	if r.whole != nil {
		// Loaded by a claim that did not take it.
		return s.out.line(rewriteWhole(r.whole, own))
	}
	return s.out.stream(func(w io.Writer) error {
		f := flagFilter{own: own, plain: !sealed}
		seg := r.seg
		for {
			if _, err := w.Write(f.next(seg.Raw)); err != nil {
				return err
			}
			if !seg.Literal {
				return nil
			}
			if err := s.up.r.CopyLiteral(w, seg.Size); err != nil {
				return err
			}
			var err error
			if seg, err = s.up.r.ReadSegment(s.cfg.Limits.ResponseBytes); err != nil {
				return err
			}
		}
	})
}

// bringsContent tells whether a FETCH response has items about the message's
// content.
func bringsContent(r *response) bool {
	items, err := overlay.ParseItems(r.body())
	if err != nil {
		return true
	}
	for _, it := range items {
		name, _, _ := strings.Cut(it.Name, "[")
		if policy.FetchItem(name) != policy.Provider {
			return true
		}
	}
	return false
}

// rewriteWhole is flagFilter for a FETCH response in memory.
func rewriteWhole(b []byte, own []string) []byte {
	open := bytes.IndexByte(b, '(')
	if open < 0 {
		return b
	}
	items, err := overlay.ParseItems(b[open : len(b)-2])
	if err != nil {
		return b
	}
	out := append([]byte{}, b[:open]...)
	return append(appendItems(out, items, own), "\r\n"...)
}

// appendItems writes the items of a FETCH response, flags as the client sees
// them.
func appendItems(out []byte, items []overlay.ResponseItem, own []string) []byte {
	out = append(out, '(')
	for i, it := range items {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(append(out, it.Name...), ' ')
		if it.Name == "FLAGS" {
			out = append(out, flagValue(it.Flags(), own)...)
		} else {
			out = append(out, it.Value...)
		}
	}
	return append(out, ')')
}

// flagValue returns the list of flags that the client sees: the provider's
// without our names, and then ours.
func flagValue(flags, own []string) []byte {
	return []byte("(" + strings.Join(append(withoutOwn(flags), own...), " ") + ")")
}

// flagFilter rewrites the FLAGS item in the text segments of a FETCH response,
// between which there are literals.
type flagFilter struct {
	own []string
	// plain: the message is not sealed, so that there is nothing to do but in
	// segments with names of ours. Those before are kept in unread, since what a
	// segment means depends on them.
	plain  bool
	unread []byte

	depth  int
	quoted bool
	escape bool
	// word is the last complete word at depth 1: the item's name.
	word  []byte
	start bool // the next octet begins a word
}

// maxUnread bounds what a flagFilter keeps instead of reading it.
const maxUnread = 4 << 10

// next is segment for what has to be read only.
func (f *flagFilter) next(raw []byte) []byte {
	if f.plain && !containsFold(raw, ownMark) {
		if len(f.unread)+len(raw) <= maxUnread {
			f.unread = append(f.unread, raw...)
			return raw
		}
	}
	f.segment(f.unread)
	f.unread = f.unread[:0]
	return f.segment(raw)
}

// segment returns a segment of the response, rewritten where it holds FLAGS.
func (f *flagFilter) segment(raw []byte) []byte {
	var out []byte
	copied := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case f.quoted:
			switch {
			case f.escape:
				f.escape = false
			case c == '\\':
				f.escape = true
			case c == '"':
				f.quoted = false
			}
		case c == '"':
			f.quoted = true
			f.word = f.word[:0]
		case c == '(':
			if f.depth == 1 && equalFold(string(f.word), "FLAGS") {
				end := bytes.IndexByte(raw[i:], ')')
				if end < 0 {
					return raw // no list of flags; leave it
				}
				out = append(out, raw[copied:i]...)
				out = append(out, flagValue(overlay.ParseFlags(raw[i:i+end+1]), f.own)...)
				i += end
				copied = i + 1
				f.word = f.word[:0]
				continue
			}
			f.depth++
			f.word, f.start = f.word[:0], true
		case c == ')':
			f.depth--
			f.word, f.start = f.word[:0], false
		case c == ' ':
			f.start = true
		case f.depth == 1:
			if f.start {
				f.word, f.start = f.word[:0], false
			}
			if len(f.word) < 16 {
				f.word = append(f.word, c)
			}
		}
	}
	if copied == 0 {
		return raw
	}
	return append(out, raw[copied:]...)
}
