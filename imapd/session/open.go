package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

// openWindow is how many sealed messages are fetched and opened at a time.
const openWindow = 32

// keptWindow is how many sealed messages are answered at a time that were opened
// before and are in memory: the provider is asked once for its part of all.
const keptWindow = 256

// windowOf returns how many of the messages to answer next, of which there is at
// least one.
func (s *session) windowOf(uids []uint32) int {
	s.mu.Lock()
	box := s.box
	s.mu.Unlock()
	kept := 0
	for kept < min(len(uids), keptWindow) && s.keptView(box, uids[kept]) != nil {
		kept++
	}
	return max(kept, min(len(uids), openWindow))
}

// keptView returns the View of a message that was opened before, if it is in memory
// and still what is to be shown; else nil. For the client goroutine.
func (s *session) keptView(box *mailbox, uid uint32) *overlay.View {
	if v := s.opened.get(uid); v != nil && !box.shown.outdated(uid, formOf(v)) {
		return v
	}
	return nil
}

// openAll returns the Views of sealed messages, opening those that are not in
// the cache. Messages that are gone are left out, and those that the backend
// could not try: failed is why. err ends the client's command.
func (s *session) openAll(uids []uint32, use purpose) (views map[uint32]*overlay.View, failed, err error) {
	views = make(map[uint32]*overlay.View, len(uids))
	byLayout := make(map[string][]uint32)
	s.mu.Lock()
	box := s.box
	for _, uid := range uids {
		if v := s.keptView(box, uid); v != nil {
			views[uid] = v
		} else if e := box.sealed[uid]; e != nil && box.seqOf(uid) > 0 {
			byLayout[e.layout.Control] = append(byLayout[e.layout.Control], uid)
		}
	}
	s.mu.Unlock()
	fresh := make(map[uint32]freshView)
	for control, group := range byLayout {
		parts, err := s.fetchControls(box, control, group)
		if err != nil {
			return nil, nil, err
		}
		for _, uid := range group {
			p := parts[uid]
			if p == nil {
				continue
			}
			v, err := s.openOne(box, uid, p, use)
			if err != nil {
				failed = err
				s.report(slog.LevelWarn, "encrypted message not opened", err)
				continue
			}
			fresh[uid] = v
		}
	}
	if len(fresh) == 0 {
		return views, failed, nil
	}
	// One for the window. Before it nothing that was found may show, here or in
	// the flags of a later command.
	if err := s.settle(); err != nil {
		s.report(slog.LevelWarn, "encrypted messages not shown", err)
		return views, err, nil
	}
	change := Change{Put: make(map[uint32]Entry)}
	for uid, f := range fresh {
		s.keep(box, uid, f, &change)
		views[uid] = f.View
	}
	if len(change.Put) > 0 {
		if err := s.rememberOpened(box, change); err != nil {
			return nil, nil, err
		}
	}
	return views, failed, nil
}

// rememberOpened stores what was found. Stubs must be stored before they are
// shown; for the rest the index is a cache.
func (s *session) rememberOpened(box *mailbox, change Change) error {
	stubs := false
	for _, e := range change.Put {
		stubs = stubs || e.StubKey != ""
	}
	if !stubs || s.idx == nil || box.uidValidity == 0 {
		s.updateIndex(box, change)
		return nil
	}
	if err := s.idx.Update(box.name, box.uidValidity, change); err != nil {
		return fmt.Errorf("store stub in mailbox index: %w", err)
	}
	return nil
}

// controlPart is what one fetch brings of a sealed message.
type controlPart struct {
	header, mime, content []byte
	// oversize: one of them is longer than any of ours, and was not read to its
	// end.
	oversize bool
}

// maxPartHeader bounds the MIME header of a control part; ours has two lines.
const maxPartHeader = 64 << 10

