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
		return errors.Is(err, ErrSignedOut) || errors.Is(err, errStoreClosed) || errors.Is(err, keyapi.ErrSplit)
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
		submit = s.cfg.Server.Tx
	}
	var err error
	for try := range maxSends {
		if try > 0 {
			if err := s.backOff(ctx, try+2); err != nil {
				break
			}
		}
		err = s.Authorized(ctx, func(ctx context.Context, token string) error {
			got, err := submit(ctx, token, p.wire)
			if err == nil && !got.Applied {
				err = errUnclear
			}
			return err
		})
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
