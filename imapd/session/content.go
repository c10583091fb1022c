package session

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/internal/spool"
)

// heldContent is the message whose content was served last from a spool: a
// client that comes back for it, in pieces say, costs the provider nothing.
type heldContent struct {
	view    *overlay.View
	spool   *spool.Spool
	content *overlay.Content
}

// contentOf returns the content of a View, with what was spooled of it before.
// For the client goroutine; valid until it is called for another View.
func (s *session) contentOf(v *overlay.View) *overlay.Content {
	if h := s.held; h != nil && h.view == v {
		return h.content
	}
	s.dropContent()
	p := spool.New(s.cfg.SpoolDir, s.cfg.Limits.SpoolMemory)
	s.held = &heldContent{view: v, spool: p, content: overlay.NewContent(v, &patientSpool{
		Spool: p, s: s, every: s.cfg.Limits.KeepAlive, last: time.Now(),
	})}
	return s.held.content
}

// dropContent forgets the content that was served last.
func (s *session) dropContent() {
	if s.held == nil {
		return
	}
	if err := s.held.spool.Close(); err != nil {
		s.log.Warn("close spool", "error", err)
	}
	s.held = nil
}

// patientSpool tells the client now and then that its command is being worked
// on, while a large message is read before any of it is sent: mail clients give
// up a connection on which nothing comes.
type patientSpool struct {
	*spool.Spool
	s     *session
	every time.Duration
	last  time.Time
}

// Write implements io.Writer.
func (p *patientSpool) Write(b []byte) (int, error) {
	if now := time.Now(); now.Sub(p.last) >= p.every {
		p.last = now
		// The response code is that of RFC 9585.
		if err := p.s.out.line([]byte("* OK [INPROGRESS] Reading an encrypted message\r\n")); err != nil {
			return 0, errGone
		}
		if err := p.s.out.flush(); err != nil {
			return 0, errGone
		}
	}
	return p.Spool.Write(b)
}

// explainDamage is for a message whose content turned out to be altered at the
// provider: from now on it is shown as the backend's explanation, whatever was
// shown of it before. It returns that.
func (s *session) explainDamage(box *mailbox, uid uint32) (*overlay.View, error) {
	s.opened.drop(uid)
	s.mu.Lock()
	entry := box.sealed[uid]
	s.mu.Unlock()
	if entry == nil {
		return nil, errMissing
	}
	parts, err := s.fetchControls(box, entry.layout.Control, []uint32{uid})
	if err != nil {
		return nil, err
	}
	p := parts[uid]
	if p == nil {
		return nil, errMissing
	}
	m, err := s.sealedMessage(box, uid, entry, p)
	if err != nil {
		return nil, err
	}
	m.Damaged = true
	v, err := s.openMessage(m)
	if err != nil {
		return nil, fmt.Errorf("explain damaged message: %w", err)
	}
	if first := box.shown.supersede(uid, v.StubKey); first != v.StubKey {
		m.StubKey = first
		if v, err = s.openMessage(m); err != nil {
			return nil, fmt.Errorf("explain damaged message: %w", err)
		}
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	s.noteForm(entry, v)
	if err := s.rememberOpened(box, Change{Put: map[uint32]Entry{uid: entry.Entry}}); err != nil {
		return nil, err
	}
	s.opened.put(uid, v, false)
	s.log.Warn("encrypted message is damaged at the provider", "ref", v.Ref)
	return v, nil
}

// serveContent makes the answer for one message by answer, a second time if
// the content turns out to be damaged: what is served is the explanation then,
// for all items.
func (s *session) serveContent(box *mailbox, uid uint32, v *overlay.View,
	answer func(c *overlay.Content, superseded bool) (*overlay.Answer, error),
) (*overlay.Answer, error) {
	a, err := answer(s.contentOf(v), false)
	if err == nil {
		return a, nil
	}
	s.dropContent()
	if !errors.Is(err, overlay.ErrCorrupt) || v.Stub {
		return nil, err
	}
	s.report(slog.LevelDebug, "content does not verify", err)
	if v, err = s.explainDamage(box, uid); err != nil {
		return nil, err
	}
	return answer(s.contentOf(v), true)
}