// fetchControls fetches the outer headers and the control parts of messages
// that have them at the same place, or nowhere: path is "" then. It asks for no
// more than may be in one response, whatever somebody has sent.
func (s *session) fetchControls(box *mailbox, path string, uids []uint32) (map[uint32]*controlPart, error) {
	limit := s.cfg.Limits.ResponseBytes
	header, part := limit/8, min(maxPartHeader, limit/16)
	pieces := []struct {
		section string
		max     int
		dst     func(*controlPart) *[]byte
	}{
		{"HEADER", header, func(p *controlPart) *[]byte { return &p.header }},
		{path + ".MIME", part, func(p *controlPart) *[]byte { return &p.mime }},
		{path, limit - header - part - limit/16, func(p *controlPart) *[]byte { return &p.content }},
	}
	if path == "" {
		pieces = pieces[:1]
	}
	items, last := "UID", ""
	for _, piece := range pieces {
		items += fmt.Sprintf(" BODY.PEEK[%s]<0.%d>", piece.section, piece.max)
		last = "BODY[" + piece.section + "]<0>"
	}
	parts := make(map[uint32]*controlPart, len(uids))
	err := s.fetchOwn(s.seqSet(box, uids), items, last, func(_ uint32, got []overlay.ResponseItem) error {
		p := &controlPart{}
		for _, piece := range pieces {
			if it := overlay.FindItem(got, "BODY["+piece.section+"]<0>"); it != nil {
				text, _ := it.String()
				*piece.dst(p) = text
				p.oversize = p.oversize || len(text) >= piece.max
			}
		}
		if p.oversize {
			p.header = wholeLines(p.header)
		}
		parts[itemUID(got)] = p
		return nil
	})
	return parts, err
}

// wholeLines returns a header that was cut off up to its last whole line, and
// ends it.
func wholeLines(header []byte) []byte {
	if bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		return header
	}
	end := bytes.LastIndexByte(header, '\n') + 1
	return append(bytes.Clone(header[:end]), "\r\n"...)
}

// seqSet returns the sequence numbers of messages; those that are gone are
// left out.
func (s *session) seqSet(box *mailbox, uids []uint32) wire.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	seqs := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		if n := box.seqOf(uid); n > 0 {
			seqs = append(seqs, n)
		}
	}
	return wire.SetOf(seqs)
}

// purpose is why a message is opened.
type purpose int

const (
	toShow  purpose = iota // its content goes to the client
	forFlag                // only its keywords are wanted
)

// freshView is a message that was opened and not shown yet.
type freshView struct {
	*overlay.View
	entry *sealedEntry
	bulk  bool
}

// openOne has the backend open a message.
func (s *session) openOne(box *mailbox, uid uint32, p *controlPart, use purpose) (f freshView, err error) {
	s.mu.Lock()
	entry := box.sealed[uid]
	s.mu.Unlock()
	if entry == nil {
		return f, errMissing
	}
	m, err := s.sealedMessage(box, uid, entry, p)
	if err != nil {
		return f, err
	}
	f = freshView{entry: entry, bulk: m.Bulk != nil}
	f.View, err = s.openAsShown(box, uid, entry.Entry, m, use)
	return f, err
}

// keep notes what was learnt of a message.
func (s *session) keep(box *mailbox, uid uint32, f freshView, change *Change) {
	if _, shown := box.shown.form(uid); !shown {
		return // nothing to keep
	}
	if s.noteForm(f.entry, f.View) {
		change.Put[uid] = f.entry.Entry
	}
	s.opened.put(uid, f.View, f.bulk)
}

// noteForm enters into the mailbox what a message is shown as, and tells whether
// that is news.
func (s *session) noteForm(entry *sealedEntry, v *overlay.View) bool {
	e := entry.Entry
	keywords := ownKeywords(v.Keywords)
	if e.Opened && (!v.Stub || e.StubKey != "") && slices.Equal(e.Keywords, keywords) {
		return false
	}
	if v.Stub {
		e.Broken = e.Broken || e.Opened && e.StubKey == ""
		e.StubKey, e.Temporary = v.StubKey, v.Temporary
	}
	e.Opened, e.Keywords, e.Ref = true, keywords, v.Ref
	s.mu.Lock()
	entry.Entry = e
	s.mu.Unlock()
	return true
}

