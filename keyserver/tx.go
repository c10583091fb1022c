package keyserver

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// resultLifetime is how long an accepted transaction can be sent again.
const resultLifetime = 24 * time.Hour

// expireAtOnce bounds the clean-up that rides along with a write.
const expireAtOnce = 64

type txInput struct {
	RawBody []byte
	Body    keyapi.Tx
}

// tx carries out one transaction: objects, Commit, deliveries and
// acknowledgements in one transaction of the store, or none of them.
func (s *Server) tx(ctx context.Context, in *txInput) (*output[keyapi.TxResult], error) {
	who, t, now := bearer(ctx), &in.Body, s.Now()
	u := who.user
	if err := checkTx(t); err != nil {
		return nil, err
	}
	if err := s.rolesOfTx(t); err != nil {
		return nil, err
	}
	admitted := sync.OnceValue(func() error { return s.admitTx(u, t, now) })
	body := Hash(sha256.Sum256(in.RawBody))
	var result *keyapi.TxResult
	var woken []keyapi.Account
	var reserved int64 // of an answer, before it is known what there is to say
	reserve := sync.OnceValue(func() error {
		err := s.hold(ctx, keyapi.MaxObjectSize)
		if err == nil {
			reserved = keyapi.MaxObjectSize
		}
		return err
	})
	if _, err := s.remoteSession(ctx, who); err != nil { // which may have ended while the body came
		return nil, err
	}
	err := s.Store.Update(ctx, func(w Writer) (err error) {
		woken = nil
		if err := w.Foresee(planOf(who, body, t)); err != nil {
			return err
		}
		if err := s.present(w, who); err != nil {
			return err
		}
		if err := admitted(); err != nil {
			return err
		}
		if result, err = w.TxResult(u, body, now); err != nil || result != nil {
			return err
		}
		result = &keyapi.TxResult{Applied: true}
		if woken, err = s.apply(winnerHeld{w, reserve}, u, t, result); err != nil {
			return err
		}
		if err := w.Expire(now, expireAtOnce); err != nil {
			return err
		}
		if err := w.PutTxResult(u, body, result, now.Add(resultLifetime)); err != nil {
			return err
		}
		crashpoint.Here("tx-applied")
		return nil
	})
	_ = s.hold(ctx, -reserved) // gives back; what an error brings along holdProblem counts
	if err != nil {
		return nil, err
	}
	crashpoint.Here("tx-durable")
	s.waiting.wake(woken)
	return &output[keyapi.TxResult]{*result}, nil
}

// admitTx counts a transaction. A session that has ended takes nothing from its
// user, so this is asked once it is known that it has not.
func (s *Server) admitTx(u UserID, t *keyapi.Tx, now time.Time) error {
	if wait, ok := s.limits.writes.take(u.String(), now); !ok {
		return rateLimited(wait)
	}
	if t.Commit != nil {
		if wait, ok := s.limits.commits.take(u.String(), now); !ok {
			return rateLimited(wait)
		}
	}
	return nil
}

// apply does the work of a transaction that was not seen before. Stale objects
// are told before a lost race for an epoch: whoever has stale state learns from
// fresh state who won.
func (s *Server) apply(w Writer, u UserID, t *keyapi.Tx, result *keyapi.TxResult) (woken []keyapi.Account, err error) {
	if err := s.changeObjects(w, u, t); err != nil {
		return nil, err
	}
	if t.Commit != nil {
		if woken, err = s.submit(w, u, t.Commit, result); err != nil {
			return nil, err
		}
	}
	for _, a := range t.Ack {
		if err := acknowledge(w, u, a); err != nil {
			return nil, err
		}
	}
	return woken, nil
}

func acknowledge(w Writer, u UserID, a keyapi.AckRequestFor) error {
	if _, err := owned(w, u, a.Account); err != nil {
		return err
	}
	last, err := w.LastSeq(a.Account)
	if err != nil {
		return err
	}
	if a.Seq > last {
		return invalid("acknowledged what was never delivered")
	}
	return w.Acknowledge(a.Account, a.Seq)
}
