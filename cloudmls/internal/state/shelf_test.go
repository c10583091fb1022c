package state

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// shelved puts a record of the scope of "instance" on a month's shelf.
func shelved(t *testing.T, s *Store, k Key, month, data string) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *Tx) error {
		return tx.PutArchived(k, []byte(data), Shelf{tx.Scope(group), month})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dropShelf(t *testing.T, s *Store, month string, also ...Key) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *Tx) error {
		for _, k := range also {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		return tx.DropShelf(Shelf{tx.Scope(group), month})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestShelvesHaveKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	second, third := Key{TypeEpoch, "instance/2", mail}, Key{TypeEpoch, "instance/3", mail}
	put(t, a, record, "for ever")
	shelved(t, a, second, "2026-01", "January")
	shelved(t, a, third, "2026-02", "February")
	where := map[Key]Shelf{}
	err := a.Update(t.Context(), func(tx *Tx) error {
		for _, k := range []Key{record, second, third} {
			s, err := tx.ShelfOf(k)
			if err != nil {
				return err
			}
			where[k] = s
		}
		if got := tx.Shelves(tx.Scope(group)); !slices.Equal(got, []string{"2026-01", "2026-02"}) {
			t.Errorf("shelves %q", got)
		}
		if tx.Scope(group) == tx.Scope(Key{Name: "another", Account: mail}) || where[record].Scope != "" ||
			where[second].Scope != tx.Scope(group) || where[third].Month != "2026-02" {
			t.Errorf("records lie at %+v", where)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	highest := a.now.Load().ring.Last
	dropShelf(t, a, "2026-02")
	if _, err := a.Get(t.Context(), third); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a record opens without its key, or is taken for absent: %v", err)
	}
	if get(t, a, second) != "January" || get(t, a, record) != "for ever" {
		t.Error("another shelf's record does not open")
	}
	shelved(t, a, third, "2026-02", "again")
	if got := a.now.Load().ring.Last; got != highest+1 {
		t.Errorf("the number of a destroyed key was given to another one: %d after %d", got, highest)
	}
	for _, s := range []Shelf{{}, {"", monthOf(a.cfg.Now())}, {scopePersonal, ""}} {
		err := a.Update(t.Context(), func(tx *Tx) error { return tx.DropShelf(s) })
		if !errors.Is(err, ErrKept) {
			t.Errorf("key of %+v: %v, want ErrKept", s, err)
		}
	}
	err = a.Update(t.Context(), func(tx *Tx) error {
		on := Shelf{tx.Scope(group), "2026-02"}
		if err := tx.PutArchived(third, nil, on); err != nil {
			return err
		}
		return tx.DropShelf(on)
	})
	if err == nil {
		t.Error("a key was destroyed in the transaction that uses it")
	}
}

// TestDeletedRecordsLeaveEveryDevice: what is deleted at one device goes at the
// others when they look, however long they were away, and whether or not they
// remember what they had.
func TestDeletedRecordsLeaveEveryDevice(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"remembers": false, "lost its index": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			second := Key{TypeEpoch, "instance/2", mail}
			shelved(t, a, record, "2026-01", "deleted")
			shelved(t, a, second, "2026-01", "replaced")
			refresh(t, b)
			get(t, b, record)
			old := get(t, b, second)
			local := f.local[1]
			for _, k := range []Key{record, second} {
				if v, _ := local.Get(bucketObjects, localKey(b.id(k))); v == nil {
					t.Fatal("the device keeps no copy of what it read")
				}
			}
			_ = b.Close()
			if forget {
				_ = local.Update(func(w Writer) error { return w.Delete(bucketObjects, localKey(bootstrapID(TypeHead))) })
			}
			shelved(t, a, second, "2026-02", "kept")
			dropShelf(t, a, "2026-01", record)

			b = f.device(t, 1)
			refresh(t, b)
			if v, _ := local.Get(bucketObjects, localKey(b.id(record))); v != nil {
				t.Error("a deleted record stays on the disk of another device")
			}
			if v, _ := local.Get(bucketObjects, localKey(b.id(second))); v != nil {
				t.Error("what a record was replaced for stays on the disk of another device")
			}
			if _, err := b.Get(t.Context(), record); !errors.Is(err, ErrNotFound) {
				t.Errorf("a deleted record: %v", err)
			}
			if got := get(t, b, second); got != "kept" || old != "replaced" {
				t.Errorf("got %q, before %q", got, old)
			}
		})
	}
}

func TestMonthIsOfTheClock(t *testing.T) {
	t.Parallel()
	a := setUp(t).device(t, 0)
	a.cfg.Now = func() time.Time { return time.Date(2031, 2, 3, 0, 0, 0, 0, time.UTC) }
	shelved(t, a, record, "", "x")
	err := a.Update(t.Context(), func(tx *Tx) error {
		if s, err := tx.ShelfOf(record); err != nil || s.Month != "2031-02" || tx.Month() != s.Month {
			t.Errorf("%+v, %v", s, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