func (s *session) sealedMessage(box *mailbox, uid uint32, entry *sealedEntry, p *controlPart) (overlay.SealedMessage, error) {
	if !entry.layout.Complete() || p.oversize {
		return overlay.SealedMessage{
			Mailbox: box.name, UIDValidity: box.uidValidity, UID: uid, Header: bytes.Clone(p.header), Damaged: true,
		}, nil
	}
	control, err := overlay.DecodeAll(overlay.Encoding(p.mime), p.content, overlay.MaxControl)
	if err != nil {
		// Not a reason to fail: the backend makes a stub of what it gets.
		control = nil
	}
	m := overlay.SealedMessage{
		Mailbox:     box.name,
		UIDValidity: box.uidValidity,
		UID:         uid,
		Header:      bytes.Clone(p.header),
		Control:     control,
	}
	if entry.layout.HasBulk() {
		m.Bulk = s.bulkReader(box, uid, entry.layout)
	}
	return m, nil
}

// openMessage calls the backend and checks what it returns.
func (s *session) openMessage(m overlay.SealedMessage) (*overlay.View, error) {
	v, err := s.acct.OpenMessage(s.ctx, m)
	var stub *overlay.StubError
	if errors.As(err, &stub) && stub.View != nil {
		v, err = stub.View, nil
		v.Stub = true
	}
	switch {
	case err != nil:
		return nil, err
	case v == nil || v.Content == nil || v.Tree == nil || v.Tree.Size() != v.Size:
		return nil, errors.New("backend returned an incomplete view")
	case v.Stub && (v.StubKey == "" || len(v.StubKey) > overlay.MaxStubKey):
		return nil, errors.New("backend returned a stub without a valid key")
	case m.Damaged && m.StubKey == "" && (!v.Stub || v.Temporary):
		return nil, errors.New("backend does not say that a message is damaged")
	}
	return v, nil
}

// settle makes durable what the backend found in the messages that it opened.
func (s *session) settle() error {
	settler, ok := s.acct.(Settler)
	if !ok {
		return nil
	}
	if err := settler.Settle(); err != nil {
		return fmt.Errorf("store what was found in encrypted messages: %w", err)
	}
	return nil
}

// ownKeywords keeps those keywords that are ours to set, $MLSEncrypted always
// among them.
func ownKeywords(names []string) []string {
	var out []string
	for _, k := range policy.Keywords {
		if k == policy.KeywordEncrypted {
			out = append(out, k)
			continue
		}
		for _, n := range names {
			if equalFold(n, k) {
				out = append(out, k)
				break
			}
		}
	}
	return out
}

// errNotServing is the error of bulk reads outside a client's command.
var errNotServing = errors.New("bulk part read outside a mail client's command")

// bulkReader returns a reader of a message's bulk part, good for as long as
// the mailbox stays open.
func (s *session) bulkReader(box *mailbox, uid uint32, l overlay.Layout) *overlay.Bulk {
	name := "BODY[" + l.Bulk + "]"
	b := overlay.NewBulk(l.BulkEncoding, l.BulkOctets, func(off, n int64) ([]byte, error) {
		seq, err := s.bulkSeq(box, uid)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return nil, nil
		}
		want := fmt.Sprintf("%s<%d>", name, off)
		item := fmt.Sprintf("UID BODY.PEEK[%s]<%d.%d>", l.Bulk, off, n)
		var data []byte
		found := false
		err = s.fetchOwn(wire.Set{{Lo: seq, Hi: seq}}, item, want, func(_ uint32, got []overlay.ResponseItem) error {
			if itemUID(got) == uid {
				data, found = overlay.FindItem(got, want).String()
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("fetch bulk part: %w", err)
		}
		if !found || int64(len(data)) > n {
			return nil, fmt.Errorf("fetch bulk part: %w", io.ErrUnexpectedEOF)
		}
		return data, nil
	})
	b.ReadAhead(s.streamer(box, uid, l))
	return b
}
