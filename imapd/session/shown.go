package session

import (
	"fmt"
	"sync"

	"github.com/cloudmls/gateway/imapd/overlay"
)

// errNotNow is the answer for a message that was shown opened before and that
// cannot be opened now: a stub in its place would change what a UID shows.
var errNotNow = &Failure{Code: "UNAVAILABLE", Text: "An encrypted message cannot be opened at the moment, please try again later"}

// shownBoxes is what all connections of this server that have the same mailbox
// open share: in which form each message was shown.
type shownBoxes struct {
	mu    sync.Mutex
	boxes map[string]*shownBox
}

// shownBox is one mailbox. It lives while a connection has it open; the index
// keeps the stubs beyond that.
type shownBox struct {
	key   string
	users int

	mu sync.Mutex
	// forms holds the stub's key, or "" for the opened message, by UID.
	forms map[uint32]string
}

func (r *shownBoxes) enter(user, mailbox string, uidValidity uint32) *shownBox {
	key := fmt.Sprintf("%s\x00%s\x00%d", user, mailbox, uidValidity)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.boxes == nil {
		r.boxes = make(map[string]*shownBox)
	}
	b := r.boxes[key]
	if b == nil {
		b = &shownBox{key: key, forms: make(map[uint32]string)}
		r.boxes[key] = b
	}
	b.users++
	return b
}

func (r *shownBoxes) leave(b *shownBox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.users--; b.users == 0 {
		delete(r.boxes, b.key)
	}
}

func (b *shownBox) form(uid uint32) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f, ok := b.forms[uid]
	return f, ok
}

// settle notes the form in which a message is about to be shown, and returns
// the one that counts: the first.
func (b *shownBox) settle(uid uint32, form string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first, ok := b.forms[uid]; ok {
		return first
	}
	b.forms[uid] = form
	return form
}

// supersede notes that an opened message turned out to be damaged: from now on
// it is shown as a stub. It returns the stub that counts, the first.
func (b *shownBox) supersede(uid uint32, stub string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.forms[uid]; first != "" {
		return first
	}
	b.forms[uid] = stub
	return stub
}

// outdated tells whether another connection superseded the form that v is.
func (b *shownBox) outdated(uid uint32, form string) bool {
	now, ok := b.form(uid)
	return ok && now != form
}

// openAsShown opens a message in the form in which its UID was shown first, on
// whichever connection. A stub that may open later, and of which only the
// keywords are asked, has not been shown yet. A message that was shown opened
// and is now a stub for good was altered at the provider: the stub it is then.
func (s *session) openAsShown(box *mailbox, uid uint32, e Entry, m overlay.SealedMessage, use purpose) (*overlay.View, error) {
	form, known := box.shown.form(uid)
	if !known {
		form, known = e.StubKey, e.Opened
	}
	m.StubKey = form
	v, err := s.openMessage(m)
	if err != nil {
		return nil, fmt.Errorf("open message: %w", err)
	}
	switch {
	case known && form == "" && v.Stub && v.Temporary:
		return nil, errNotNow
	case !known && use == forFlag && v.Stub && v.Temporary:
		return v, nil
	}
	first := box.shown.settle(uid, formOf(v))
	if first == "" && v.Stub {
		if v.Temporary {
			return nil, errNotNow
		}
		first = box.shown.supersede(uid, v.StubKey)
	}
	if first == formOf(v) {
		return v, nil
	}
	m.StubKey = first
	if v, err = s.openMessage(m); err != nil {
		return nil, fmt.Errorf("open message: %w", err)
	}
	return v, nil
}

// formOf returns the stub's key, or "" for an opened message.
func formOf(v *overlay.View) string {
	if v.Stub {
		return v.StubKey
	}
	return ""
}
