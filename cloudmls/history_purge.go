package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
)

const (
	dayMillis = 24 * 60 * 60 * 1000
	// markParts is how many marks a policy's days are divided into: so much
	// longer than it says is history kept at most, for lack of marks.
	markParts = 16
	// purgeStep is how many epochs are deleted in one transaction.
	purgeStep = 1000
	// moveStep is how many octets of records are sealed anew in one transaction,
	// the last one not counted: with it they stay below keyapi.MaxTxSize.
	moveStep = 16 << 20
	// purgePasses is how many transactions one Maintain deletes with in a group: a
	// history that is longer, or a state that never says that nothing is left, must
	// not keep it from the other groups. The next Maintain goes on.
	purgePasses = 32
)

// purgeHistory deletes the epochs of a group that were over for as long as the
// policy says: their archive records at once, and the archive keys of a month
// when the month is past by that long, so that copies of the records are worth
// nothing. What lies under such a key and is not due yet is sealed anew under
// the present month's key first.
//
// An epoch counts as over from when it was first seen to be (historyMark), by a
// clock that can be trusted, not from when some member's clock says.
func (c *Client) purgeHistory(ctx context.Context, self Account, i *instance, t time.Time) error {
	for range purgePasses {
		more := false
		err := c.update(ctx, self, func(tx *state.Tx, v *view) error {
			more = false
			conv, err := v.conversation(i.conversation)
			if err != nil {
				return err
			}
			if conv == nil {
				return errNothing
			}
			now := conv.instance(i.group)
			if now == nil || now.days == 0 {
				return errNothing
			}
			stuck := conv.stuck(now, t)
			if stuck {
				now.open = false
			}
			h, err := v.history(now.group)
			if err != nil {
				return err
			}
			changed := h.mark(now, t)
			from := h.due(now, t)
			if from > h.From {
				changed = true
				if more, err = deleteEpochs(v, now, h, from); err != nil {
					return err
				}
				if stuck && h.From > now.last() {
					if err := v.dropLive(conv); err != nil {
						return err
					}
				}
			}
			dropped := false
			if !more {
				if dropped, more, err = dropMonths(tx, v, now, h, t, c.moveStep); err != nil {
					return err
				}
			}
			if !changed && !dropped && !more {
				return errNothing
			}
			crashpoint.Here("history-due")
			return v.put(historyKey(v.self, now.group), h)
		})
		if err != nil && !errors.Is(err, errNothing) {
			return fmt.Errorf("delete history: %w", err)
		}
		if err == nil {
			crashpoint.Here("history-deleted")
		}
		if !more {
			return nil
		}
	}
	return nil
}

// mark notes what is over now. A mark of the future was made by a clock that has
// been set back since; it counts from now on.
func (h *historyRecord) mark(i *instance, t time.Time) (changed bool) {
	now := t.UnixMilli()
	for n := range h.Marks {
		if h.Marks[n].At > now+dayMillis {
			h.Marks[n].At, changed = now, true
		}
	}
	over, ok := i.over()
	if !ok || over < h.From {
		return changed
	}
	if n := len(h.Marks); n > 0 {
		newest := h.Marks[n-1]
		if newest.Epoch >= over || now-newest.At < max(1, int64(i.days)/markParts)*dayMillis {
			return changed
		}
	}
	h.Marks = append(h.Marks, historyMark{Epoch: over, At: now})
	return true
}

// due gives the first epoch that is not to be deleted yet.
func (h *historyRecord) due(i *instance, t time.Time) uint64 {
	from := h.From
	for _, m := range h.Marks {
		if m.At+int64(i.days)*dayMillis <= t.UnixMilli() {
			from = max(from, m.Epoch+1)
		}
	}
	return from
}

// deleteEpochs deletes the records of epochs before one, and the bundles that
// hold nothing else; more says that some are left.
func deleteEpochs(v *view, i *instance, h *historyRecord, from uint64) (more bool, err error) {
	n, next := 0, from
	err = i.epochs(h.From, from-1, func(e uint64) error {
		if n++; n > purgeStep {
			next = min(next, e)
			return nil
		}
		v.delete(epochKey(v.self, i.group, e))
		return nil
	})
	if err != nil {
		return false, err
	}
	kept := h.Bundles[:0:0]
	for _, b := range h.Bundles {
		if b[1] < next {
			v.delete(bundleKey(v.self, i.group, b[0]))
		} else {
			kept = append(kept, b)
		}
	}
	h.From, h.Bundles = next, kept
	marks := h.Marks[:0:0]
	for _, m := range h.Marks {
		if m.Epoch >= next {
			marks = append(marks, m)
		}
	}
	h.Marks = marks
	return next < from, nil
}

// dropMonths destroys the archive keys of months that are past by as long as the
// policy says. more says that there was more under one than is moved at once: its
// key stays until nothing is left under it.
func dropMonths(tx *state.Tx, v *view, i *instance, h *historyRecord, t time.Time, octets int) (dropped, more bool, err error) {
	scope := shelfScope(tx, epochKey(v.self, i.group, 0))
	for _, month := range tx.Shelves(scope) {
		end, err := endOfMonth(month)
		if err != nil {
			return dropped, false, err
		}
		if month == tx.Month() || end.UnixMilli()+int64(i.days)*dayMillis > t.UnixMilli() {
			continue
		}
		on := state.Shelf{Scope: scope, Month: month}
		if more, err = moveFrom(tx, v, i, h, on, &octets); more || err != nil {
			return dropped, more, err
		}
		if err := tx.DropShelf(on); err != nil {
			return dropped, false, err
		}
		h.Dropped++
		dropped = true
	}
	return dropped, false, nil
}

// moveFrom seals anew, under the present month's key, what lies on a shelf and
// is not deleted, until there are no octets left to do it with.
func moveFrom(tx *state.Tx, v *view, i *instance, h *historyRecord, from state.Shelf, octets *int) (more bool, err error) {
	to := state.Shelf{Scope: from.Scope}
	err = i.epochs(h.From, i.last(), func(n uint64) error {
		k := epochKey(v.self, i.group, n)
		if !tx.Has(k) {
			return nil
		}
		if on, err := tx.ShelfOf(k); err != nil || on != from {
			return err
		}
		if *octets <= 0 {
			more = true
			return nil
		}
		b, err := tx.Get(k)
		if err != nil {
			return err
		}
		*octets -= len(b)
		return tx.PutArchived(k, b, to)
	})
	if err != nil {
		return false, err
	}
	for n, span := range h.Bundles {
		k := bundleKey(v.self, i.group, span[0])
		if on, err := tx.ShelfOf(k); err != nil || on != from {
			if err != nil {
				return false, err
			}
			continue
		}
		if *octets <= 0 {
			return true, nil
		}
		raw, err := tx.Get(k)
		if err != nil {
			return false, err
		}
		b, err := decodeBundle(raw)
		if err != nil {
			return false, err
		}
		rest, err := b.records(h.From)
		if err != nil {
			return false, err
		}
		if raw, err = pack(rest); err != nil {
			return false, err
		}
		*octets -= len(raw)
		first := uint64(rest[0].archive.Epoch())
		if first != span[0] {
			v.delete(k)
			h.Bundles[n][0] = first
		}
		if err := tx.PutArchived(bundleKey(v.self, i.group, first), raw, to); err != nil {
			return false, err
		}
	}
	return more, nil
}
