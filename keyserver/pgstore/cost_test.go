package pgstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// party is somebody whose requests are carried out as the server does it.
type party struct {
	s       *Store
	user    keyserver.UserID
	session keyserver.SessionID
	account keyapi.Account
	next    *party
	data    []byte
	counter uint64
	epoch   uint64
}

var now = time.Unix(1_800_000_000, 0)

func parties(t testing.TB, s *Store, n, stock int) []*party {
	t.Helper()
	all := make([]*party, n)
	for i := range all {
		p := &party{s: s, account: keyapi.Account{Platform: "email", ID: fmt.Sprint("p", i, "@example.org")}, data: make([]byte, 1024)}
		rand.Read(p.user[:])
		rand.Read(p.session[:])
		rand.Read(p.data)
		all[i] = p
	}
	for i, p := range all {
		p.next = all[(i+1)%n]
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			session := &keyserver.Session{ID: p.session, User: p.user, Created: now, Used: now, Token: keyserver.Hash(p.data)}
			if err := w.PutSession(session); err != nil {
				return err
			}
			for range stock {
				ref := make([]byte, 32)
				rand.Read(ref)
				if err := w.AddKeyPackage(p.account, &keyserver.KeyPackage{Ref: ref, NotAfter: now, Data: p.data}); err != nil {
					return err
				}
			}
			return w.PutAccount(&keyserver.Account{Account: p.account, User: p.user, Created: now})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (p *party) check(r keyserver.Reader, plan *keyserver.Plan) error {
	plan.User, plan.Session = p.user, p.session
	if err := r.Foresee(plan); err != nil {
		return err
	}
	session, err := r.Session(p.session)
	if err == nil && (session == nil || session.User != p.user) {
		err = fmt.Errorf("session is %v", session)
	}
	return err
}

func body() (h keyserver.Hash) {
	rand.Read(h[:])
	return h
}

// tx changes the party's object.
func (p *party) tx() error {
	b, id := body(), keyapi.ObjectID(p.data)
	err := p.s.Update(context.Background(), func(w keyserver.Writer) error {
		if err := p.check(w, &keyserver.Plan{Body: b, Objects: []keyapi.ObjectID{id}}); err != nil {
			return err
		}
		if _, err := w.TxResult(p.user, b, now); err != nil {
			return err
		}
		if _, err := w.ObjectVersion(p.user, id); err != nil {
			return err
		}
		if err := w.PutObject(p.user, &keyapi.Object{ID: id, Counter: p.counter + 1, Data: p.data}); err != nil {
			return err
		}
		if _, err := w.Usage(p.user); err != nil {
			return err
		}
		return p.keep(w, b)
	})
	p.counter++
	return err
}

func (p *party) keep(w keyserver.Writer, b keyserver.Hash) error {
	if err := w.Expire(now, 64); err != nil {
		return err
	}
	return w.PutTxResult(p.user, b, &keyapi.TxResult{Applied: true}, now.Add(24*time.Hour))
}

// post opens an epoch; the Commit goes to the next party.
func (p *party) post() error {
	b := body()
	c := &keyserver.Conversation{ID: keyserver.ConversationID(p.user), Kind: keyapi.KindGroup, Group: p.data[:32], Epoch: p.epoch + 1, TokenHash: p.data[:32]}
	err := p.s.Update(context.Background(), func(w keyserver.Writer) error {
		plan := &keyserver.Plan{Body: b, Kind: c.Kind, Conv: c.ID, Group: c.Group, Sender: p.account, Accounts: []keyapi.Account{p.next.account}}
		if err := p.check(w, plan); err != nil {
			return err
		}
		if _, err := w.TxResult(p.user, b, now); err != nil {
			return err
		}
		if _, err := w.Account(p.account); err != nil {
			return err
		}
		if _, err := w.Conversation(c.Kind, c.ID); err != nil {
			return err
		}
		if err := w.PutConversation(c); err != nil {
			return err
		}
		if _, err := w.InboxUsage(p.next.account, p.user); err != nil {
			return err
		}
		d := &keyapi.Delivery{Type: keyapi.DeliveryCommit, Conversation: c.ID[:], Kind: c.Kind, Group: c.Group, Epoch: c.Epoch, Sender: p.account, Message: p.data}
		if err := w.Deliver(d, p.user, []keyapi.Account{p.next.account}); err != nil {
			return err
		}
		return p.keep(w, b)
	})
	p.epoch++
	return err
}

func (p *party) claim() error {
	return p.s.Update(context.Background(), func(w keyserver.Writer) error {
		a := p.next.account
		if err := p.check(w, &keyserver.Plan{Accounts: []keyapi.Account{a}, Pool: a, Now: now}); err != nil {
			return err
		}
		if _, err := w.Account(a); err != nil {
			return err
		}
		kp, _, err := w.TakeKeyPackage(a, now)
		if err == nil && kp == nil {
			err = fmt.Errorf("no KeyPackage is left")
		}
		return err
	})
}

func (p *party) fetch() error {
	return p.s.View(context.Background(), func(r keyserver.Reader) error {
		if err := p.check(r, &keyserver.Plan{Accounts: []keyapi.Account{p.account}}); err != nil {
			return err
		}
		if _, err := r.Account(p.account); err != nil {
			return err
		}
		if _, err := r.LastSeq(p.account); err != nil {
			return err
		}
		_, err := r.Deliveries(p.account, 0, 1, 1<<20)
		return err
	})
}

var requests = []struct {
	name string
	do   func(*party) error
}{{"claim", (*party).claim}, {"tx", (*party).tx}, {"post", (*party).post}, {"fetch", (*party).fetch}}

// BenchmarkCost: processor time of this process and of the database for each
// request, by how many are under way.
func BenchmarkCost(b *testing.B) {
	for _, n := range []int{1, 128} {
		for _, r := range requests {
			b.Run(fmt.Sprint(r.name, "/", n), func(b *testing.B) { cost(b, r.do, n) })
		}
	}
}

func cost(b *testing.B, do func(*party) error, n int) {
	o := newOptions()
	o.MaxConns = 0
	s, err := Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	all := parties(b, s, n, 3*b.N/n+1)
	if err := all[0].post(); err != nil {
		b.Fatal(err)
	}
	cpu := func() (ours, theirs time.Duration) {
		var use syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
			b.Fatal(err)
		}
		theirs, err := database.CPU()
		if err != nil {
			b.Fatal(err)
		}
		return time.Duration(use.Utime.Nano() + use.Stime.Nano()), theirs
	}
	ours, theirs := cpu()
	before, statements := s.trips.Load(), s.statements.Load()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	o1, t1 := cpu()
	b.ReportMetric(float64((o1-ours).Microseconds())/float64(b.N), "us-here/op")
	b.ReportMetric(float64((t1-theirs).Microseconds())/float64(b.N), "us-there/op")
	b.ReportMetric(float64(s.trips.Load()-before)/float64(b.N), "trips/op")
	b.ReportMetric(float64(s.statements.Load()-statements)/float64(s.trips.Load()-before), "statements/trip")
}
