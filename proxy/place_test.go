package proxy

import (
	"errors"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// TestRemovedAccountSendsNothing: whoever still holds an account that a reload
// removed neither sends nor reaches the provider by it.
func TestRemovedAccountSendsNothing(t *testing.T) {
	p := &place{id: "a@a.test", ahead: &errands{}}
	p.now.Store(&account{client: &cloudmls.Client{}})
	g := &Gateway{places: map[string]*place{p.id: p}, leaving: map[string]*place{}}
	if r := g.exchange(nil); len(r.Removed) != 1 || g.leaving[p.id] != p || len(g.places) != 0 {
		t.Fatalf("removed %v, leaving %v", r.Removed, g.leaving)
	}
	a := smtpAccount{p}
	var refusal *smtpd.Refusal
	if err := a.CheckRecipient(t.Context(), p.id, "b@b.test"); !errors.As(err, &refusal) || refusal.Temporary {
		t.Errorf("RCPT: %v", err)
	}
	if _, err := a.Seal(t.Context(), smtpd.Envelope{}, smtpd.Message{}); !errors.As(err, &refusal) {
		t.Errorf("content: %v", err)
	}
	if h := a.Prepare(t.Context()); h != nil {
		t.Errorf("MAIL prepares %v", h)
	}
	var failure *imapd.Failure
	if _, err := (imapAccount{place: p}).Dial(t.Context()); !errors.As(err, &failure) {
		t.Errorf("dial: %v", err)
	}
}

// TestReloadKeepsWhatWasLearnt: threads and verdicts protect what comes later, and
// two indexes of one mailbox would write over each other.
func TestReloadKeepsWhatWasLearnt(t *testing.T) {
	old := &account{
		threads: &threads{}, verdicts: &verdicts{}, index: &index{}, waiting: newWaiting(nil), health: &health{},
		spoolDir: "spool", generation: 4,
	}
	old.syncing = &syncer{old}
	p := &place{}
	p.now.Store(old)
	next := &account{threads: &threads{}, verdicts: &verdicts{}, index: &index{}, waiting: newWaiting(nil), health: &health{}}
	p.change(next)
	now := p.now.Load()
	if now != next || now.threads != old.threads || now.verdicts != old.verdicts || now.index != old.index ||
		now.waiting != old.waiting || now.health != old.health || now.syncing != old.syncing {
		t.Error("a reload makes the account forget")
	}
	if now.spoolDir != "spool" || now.generation != 5 {
		t.Errorf("spool %q, generation %d", now.spoolDir, now.generation)
	}
}

// TestSyncAheadCountsWhileItIsFresh: the Sync at MAIL stands for the message's own
// if it was this Client's and not long ago, also when it took long itself.
func TestSyncAheadCountsWhileItIsFresh(t *testing.T) {
	own, done := &cloudmls.Client{}, make(chan struct{})
	close(done)
	a := &account{client: own}
	const began = cloudmls.Moment(7)
	now := time.Now().Round(0)
	for name, c := range map[string]struct {
		h    *ahead
		want cloudmls.Moment
	}{
		"fresh":             {&ahead{client: own, began: began, at: now, done: done}, began},
		"of another client": {&ahead{client: &cloudmls.Client{}, began: began, at: now, done: done}, own.Moment()},
		"long ago":          {&ahead{client: own, began: began, at: now.Add(-aheadAge), done: done}, own.Moment()},
		"in the future":     {&ahead{client: own, began: began, at: now.Add(time.Hour), done: done}, own.Moment()},
		"none":              {nil, own.Moment()},
	} {
		if got := a.workBegan(t.Context(), smtpd.Envelope{Prepared: c.h}); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	slow := &ahead{client: own, began: began, at: now.Add(50*time.Millisecond - aheadAge), done: make(chan struct{})}
	time.AfterFunc(100*time.Millisecond, func() { close(slow.done) })
	if got := a.workBegan(t.Context(), smtpd.Envelope{Prepared: slow}); got != own.Moment() {
		t.Errorf("a slow one counts: %d", got)
	}
}
