package imapd_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

// settling is a backend that stores what it found when it is told to.
// Its mutex guards these too.
type settling struct {
	*backend
	settled int
	err     error
}

func (s *settling) Login(ctx context.Context, user, pass string) (imapd.Account, error) {
	if _, err := s.backend.Login(ctx, user, pass); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *settling) Settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.settled++
	return nil
}

func (s *settling) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// TestFindingsAreStoredOnceAWindowAndBeforeTheyShow: many messages are settled
// together, and where that fails nothing that was found in them shows, not even
// in the flags of a later command.
func TestFindingsAreStoredOnceAWindowAndBeforeTheyShow(t *testing.T) {
	var account *settling
	w := newWorld(t, func(b *backend, o *imapd.Options) {
		b.keywords = []string{imapd.KeywordVerified}
		account = &settling{backend: b}
		o.Backend = account
	})
	const many = 40 // more than one window
	for range many {
		w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	}
	c := w.login()
	c.ok("SELECT INBOX")
	account.fail(errors.New("disk full"))
	for _, command := range []string{"FETCH 1:5 (FLAGS BODY.PEEK[])", "FETCH 1:5 BODY.PEEK[HEADER]"} {
		if got := joined(c.expect(command, "NO")); strings.Contains(got, "Subject") || strings.Contains(got, imapd.KeywordVerified) {
			t.Errorf("%s shows what was not stored: %q", command, got)
		}
	}
	if got := joined(c.ok("FETCH 1:5 FLAGS")); strings.Contains(got, imapd.KeywordVerified) {
		t.Errorf("flags show what was not stored: %q", got)
	}
	account.fail(nil)
	if got := c.ok("FETCH 1:* (FLAGS BODY.PEEK[])"); len(got) != many || !strings.Contains(joined(got), imapd.KeywordVerified) {
		t.Errorf("%d responses", len(got))
	}
	if account.settled > 2 {
		t.Errorf("%d messages were stored in %d steps", many, account.settled)
	}
	before := account.settled
	c.ok("FETCH 1:* (FLAGS BODY.PEEK[HEADER])")
	if account.settled != before {
		t.Error("what was shown already is stored again")
	}
}
