package session

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// mailbox is what the relay knows of the selected mailbox. Guarded by
// session.mu: the relay goroutine applies what the provider says, the client
// goroutine classifies and looks up.
type mailbox struct {
	name        string
	readOnly    bool
	uidValidity uint32
	// shown is shared with the other connections that have it open.
	shown *shownBox

	// exists is the number of messages the client has been told of. Those up
	// to classified are known to be plain or sealed.
	exists, classified uint32
	// classifiedTo is the highest UID among these, as far as known.
	classifiedTo uint32
	// uids are the UIDs of messages 1 to classified. nil means that they were
	// not asked for, which is so only while nothing is sealed.
	uids []uint32
	// sealed are the sealed messages by UID.
	sealed map[uint32]*sealedEntry

	// flags and permanent are the lists that SELECT announced, without ours;
	// nil when there was none. extended tells that ours were announced too.
	flags, permanent []string
	extended         bool
	// selecting: the answer to SELECT has not been passed on yet.
	selecting bool
	// abandoned: the mailbox is about to be selected anew, the client does not
	// hear of this selection.
	abandoned bool
	// missed is set when content of a message that was not classified yet was
	// dropped.
	missed bool
}

// sealedEntry is one sealed message of the mailbox.
type sealedEntry struct {
	Entry
	layout overlay.Layout
}

// apply follows EXISTS, EXPUNGE and VANISHED (RFC 9051 section 7.4.1, RFC 7162
// section 3.2.10).
func (b *mailbox) apply(r *response) {
	switch r.name {
	case "EXISTS":
		b.exists = r.num
		if b.exists < b.classified { // not allowed; stay consistent
			b.truncate(b.exists)
		}
	case "EXPUNGE":
		b.expunge(r.num)
	case "VANISHED":
		body := r.body()
		if hasPrefixFold(body, "(EARLIER)") {
			return // before the mailbox was opened
		}
		set, err := wire.ParseSet(bytes.TrimSpace(body))
		if err != nil || set.HasStar() {
			return
		}
		b.vanish(set.Resolve(0))
	}
}

func (b *mailbox) truncate(n uint32) {
	b.classified = n
	for len(b.uids) > int(n) {
		delete(b.sealed, b.uids[len(b.uids)-1])
		b.uids = b.uids[:len(b.uids)-1]
	}
}

func (b *mailbox) expunge(seq uint32) {
	if seq == 0 || seq > b.exists {
		return
	}
	b.exists--
	if seq > b.classified {
		return
	}
	b.classified--
	if b.uids != nil {
		delete(b.sealed, b.uids[seq-1])
		b.uids = slices.Delete(b.uids, int(seq-1), int(seq))
	}
}

func (b *mailbox) vanish(set wire.Set) {
	kept := b.uids[:0]
	for _, uid := range b.uids {
		if set.Contains(uid) {
			delete(b.sealed, uid)
			b.exists--
			b.classified--
			continue
		}
		kept = append(kept, uid)
	}
	if b.uids != nil {
		b.uids = kept
	} else {
		b.vanishUncounted(set)
	}
	// Those that were not classified yet. Servers send no UIDs here that the
	// client could not know.
	for _, r := range set {
		for uid := max(r.Lo, b.classifiedTo+1); uid <= r.Hi && b.exists > b.classified; uid++ {
			b.exists--
		}
	}
}

// vanishUncounted is vanish for classified messages whose UIDs were not asked
// for: QRESYNC was enabled with the mailbox open. The provider names no message
// that was not there (RFC 7162 section 3.2.10).
func (b *mailbox) vanishUncounted(set wire.Set) {
	for _, r := range set {
		if r.Lo > b.classifiedTo {
			continue
		}
		n := min(min(r.Hi, b.classifiedTo)-r.Lo+1, b.classified)
		b.classified -= n
		b.exists -= n
	}
}

// seqOf returns a message's sequence number, 0 if it is not there.
func (b *mailbox) seqOf(uid uint32) uint32 {
	i, ok := slices.BinarySearch(b.uids, uid)
	if !ok {
		return 0
	}
	return uint32(i) + 1
}

// uidAt returns the UID of a classified message, 0 if it is not known.
func (b *mailbox) uidAt(seq uint32) uint32 {
	if seq == 0 || int(seq) > len(b.uids) {
		return 0
	}
	return b.uids[seq-1]
}

