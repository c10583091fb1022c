//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// fork is another world: a copy of the key server's store, which goes on by itself.
type fork struct {
	to     func(device string) bool
	store  *boltstore.Store
	server *keyserver.Server
}

var errCopied = errors.New("copied")

// newFork copies the key server as it is now.
func (l *liar) newFork(to func(device string) bool) (*fork, error) {
	l.copies++
	path := fmt.Sprintf("%s.fork%d", l.w.path, l.copies)
	err := l.w.store.Update(context.Background(), func(keyserver.Writer) error { // nobody else writes meanwhile
		b, err := os.ReadFile(l.w.path)
		if err != nil {
			return err
		}
		t := template{file: bytes.TrimRight(b, "\x00"), size: int64(len(b))}
		return errors.Join(t.lay(path), errCopied)
	})
	if !errors.Is(err, errCopied) {
		return nil, err
	}
	x := &fork{to: to}
	if x.store, err = boltstore.Open(path); err != nil {
		return nil, err
	}
	x.server, err = keyserver.New(keyserver.Options{
		Store: x.store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		Limits: keyservertest.Unlimited(), Now: l.w.clock,
	})
	if err != nil {
		return nil, errors.Join(err, x.store.Close())
	}
	l.opened = append(l.opened, x)
	return x, nil
}

// close ends all other worlds.
func (l *liar) close() (err error) {
	for n, x := range l.opened {
		err = errors.Join(err, x.server.Close(), x.store.Close(), os.Remove(fmt.Sprintf("%s.fork%d", l.w.path, n+1)))
	}
	return err
}

// seen is the world that a device is shown; nil: the true one.
func (l *liar) seen(device string) *fork {
	for _, x := range l.forks {
		if x.to(device) {
			return x
		}
	}
	return nil
}

// forked shows devices another world from here on: the present one, or one in which
// their users' states are older ones and go on from there.
func (t *telling) forked() {
	x, err := t.l.newFork(t.to)
	if err != nil {
		t.l.w.fail("fork: %v", err)
		return
	}
	if t.s.N%3 == 0 {
		for name, s := range t.frozen() {
			if err := evil.WriteObjects(context.Background(), x.store, name, s); err != nil {
				t.l.w.fail("fork: %v", err)
			}
		}
	}
	t.l.forks, t.l.split = append(t.l.forks, x), true
	t.lie.end = func() {
		for n, y := range t.l.forks {
			if x == y {
				t.l.forks = append(t.l.forks[:n:n], t.l.forks[n+1:]...)
			}
		}
	}
}

// second withholds Commits, and has a second one accepted for an epoch that is over.
func (t *telling) second() {
	t.pages(func(a keyapi.Account, p *keyapi.Deliveries) {
		rest := p.Messages[:0]
		for _, d := range p.Messages {
			if evil.IsCommit(&d) {
				t.l.keep(a, d)
			} else {
				rest = append(rest, d)
			}
		}
		p.Messages = rest
	})
	t.always(evil.To("POST", "/v1/tx"), func(e *evil.Exchange, serve func()) {
		serve()
		var p keyapi.Problem
		var sent keyapi.Tx
		if e.Status != http.StatusConflict || json.Unmarshal(e.Answered, &p) != nil || p.Code != keyapi.CodeEpochConflict ||
			json.Unmarshal(e.Sent, &sent) != nil || sent.Commit == nil {
			return
		}
		before := t.l.opened0[epochOf(sent.Commit.Group, sent.Commit.Epoch)]
		if before == nil {
			return
		}
		err := t.l.w.store.Update(context.Background(), func(w keyserver.Writer) error { return w.PutConversation(before) })
		if err != nil {
			t.l.w.fail("a second Commit: %v", err)
			return
		}
		serve()
		if e.Status == http.StatusOK {
			t.l.w.counts["second Commit accepted"]++
			t.l.split, t.l.doubled = true, true
		}
	})
}

func epochOf(group []byte, epoch uint64) string { return fmt.Sprintf("%x/%d", group, epoch) }

// noteEpoch remembers how a conversation stands, for a second Commit.
func (l *liar) noteEpoch(c *keyapi.CommitSubmission) {
	err := l.w.store.View(context.Background(), func(r keyserver.Reader) error {
		have, err := r.Conversation(c.Kind, keyserver.ConversationID(c.Conversation))
		if err == nil && have != nil {
			l.opened0[epochOf(have.Group, have.Epoch)] = have
		}
		return err
	})
	if err != nil {
		l.w.fail("look at a conversation: %v", err)
	}
}

// wayOut is what is left to a device that was shown another world, and says so: its
// copy goes, and it signs in anew.
func (l *liar) wayOut(f *frame, err error) bool {
	var rollback *cloudmls.RollbackError
	if l == nil || !l.ended || !f.d.forked || !errors.As(err, &rollback) && !errors.Is(err, cloudmls.ErrSignInChanged) {
		return false
	}
	f.note("signs in anew")
	if f.d.client != nil {
		if err := f.d.client.Close(); err != nil {
			l.w.fail("%s: close: %v", f.d.name, err)
		}
	}
	f.d.client, f.d.forked, f.troubled = nil, false, true
	f.d.disk = newDisk()
	f.d.disk.update = f.write
	f.d.lives++
	clear(f.d.knows)
	clear(f.d.shown)
	f.d.head, f.head, f.rolled = headSeen{}, headSeen{}, false
	l.w.counts["signs in anew"]++
	return true
}

// life names a device from one time that it was made anew to the next.
func (d *device) life() string { return fmt.Sprintf("%s.%d", d.name, d.lives) }
