package session

import (
	"bytes"
	"io"
	"strconv"
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
//
// Content of a sealed message comes from the gateway alone. What the provider
// says of it unasked is dropped, and so is what it says under another message's
// UID.
func (s *session) passFetch(r *response) error {
	s.mu.Lock()
	box := s.box
	var own []string
	var uid uint32
	sealed, known := false, true
	if box != nil {
		known = r.num > 0 && r.num <= box.classified
		// A message that was never announced: the provider knows better.
		box.exists = max(box.exists, r.num)
		if len(box.sealed) > 0 {
			uid = box.uidAt(r.num)
		}
		if sealed = box.sealedAt(r.num) != nil; sealed {
			own = box.keywordsOf(uid)
		}
	}
	s.mu.Unlock()

	switch {
	case !known && (r.num == 0 || r.seg.Literal || bringsContent(r)):
		s.mu.Lock()
		box.missed = true
		s.mu.Unlock()
		return r.skip()
	case sealed:
		if _, err := r.load(); err != nil {
			return err
		}
		if bringsContent(r) {
			return nil
		}
	}
	f := flagFilter{own: own, plain: !sealed, uid: uid, limit: s.cfg.Limits.ResponseBytes}
	if !r.seg.Literal && !f.mustRead(r.seg.Raw) {
		return r.pass()
	}
	if r.whole != nil {
		// Loaded by a claim that did not take it.
		out, err := rewriteWhole(r.whole, own, uid)
		if err != nil {
			return err
		}
		return s.out.line(out)
	}
	return s.out.stream(func(w io.Writer) error {
		seg := r.seg
		for {
			out, err := f.next(seg.Raw, seg.Literal)
			if err != nil {
				return err
			}
			if _, err := w.Write(out); err != nil {
				return err
			}
			if !seg.Literal {
				return nil
			}
			if err := s.up.r.CopyLiteral(w, seg.Size); err != nil {
				return err
			}
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

// rewriteWhole is flagFilter for a FETCH response in memory. uid is the
// message's, 0 if it is not known.
func rewriteWhole(b []byte, own []string, uid uint32) ([]byte, error) {
	open := bytes.IndexByte(b, '(')
	if open < 0 {
		return nil, errOddResponse
	}
	items, err := overlay.ParseItems(b[open : len(b)-2])
	if err != nil {
		return nil, errOddResponse
	}
	for _, it := range items {
		if it.Name == "UID" && uid != 0 && string(it.Value) != strconv.FormatUint(uint64(uid), 10) {
			return nil, errOtherUID
		}
	}
	out := append([]byte{}, b[:open]...)
	return append(appendItems(out, items, own), "\r\n"...), nil
}

// errOtherUID: sequence number and UID of a FETCH response belong to different
// messages.
var errOtherUID = errProtocol("FETCH response with another message's UID")

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
// between which there are literals, and holds the UID against what is known.
type flagFilter struct {
	own []string
	// plain: the message is not sealed, so that there is nothing to do but in
	// segments with names of ours.
	plain bool
	// uid is the message's; 0: it is not known, or does not matter.
	uid uint32
	// limit bounds the text that is kept, in octets.
	limit int

	// Segments that need not be read are kept, since what a later one means
	// depends on them.
	items itemWalker
	reads int
	lost  bool // there were too many
}

// maxReads bounds how many segments of a response are read: each reads the item
// that it belongs to anew.
const maxReads = 1000

// next returns a segment of the response as the client gets it. literal tells
// that one follows it.
func (f *flagFilter) next(raw []byte, literal bool) ([]byte, error) {
	if f.lost = f.lost || len(f.items.text)+len(raw) > f.limit; f.lost {
		f.items.text = nil
		if f.mustRead(raw) {
			return nil, errProtocol("FETCH response too long")
		}
		return raw, nil
	}
	start := len(f.items.text)
	f.items.text = append(f.items.text, raw...)
	if !f.mustRead(raw) {
		return raw, nil
	}
	if f.reads++; f.reads > maxReads {
		return nil, errProtocol("FETCH response in too many pieces")
	}
	var out []byte
	copied := start
	err := f.items.walk(func(name, value []byte, from, to int) error {
		switch {
		case equalFold(string(name), "UID"):
			if f.uid != 0 && string(value) != strconv.FormatUint(uint64(f.uid), 10) {
				return errOtherUID
			}
		case !equalFold(string(name), "FLAGS"):
		case value[0] != '(' || bytes.ContainsAny(value, "\"{"):
			return errOddResponse
		case from >= copied:
			out = append(out, f.items.text[copied:from]...)
			out = append(out, flagValue(overlay.ParseFlags(value), f.own)...)
			copied = to
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case !literal && !f.items.done:
		return nil, errOddResponse
	case copied == start:
		return raw, nil
	}
	return append(out, f.items.text[copied:]...), nil
}

// mustRead tells whether a segment may hold something that is not simply passed.
func (f *flagFilter) mustRead(raw []byte) bool {
	return !f.plain || containsFold(raw, ownMark) || endsInFlags(raw) || f.uid != 0 && namesOther(raw, f.uid)
}

// endsInFlags tells whether a segment ends within a list of flags, which has no
// literals.
func endsInFlags(raw []byte) bool {
	return bytes.HasSuffix(raw, []byte("}\r\n")) && containsFold(raw[bytes.LastIndexByte(raw, ')')+1:], "flags")
}

// namesOther tells whether a segment may name another UID. It reads each octet
// once: what it reads, strangers have written.
func namesOther(raw []byte, uid uint32) bool {
	for i := 0; i+3 <= len(raw); i++ {
		if raw[i]|0x20 != 'u' || raw[i+1]|0x20 != 'i' || raw[i+2]|0x20 != 'd' {
			continue
		}
		digits, ok := bytes.CutPrefix(raw[i+3:], []byte{' '})
		n := 0
		for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
			n++
		}
		if !ok || string(digits[:n]) != strconv.FormatUint(uint64(uid), 10) {
			return true
		}
	}
	return false
}