// sealedAt returns the entry of a sealed message.
func (b *mailbox) sealedAt(seq uint32) *sealedEntry {
	if len(b.sealed) == 0 {
		return nil
	}
	return b.sealed[b.uidAt(seq)]
}

// sealedUIDs returns the UIDs of the sealed messages in a resolved set of UIDs
// or sequence numbers, in order.
func (b *mailbox) sealedUIDs(set wire.Set, uid bool) []uint32 {
	var out []uint32
	for u := range b.sealed {
		n := u
		if !uid {
			n = b.seqOf(u)
		}
		if set.Contains(n) {
			out = append(out, u)
		}
	}
	slices.Sort(out)
	return out
}

// lastUID returns the highest UID known.
func (b *mailbox) lastUID() uint32 {
	if n := len(b.uids); n > 0 {
		return b.uids[n-1]
	}
	return b.classifiedTo
}

// keywordsOf returns our keywords for a sealed message. Where another connection
// found it damaged meanwhile, those that this one knows do not hold any more.
func (b *mailbox) keywordsOf(uid uint32) []string {
	e := b.sealed[uid]
	switch {
	case e == nil:
		return nil
	case !e.Opened || b.shown.outdated(uid, e.StubKey):
		return []string{policy.KeywordEncrypted}
	}
	return e.Keywords
}

// filterFlagLists rewrites "* FLAGS (...)" and "* OK [PERMANENTFLAGS (...)]":
// our keywords are announced where the mailbox has sealed messages, and never
// the provider's namesakes.
func (b *mailbox) filterFlagLists(line []byte) []byte {
	const flags, permanent = "* FLAGS ", "* OK [PERMANENTFLAGS "
	switch {
	case hasPrefixFold(line, flags):
		list, rest, ok := cutList(line[len(flags):])
		if !ok {
			return line
		}
		had := hasOwn(list)
		b.flags = withoutOwn(list)
		if !had && !b.extended {
			return line
		}
		return append([]byte(flags+b.flagList(b.flags)), rest...)
	case hasPrefixFold(line, permanent):
		list, rest, ok := cutList(line[len(permanent):])
		if !ok {
			return line
		}
		had := hasOwn(list)
		b.permanent = withoutOwn(list)
		if !had && !b.extended {
			return line
		}
		return append([]byte(permanent+b.flagList(b.permanent)), rest...)
	}
	return line
}

// flagList writes a list, with ours where they are announced.
func (b *mailbox) flagList(flags []string) string {
	if b.extended {
		flags = slices.Concat(flags, policy.Keywords[:])
	}
	return "(" + strings.Join(flags, " ") + ")"
}

// announcement returns the lists of SELECT with our keywords, for a mailbox
// that got its first sealed message while it was open.
func (b *mailbox) announcement() []byte {
	var out []byte
	if b.flags != nil {
		out = append(out, "* FLAGS "+b.flagList(b.flags)+"\r\n"...)
	}
	if b.permanent != nil {
		out = append(out, "* OK [PERMANENTFLAGS "+b.flagList(b.permanent)+"] Flags\r\n"...)
	}
	return out
}

// cutList splits "(a b) rest".
func cutList(b []byte) (flags []string, rest []byte, ok bool) {
	end := bytes.IndexByte(b, ')')
	if len(b) == 0 || b[0] != '(' || end < 0 {
		return nil, nil, false
	}
	return overlay.ParseFlags(b[:end+1]), b[end+1:], true
}

func hasOwn(flags []string) bool { return slices.ContainsFunc(flags, spellsOwn) }

// spellsOwn tells whether a mail client could read one of our keywords in a
// flag: quoted, or cut off at an octet that no flag has.
func spellsOwn(flag string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(flag, func(r rune) bool {
		return r >= 0x80 || !wire.IsAtomByte(byte(r))
	}), policy.IsOwnKeyword)
}

// withoutOwn returns the flags that are not ours; never nil.
func withoutOwn(flags []string) []string {
	out := make([]string, 0, len(flags))
	for _, f := range flags {
		if !spellsOwn(f) {
			out = append(out, f)
		}
	}
	return out
}

// parseCode returns the number in a response code such as [UIDVALIDITY 17].
func parseCode(line []byte, name string) (uint32, bool) {
	_, rest := splitStatus(line)
	prefix := "[" + name + " "
	if !hasPrefixFold(rest, prefix) {
		return 0, false
	}
	digits, _, _ := bytes.Cut(rest[len(prefix):], []byte{']'})
	n, err := strconv.ParseUint(string(digits), 10, 32)
	return uint32(n), err == nil
}
