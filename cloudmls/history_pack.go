package cloudmls

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
)

const (
	// packFrom is how many archive records a group must have, each in an object of
	// its own, before it is looked at whether they can be packed.
	packFrom = 4
	// packAtOnce is how many records of the present month are packed before it is
	// over.
	packAtOnce = 32
)

// packHistory puts the archive records of epochs that are over, and of one
// month, into bundles. Only records that this device has at hand are packed: a
// new device does not fetch the history for it. Each bundle is one transaction,
// in which its records are deleted, so that it does not matter where a device
// stops, or whether another one is at it too.
func (c *Client) packHistory(ctx context.Context, self Account, i *instance) error {
	for range 64 { // bundles
		if c.alone(self, i) < packFrom {
			return nil
		}
		packed := false
		err := c.update(ctx, self, func(tx *state.Tx, v *view) error {
			packed = false
			conv, err := v.conversation(i.conversation)
			if err != nil {
				return err
			}
			if conv == nil {
				return errNothing
			}
			now := conv.instance(i.group)
			if now == nil {
				return errNothing
			}
			records, on, err := packable(tx, v, now)
			if err != nil {
				return err
			}
			if len(records) == 0 {
				return errNothing
			}
			packed = true
			if err := packInto(tx, v, now, records, on); err != nil {
				return err
			}
			crashpoint.Here("archive-packed")
			return nil
		})
		if err != nil && !errors.Is(err, errNothing) {
			return fmt.Errorf("pack archive records: %w", err)
		}
		if !packed {
			return nil
		}
		crashpoint.Here("archive-replaced")
	}
	return nil
}

// alone counts records that lie alone, without network and disk.
func (c *Client) alone(self Account, i *instance) int {
	n := 0
	_ = i.epochs(0, i.last(), func(e uint64) error {
		if _, ok := c.store.Version(epochKey(self, i.group, e)); ok {
			n++
		}
		return nil
	})
	return n
}

// packable gives the first run of consecutive records that can be packed, and
// the shelf for them: the newest that is over is left, since messages for it are
// still under way.
func packable(tx *state.Tx, v *view, i *instance) ([]*epochRecord, state.Shelf, error) {
	over, ok := i.over()
	if !ok || over == 0 {
		return nil, state.Shelf{}, nil
	}
	var (
		run  []*epochRecord
		on   state.Shelf
		size int
		done bool // run is to be packed
	)
	month := tx.Month()
	full := func() bool {
		switch {
		case on.Month == month:
			return len(run) >= packAtOnce
		case on.Scope == "":
			return len(run) >= packFrom
		}
		return len(run) >= 2
	}
	// What is kept for ever may lie under the key of any month; that of what is
	// not kept says when it is destroyed.
	together := func(a, b state.Shelf) bool {
		return a == b || a.Scope == "" && b.Scope == "" && a.Month != month && b.Month != month
	}
	err := i.epochs(0, over-1, func(n uint64) error {
		if done {
			return nil
		}
		k := epochKey(v.self, i.group, n)
		var b []byte
		var shelf state.Shelf
		held := false
		if tx.Has(k) {
			var err error
			if held, err = tx.Held(k); err != nil {
				return err
			}
		}
		if held {
			var err error
			if shelf, err = tx.ShelfOf(k); err != nil {
				return err
			}
			if b, err = tx.Get(k); err != nil {
				return err
			}
		}
		if !held || len(run) > 0 && (!together(on, shelf) || len(run) == maxBundle || size+len(b) > maxBundleSize || uint64(run[len(run)-1].archive.Epoch())+1 != n) {
			if done = full(); done {
				return nil
			}
			run, size = nil, 0
		}
		if held {
			r, err := decodeEpoch(b)
			if err != nil {
				return err
			}
			run, on, size = append(run, r), shelf, size+len(b)
		}
		return nil
	})
	if err != nil {
		return nil, state.Shelf{}, err
	}
	if !full() {
		run = nil
	}
	return run, on, nil
}

// packInto replaces records by a bundle on the shelf that they lie on.
func packInto(tx *state.Tx, v *view, i *instance, records []*epochRecord, on state.Shelf) error {
	b, err := pack(records)
	if err != nil {
		return err
	}
	first, last := uint64(records[0].archive.Epoch()), uint64(records[len(records)-1].archive.Epoch())
	if err := tx.PutArchived(bundleKey(v.self, i.group, first), b, on); err != nil {
		return err
	}
	for n := first; n <= last; n++ {
		v.delete(epochKey(v.self, i.group, n))
	}
	h, err := v.history(i.group)
	if err != nil {
		return err
	}
	h.addBundle(epochSpan{first, last})
	return v.put(historyKey(v.self, i.group), h)
}
