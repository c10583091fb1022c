package session

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/cloudmls/gateway/imapd/overlay"
	"github.com/cloudmls/gateway/imapd/wire"
	"github.com/cloudmls/gateway/internal/spool"
)

// reissue gives those messages a new UID that were shown as temporary stubs
// and can be opened now: what a UID showed must never change. It copies them
// within the mailbox and expunges the old ones. true means that it did so, and
// that the mailbox must be selected anew.
func (s *session) reissue(box *mailbox) (bool, error) {
	if box.readOnly || s.idx == nil || !s.up.caps.has("UIDPLUS") {
		return false, nil
	}
	var stubs []uint32
	s.mu.Lock()
	for uid, e := range box.sealed {
		if e.StubKey != "" && e.Temporary {
			stubs = append(stubs, uid)
		}
	}
	s.mu.Unlock()
	slices.Sort(stubs)
	if len(stubs) == 0 {
		return false, nil
	}
	defer s.cfg.reissues.lock(s.user + "\x00" + box.name)()
	// Another connection may have done it while this one waited.
	state, err := s.idx.Load(box.name, box.uidValidity)
	if err != nil {
		return false, fmt.Errorf("load mailbox index: %w", err)
	}
	done := false
	for window := range slices.Chunk(stubs, openWindow) {
		ready, err := s.nowOpen(box, window)
		if err != nil {
			return done, err
		}
		for _, uid := range ready {
			if e := state.Sealed[uid]; e.StubKey == "" || !e.Temporary {
				continue
			}
			s.mu.Lock()
			box.abandoned = true
			s.mu.Unlock()
			done = true
			err := s.reissueOne(box, uid)
			var refused *refusal
			if errors.As(err, &refused) {
				s.report(slog.LevelWarn, "opened message keeps its stub", err)
				continue
			}
			if err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// nowOpen returns those of the messages that open.
func (s *session) nowOpen(box *mailbox, uids []uint32) ([]uint32, error) {
	byLayout := make(map[string][]uint32)
	entries := make(map[uint32]*sealedEntry)
	s.mu.Lock()
	for _, uid := range uids {
		e := box.sealed[uid]
		entries[uid] = e
		byLayout[e.layout.Control] = append(byLayout[e.layout.Control], uid)
	}
	s.mu.Unlock()
	var ready []uint32
	for control, group := range byLayout {
		parts, err := s.fetchControls(box, control, group)
		if err != nil {
			return nil, err
		}
		for _, uid := range group {
			p := parts[uid]
			if p == nil {
				continue
			}
			m, err := s.sealedMessage(box, uid, entries[uid], p)
			if err != nil {
				return nil, err
			}
			v, err := s.openMessage(m)
			if err != nil {
				s.report(slog.LevelDebug, "stub still closed", err)
				continue
			}
			if !v.Stub {
				ready = append(ready, uid)
			}
		}
	}
	slices.Sort(ready)
	return ready, nil
}

// reissueOne copies one message within the mailbox and expunges the old one. A
// crash in between leaves both: the stub and the opened message.
func (s *session) reissueOne(box *mailbox, uid uint32) error {
	if !wire.Quotable([]byte(box.name)) {
		return nil // no mail client names mailboxes like that; the stub stays
	}
	name := wire.AppendQuoted(nil, []byte(box.name))
	_, err := s.own(append(fmt.Appendf(nil, "UID COPY %d ", uid), name...), nil)
	var refused *refusal
	if errors.As(err, &refused) {
		// Some providers do not copy within a mailbox.
		err = s.copyByAppend(box, uid, name)
	}
	if err != nil {
		return fmt.Errorf("copy message: %w", err)
	}
	// From here on the old one is not tried again, expunged or not.
	s.mu.Lock()
	entry := box.sealed[uid].Entry
	s.mu.Unlock()
	entry.Temporary = false
	if err := s.idx.Update(box.name, box.uidValidity, Change{Put: map[uint32]Entry{uid: entry}}); err != nil {
		return fmt.Errorf("store mailbox index: %w", err)
	}
	if _, err := s.own(fmt.Appendf(nil, `UID STORE %d +FLAGS.SILENT (\Deleted)`, uid), nil); err != nil {
		return fmt.Errorf("mark stub deleted: %w", err)
	}
	if _, err := s.own(fmt.Appendf(nil, "UID EXPUNGE %d", uid), nil); err != nil {
		return fmt.Errorf("expunge stub: %w", err)
	}
	return nil
}

// copyWindow is how much of a message one fetch brings when it is copied.
const copyWindow = 1 << 20

// copyByAppend stores a message once more, as it lies at the provider, with
// its flags and date.
func (s *session) copyByAppend(box *mailbox, uid uint32, name []byte) error {
	set := s.seqSet(box, []uint32{uid})
	if len(set) == 0 {
		return errMissing
	}
	line := append([]byte("APPEND "), name...)
	err := s.fetchOwn(set, "UID FLAGS INTERNALDATE", "INTERNALDATE", func(_ uint32, got []overlay.ResponseItem) error {
		flags := withoutOwn(overlay.FindItem(got, "FLAGS").Flags())
		flags = slices.DeleteFunc(flags, func(f string) bool { return equalFold(f, `\Recent`) || equalFold(f, `\Deleted`) })
		line = append(line, " ("+strings.Join(flags, " ")+") "...)
		line = append(line, overlay.FindItem(got, "INTERNALDATE").Value...)
		return nil
	})
	if err != nil {
		return err
	}
	content := spool.New(s.cfg.SpoolDir, s.cfg.Limits.SpoolMemory)
	defer func() {
		if err := content.Close(); err != nil {
			s.log.Warn("close spool", "error", err)
		}
	}()
	for more := true; more; {
		want := fmt.Sprintf("BODY[]<%d>", content.Size())
		item := fmt.Sprintf("UID BODY.PEEK[]<%d.%d>", content.Size(), copyWindow)
		var piece []byte
		err := s.fetchOwn(set, item, want, func(_ uint32, got []overlay.ResponseItem) error {
			piece, _ = overlay.FindItem(got, want).String()
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := content.Write(piece); err != nil {
			return err
		}
		more = len(piece) == copyWindow
	}
	c := &command{tag: s.nextTag(), capture: true}
	line = append([]byte(c.tag+" "), append(line, ' ')...)
	if err := s.upload(c, line, io.NewSectionReader(content, 0, content.Size()), content.Size()); err != nil {
		return err
	}
	if c.status != "OK" {
		return &refusal{command: "APPEND", text: string(c.line)}
	}
	return nil
}

// keyedLocks are mutexes by name.
type keyedLocks struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	mu    sync.Mutex
	users int
}

// lock locks a name and returns its unlock function.
func (k *keyedLocks) lock(name string) func() {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = make(map[string]*keyedLock)
	}
	l := k.locks[name]
	if l == nil {
		l = &keyedLock{}
		k.locks[name] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		if l.users--; l.users == 0 {
			delete(k.locks, name)
		}
		k.mu.Unlock()
	}
}
