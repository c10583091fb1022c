package state

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
)

// Shelf says under which archive key an epoch object lies. Destroying a shelf's
// key destroys what was sealed under it, at the key server and in every copy
// made of it, as far as no copy of the key is left.
type Shelf struct {
	// Scope is "" for what is kept for ever, else what Tx.Scope gave.
	Scope string
	// Month is a label, "2026-11". It is taken from the clock of the device that
	// made the key, and says nothing reliable about time.
	Month string
}

// ErrKept is the answer to a request to destroy a key that is kept for ever.
var ErrKept = errors.New("archive keys of this scope are never destroyed")

const scopeSize = 12 // octets of a scope's name, so that a keyring stays small

// Scope names the archive keys of one of an account's groups, for a Shelf.
func (t *Tx) Scope(k Key) string {
	h := mac(t.base.ring.Index, "archive scope", k.Account.Platform, k.Account.ID, k.Name)
	return "g" + base64.RawURLEncoding.EncodeToString([]byte(h)[:scopeSize])
}

// Month is the label that new archive keys get now.
func (t *Tx) Month() string { return monthOf(t.store.cfg.Now()) }

// PutArchived is Put for an epoch object on a shelf; no Month stands for the
// present one. The shelf's key is made when it is first needed.
func (t *Tx) PutArchived(k Key, data []byte, on Shelf) error {
	if k.Type != TypeEpoch {
		return t.fail(fmt.Errorf("object type %d is not archived", k.Type))
	}
	if on.Scope == scopePersonal {
		return t.fail(errors.New("epoch objects do not lie under the personal archive key"))
	}
	if err := t.Put(k, data); err != nil {
		return err
	}
	id := objectID(t.base.ring.Index, k)
	w := t.writes[id]
	w.shelf = on
	t.writes[id] = w
	return nil
}

// ShelfOf tells where an epoch object of the state lies, which may need the key
// server. ErrNotFound as for Get.
func (t *Tx) ShelfOf(k Key) (Shelf, error) {
	if err := k.check(); err != nil || k.Type != TypeEpoch {
		return Shelf{}, t.fail(errors.Join(err, errors.New("only epoch objects lie on a shelf")))
	}
	v, ok := t.base.view.find(objectID(t.base.ring.Index, k))
	if !ok {
		return Shelf{}, ErrNotFound
	}
	sealed, err := t.store.sealed(t.ctx, []version{v})
	if err != nil {
		return Shelf{}, t.fail(err)
	}
	h, err := envelope.ParseHeader(sealed[v.id])
	if err != nil {
		return Shelf{}, t.fail(fmt.Errorf("open object: %w", err))
	}
	for _, a := range t.base.ring.Archive {
		if a.Number == h.KeyVersion {
			return Shelf{a.Scope, a.Month}, nil
		}
	}
	return Shelf{}, t.fail(fmt.Errorf("no archive key %d", h.KeyVersion))
}

// Shelves lists the months of a scope for which there are keys, in the order in
// which they were made.
func (t *Tx) Shelves(scope string) []string {
	var months []string
	for _, a := range t.currentRing().Archive {
		if a.Scope == scope && !slices.Contains(months, a.Month) {
			months = append(months, a.Month)
		}
	}
	return months
}

// DropShelf destroys the key of a shelf. The caller has deleted or moved, in
// this transaction or before, every object that lies on it: what is left can
// never be opened again. A shelf that does not exist is no error; one that is
// kept for ever is ErrKept.
func (t *Tx) DropShelf(s Shelf) error {
	if s.Scope == "" || s.Scope == scopePersonal {
		return t.fail(ErrKept)
	}
	for _, w := range t.writes {
		if w.key.Type == TypeEpoch && !w.deleted && t.shelf(w) == s {
			return t.fail(errors.New("the archive key is in use by this transaction"))
		}
	}
	on := func(a archiveKey) bool { return a.Scope == s.Scope && a.Month == s.Month }
	if !slices.ContainsFunc(t.currentRing().Archive, on) {
		return nil
	}
	ring := t.changeRing()
	ring.Archive = slices.DeleteFunc(ring.Archive, on)
	return nil
}

// currentRing is the keyring as of this transaction.
func (t *Tx) currentRing() *keyring {
	if t.ring != nil {
		return t.ring
	}
	return t.base.ring
}

// shelf is where a write goes, with its month.
func (t *Tx) shelf(w write) Shelf {
	s := w.shelf
	if s.Month == "" {
		s.Month = t.Month()
	}
	return s
}

// archive gives the key of a shelf, made when first needed.
func (t *Tx) archive(w write) (archiveKey, error) {
	s := t.shelf(w)
	if a, ok := t.currentRing().current(s.Scope, s.Month); ok {
		return a, nil
	}
	return t.changeRing().add(s.Scope, s.Month)
}

// Has tells whether there is such an object as of this transaction, without the
// key server.
func (t *Tx) Has(k Key) bool {
	id := objectID(t.base.ring.Index, k)
	if w, ok := t.writes[id]; ok {
		return !w.deleted
	}
	_, ok := t.base.view.find(id)
	return ok
}

// Held tells whether this device has the present version of an object, so that
// reading it needs no key server.
func (t *Tx) Held(k Key) (bool, error) {
	v, ok := t.base.view.find(objectID(t.base.ring.Index, k))
	if !ok {
		return false, nil
	}
	b, err := t.store.cfg.Local.Get(bucketObjects, localKey(v.id))
	if err != nil {
		return false, t.fail(fmt.Errorf("read local store: %w", err))
	}
	return b != nil && envelope.Hash(b) == v.hash, nil
}

// Version gives the counter of an object in the verified state; false where it
// has none. It needs neither network nor disk. Sender objects have none.
func (s *Store) Version(k Key) (uint64, bool) {
	n := s.now.Load()
	if n == nil {
		return 0, false
	}
	v, ok := n.view.find(s.ids.of(n.ring.Index, k))
	return v.counter, ok
}
