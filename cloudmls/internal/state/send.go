package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxSends bounds how often the identical octets of a transaction are sent
// while answers are lost.
const maxSends = 4

var errUnclear = errors.New("answer to a transaction does not say that it was applied")

// settled tells whether err is the server's decision on a transaction. All
// else leaves open whether it was carried out.
func settled(err error) bool {
	switch problemCode(err) {
	case "", keyapi.CodeInternal, keyapi.CodeUnavailable:
		return errors.Is(err, ErrSignedOut) || errors.Is(err, ErrClosed) || errors.Is(err, keyapi.ErrSplit)
	}
	return true
}

// send gets a transaction accepted. A lost answer leads to the identical octets
// again, which the server answers identically; an answer that is still a
// conflict is compared with what the server has, since the first sending may
// have been what it conflicts with.
func (s *Store) send(ctx context.Context, p *step) error {
	submit := p.via
	if submit == nil {
		submit = s.submit
	}
	var err error
	for try := range maxSends {
		if try > 0 {
			if err := s.backOff(ctx, try+2); err != nil {
				break
			}
		}
		err = submit(ctx, p.wire)
		if err == nil {
			return nil
		}
		if settled(err) {
			if try > 0 && problemCode(err) != "" && s.wasApplied(ctx, p) {
				return nil
			}
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if ctx.Err() == nil && s.wasApplied(ctx, p) {
		return nil
	}
	return fmt.Errorf("change state: outcome not known: %w", err)
}

// submit carries out a transaction where the objects are. Where that is a store of
// the user's own, objects and deliveries are two servers': objects first, then
// acknowledgements, both of which may be repeated; a Commit goes alone.
func (s *Store) submit(ctx context.Context, tx keyapi.Tx) error {
	p := s.depot.Load()
	if p.home() {
		return s.submitTo(ctx, p, tx)
	}
	objects := keyapi.Tx{Expect: tx.Expect, Put: tx.Put, Delete: tx.Delete, Nonce: tx.Nonce}
	rest := keyapi.Tx{Commit: tx.Commit, Ack: tx.Ack, Nonce: tx.Nonce}
	if len(tx.Expect)+len(tx.Put)+len(tx.Delete) > 0 {
		if tx.Commit != nil {
			return keyapi.ErrSplit
		}
		if err := s.submitTo(ctx, p, objects); err != nil || len(tx.Ack) == 0 {
			return err
		}
	}
	return s.submitTo(ctx, s.homeDepot(), rest)
}

func (s *Store) submitTo(ctx context.Context, p *depot, tx keyapi.Tx) error {
	return s.at(ctx, p, func(ctx context.Context, srv objectServer, token string) error {
		return applied(srv.Tx(ctx, token, tx))
	})
}

func applied(got keyapi.TxResult, err error) error {
	if err == nil && !got.Applied {
		err = errUnclear
	}
	return err
}

// wasApplied asks the server whether this transaction was carried out. An error
// means no; the caller then reports its own.
func (s *Store) wasApplied(ctx context.Context, p *step) bool {
	if p.next != nil {
		if _, err := s.Refresh(ctx); err != nil {
			return false
		}
		return s.now.Load().view.descends(p.next.view)
	}
	if len(p.wire.Put) == 0 {
		return false
	}
	last := p.wire.Put[len(p.wire.Put)-1]
	got, err := s.objects(ctx, []keyapi.ObjectID{last.ID})
	if err != nil {
		return false
	}
	o, ok := got[last.ID]
	return ok && o.Counter == last.Counter && envelope.Hash(o.Data) == envelope.Hash(last.Data)
}

// descends tells whether v is old or comes after it, as far as v remembers.
func (v *view) descends(old *view) bool {
	if v.counter <= old.counter {
		return v.counter == old.counter && v.hash == old.hash
	}
	back := v.counter - old.counter
	return back <= uint64(len(v.head.history)) && v.head.history[back-1] == old.hash
}
