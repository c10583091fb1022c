package session

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/policy"
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
