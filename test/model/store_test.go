//go:build crashpoints && weakkdf

package model

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
)

// disk is what a device keeps. It can fail, and it can be set back.
type disk struct {
	values map[string][]byte // by bucket, NUL, key; a value never changes
	// dead: the device crashed, nothing is stored any more.
	dead bool
	// update is asked before and after each write; an error is a failed write.
	update func(done bool) error
}

var _ cloudmls.LocalStore = (*disk)(nil)

var errDead = errors.New("model: a crashed device uses its store")

func newDisk() *disk { return &disk{values: map[string][]byte{}} }

// copy gives the disk as a backup would.
func (d *disk) copy() map[string][]byte { return maps.Clone(d.values) }

func (d *disk) Get(bucket, key string) ([]byte, error) {
	if d.dead {
		return nil, errDead
	}
	v, ok := d.values[bucket+"\x00"+key]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

func (d *disk) Update(fn func(w cloudmls.Writer) error) error {
	if d.dead {
		return errDead
	}
	w := &diskWriter{}
	if err := fn(w); err != nil {
		return err
	}
	if d.update != nil {
		if err := d.update(false); err != nil {
			return err
		}
	}
	if d.dead {
		return errDead
	}
	for _, c := range w.changes {
		if c.value == nil {
			delete(d.values, c.key)
		} else {
			d.values[c.key] = c.value
		}
	}
	if d.update != nil {
		return d.update(true)
	}
	return nil
}

func (d *disk) ForEach(bucket string, fn func(key string, v []byte) error) error {
	if d.dead {
		return errDead
	}
	prefix := bucket + "\x00"
	var keys []string
	for k := range d.values {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys) // a history goes the same way each time
	for _, k := range keys {
		if err := fn(k[len(prefix):], d.values[k]); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) Close() error { return nil }

type diskWriter struct{ changes []diskChange }

type diskChange struct {
	key   string
	value []byte // nil: deleted
}

func (w *diskWriter) Put(bucket, key string, v []byte) error {
	w.changes = append(w.changes, diskChange{bucket + "\x00" + key, append([]byte{}, v...)})
	return nil
}

func (w *diskWriter) Delete(bucket, key string) error {
	w.changes = append(w.changes, diskChange{bucket + "\x00" + key, nil})
	return nil
}
