package state

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// alarmed checks that err is an alarm, that it sticks, and that nothing is sent
// any more.
func alarmed(t *testing.T, f *fixture, s *Store, err error) {
	t.Helper()
	var r *RollbackError
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want an alarm", err)
	}
	if errors.Is(err, ErrNotFound) {
		t.Fatal("an alarm is taken for absence")
	}
	if !errors.As(s.Err(), &r) {
		t.Error("the alarm does not stick")
	}
	before := f.server.count("tx")
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(conv, nil) }); !errors.As(err, &r) {
		t.Errorf("update after an alarm: %v", err)
	}
	if err := s.Swap(t.Context(), sending, func([]byte) ([]byte, error) { return nil, nil }); !errors.As(err, &r) {
		t.Errorf("swap after an alarm: %v", err)
	}
	if f.server.count("tx") != before {
		t.Error("something was sent after an alarm")
	}
}

// In 2022 the update counter stood outside the ciphertext and was checked by
// the server alone. Here the server replays, swaps and renumbers, and is found
// out each time.
func TestSeedFlaw09_CounterIsBoundIn(t *testing.T) {
	t.Parallel()
	objects := func(change func(o *keyapi.Object)) func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object) {
		return func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object) {
			f.server.inObjects = func(l *keyapi.ObjectList) {
				for i := range l.Objects {
					if l.Objects[i].ID == s.id(conv) {
						change(&l.Objects[i])
					}
				}
			}
		}
	}
	for name, evil := range map[string]func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object){
		"older version": func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object) {
			objects(func(o *keyapi.Object) { *o = old[o.ID] })(f, s, old)
		},
		"older version under the new counter": func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object) {
			objects(func(o *keyapi.Object) { o.Data = old[o.ID].Data })(f, s, old)
		},
		"another object": func(f *fixture, s *Store, old map[keyapi.ObjectID]keyapi.Object) {
			objects(func(o *keyapi.Object) { o.Data = old[s.id(group)].Data })(f, s, old)
		},
		"changed octet": objects(func(o *keyapi.Object) { o.Data[len(o.Data)-1] ^= 1 }),
		"older counter": objects(func(o *keyapi.Object) { o.Counter-- }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			put(t, a, group, "g")
			put(t, a, conv, "old")
			old := f.server.objects(username)
			put(t, a, conv, "new")
			refresh(t, b)
			evil(f, b, old)
			_, err := b.Get(t.Context(), conv)
			alarmed(t, f, b, err)
		})
	}
}

// The index is compared with the head: whatever is omitted, added, swapped,
// renumbered or wound back behind it (threats 15, 16, 19).
//
// A device that has nothing asks for all of it. One that has verified a head before
// asks for the buckets that have changed, or is told everything by a server that
// cannot be asked so; of the others it goes on with what it has verified, whatever the
// server says of them now.
func TestThreat19_IndexIsComparedWithTheHead(t *testing.T) {
	t.Parallel()
	find := func(x *keyapi.ObjectIndex, id keyapi.ObjectID) *keyapi.ObjectVersion {
		i := slices.IndexFunc(x.Objects, func(v keyapi.ObjectVersion) bool { return v.ID == id })
		if i < 0 {
			return &keyapi.ObjectVersion{Hash: make([]byte, 32)} // of a bucket that was not asked for
		}
		return &x.Objects[i]
	}
	drop := func(x *keyapi.ObjectIndex, id keyapi.ObjectID) {
		x.Objects = slices.DeleteFunc(x.Objects, func(v keyapi.ObjectVersion) bool { return v.ID == id })
	}
	add := func(x *keyapi.ObjectIndex, id keyapi.ObjectID) {
		x.Objects = append(x.Objects, keyapi.ObjectVersion{ID: id, Counter: 1, Hash: make([]byte, 32)})
	}
	type lie func(x *keyapi.ObjectIndex, s *Store)
	for name, tt := range map[string]struct {
		lie       lie
		elsewhere bool // it is about a bucket that has not changed
	}{
		"omitted":                   {lie: func(x *keyapi.ObjectIndex, s *Store) { drop(x, s.id(conv)) }},
		"omitted elsewhere":         {lie: func(x *keyapi.ObjectIndex, s *Store) { drop(x, s.id(group)) }, elsewhere: true},
		"sender omitted elsewhere":  {lie: func(x *keyapi.ObjectIndex, s *Store) { drop(x, s.id(sending)) }, elsewhere: true},
		"keyring omitted elsewhere": {lie: func(x *keyapi.ObjectIndex, s *Store) { drop(x, bootstrapID(TypeKeyring)) }, elsewhere: true},
		"head omitted":              {lie: func(x *keyapi.ObjectIndex, s *Store) { drop(x, bootstrapID(TypeHead)) }},
		"all omitted":               {lie: func(x *keyapi.ObjectIndex, s *Store) { x.Objects = []keyapi.ObjectVersion{} }},
		"added": {lie: func(x *keyapi.ObjectIndex, s *Store) {
			id := s.id(conv)
			id[5] ^= 1
			add(x, id)
		}},
		"sender added": {lie: func(x *keyapi.ObjectIndex, s *Store) {
			id := s.id(conv)
			id[0] = byte(TypeSender)
			add(x, id)
		}},
		"added elsewhere": {lie: func(x *keyapi.ObjectIndex, s *Store) {
			id := s.id(group)
			id[5] ^= 1
			add(x, id)
		}, elsewhere: true},
		"counter":           {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, s.id(conv)).Counter++ }},
		"hash":              {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, s.id(conv)).Hash[0] ^= 1 }},
		"counter elsewhere": {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, s.id(group)).Counter++ }, elsewhere: true},
		"hash elsewhere":    {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, s.id(group)).Hash[0] ^= 1 }, elsewhere: true},
		"swapped": {lie: func(x *keyapi.ObjectIndex, s *Store) {
			p, q := find(x, s.id(conv)), find(x, s.id(group))
			p.Hash, q.Hash = q.Hash, p.Hash
		}},
		"head counter": {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, bootstrapID(TypeHead)).Counter -= 5 }},
		"head hash":    {lie: func(x *keyapi.ObjectIndex, s *Store) { find(x, bootstrapID(TypeHead)).Hash[0] ^= 1 }},
	} {
		for way, known := range map[string]bool{"all of it": false, "what changed": true, "what changed, all told": true} {
			t.Run(name+" of "+way, func(t *testing.T) {
				t.Parallel()
				f := setUp(t)
				f.plain = way == "what changed, all told"
				a, b := f.device(t, 0), f.device(t, 1)
				if err := a.Swap(t.Context(), sending, func([]byte) ([]byte, error) { return []byte("1"), nil }); err != nil {
					t.Fatal(err)
				}
				put(t, a, group, "g")
				put(t, a, conv, "c")
				refresh(t, b)
				put(t, a, conv, "c2")
				f.server.inIndex = func(x *keyapi.ObjectIndex) { tt.lie(x, a) }
				var err error
				if known {
					_, err = b.Refresh(t.Context())
				} else {
					_, _, err = b.load(t.Context(), nil)
					err = b.trip(err)
				}
				near := slices.ContainsFunc([]keyapi.ObjectID{a.id(group), a.id(sending), bootstrapID(TypeKeyring)}, func(id keyapi.ObjectID) bool {
					return id.Bucket() == a.id(conv).Bucket() || id.Bucket() == bootstrapID(TypeHead).Bucket()
				})
				switch {
				case !known || !tt.elsewhere:
					alarmed(t, f, b, err)
					return
				case near: // the keyring is made at random: once in a hundred they share a bucket
					return
				case err != nil:
					t.Fatalf("what the server says elsewhere: %v", err)
				}
				for k, want := range map[Key]string{conv: "c2", group: "g", sending: "1"} {
					if got, err := b.Get(t.Context(), k); string(got) != want || err != nil {
						t.Errorf("%v: %q, %v; want %q", k, got, err, want)
					}
				}
			})
		}
	}
}

// An older or forked state is refused by a device that has seen a newer one,
// after a restart too, and nothing is sent.
func TestThreat16_RollbackRaisesAlarm(t *testing.T) {
	t.Parallel()
	t.Run("while running", func(t *testing.T) {
		t.Parallel()
		f := setUp(t)
		s := f.device(t, 0)
		old := f.server.objects(username)
		put(t, s, conv, "new")
		f.server.setObjects(username, old)
		_, err := s.Refresh(t.Context())
		alarmed(t, f, s, err)
	})
	t.Run("after a restart", func(t *testing.T) {
		t.Parallel()
		f := setUp(t)
		s := f.device(t, 0)
		old := f.server.objects(username)
		put(t, s, conv, "new")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		f.server.setObjects(username, old)
		s = f.device(t, 0)
		_, err := s.Refresh(t.Context())
		alarmed(t, f, s, err)
	})
	t.Run("at the same counter, with a damaged local copy", func(t *testing.T) {
		t.Parallel()
		f := setUp(t)
		a, b := f.device(t, 0), f.device(t, 1)
		refresh(t, b)
		common := f.server.objects(username)
		put(t, a, conv, "a's")
		f.server.setObjects(username, common)
		put(t, b, conv, "b's")
		delete(f.local[0].buckets[bucketObjects], localKey(bootstrapID(TypeHead)))
		_, err := Resume(t.Context(), f.config(0))
		var r *RollbackError
		if !errors.As(err, &r) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("on the next update", func(t *testing.T) {
		t.Parallel()
		f := setUp(t)
		s := f.device(t, 0)
		old := f.server.objects(username)
		put(t, s, conv, "new")
		f.server.setObjects(username, old)
		err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(conv, []byte("newer")) })
		alarmed(t, f, s, err)
		if got := f.server.objects(username)[bootstrapID(TypeHead)]; got.Counter != old[bootstrapID(TypeHead)].Counter {
			t.Error("a head was written on top of the old state")
		}
	})
	t.Run("sign-in with the password does not help the server", func(t *testing.T) {
		t.Parallel()
		f := setUp(t)
		s := f.device(t, 0)
		old := f.server.objects(username)
		put(t, s, conv, "new")
		if err := s.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.server.setObjects(username, old)
		_, err := Open(t.Context(), username, password, f.config(0))
		var r *RollbackError
		if !errors.As(err, &r) {
			t.Errorf("got %v", err)
		}
	})
}

// Two devices are shown different continuations of one state. As soon as one
// sees the other's, it notices, though the counter is higher.
func TestThreat17_ForkIsNoticed(t *testing.T) {
	t.Parallel()
	for _, ahead := range []int{0, 1, 5} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			refresh(t, a)
			common := f.server.objects(username)
			put(t, a, conv, "a's")
			f.server.setObjects(username, common)
			for i := range ahead + 1 {
				put(t, b, conv, fmt.Sprint("b's", i))
			}
			_, err := a.Refresh(t.Context())
			alarmed(t, f, a, err)
		})
	}
}

// Being behind by more heads than a head names is no alarm.
func TestLongAbsenceIsNoFork(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	for i := range maxHistory + 3 {
		put(t, a, conv, fmt.Sprint(i))
	}
	refresh(t, b)
	if got := get(t, b, conv); got != fmt.Sprint(maxHistory+2) {
		t.Errorf("got %q", got)
	}
}

func TestThreat16_SenderRollback(t *testing.T) {
	t.Parallel()
	next := func(old []byte) ([]byte, error) { return append(old, '.'), nil }
	prepare := func(t *testing.T) (*fixture, *Store, map[keyapi.ObjectID]keyapi.Object) {
		t.Helper()
		f := setUp(t)
		a := f.device(t, 0)
		var old map[keyapi.ObjectID]keyapi.Object
		for i := range 3 {
			if i == 2 {
				old = f.server.objects(username)
			}
			if err := a.Swap(t.Context(), sending, next); err != nil {
				t.Fatal(err)
			}
		}
		return f, a, old
	}
	t.Run("wound back", func(t *testing.T) {
		t.Parallel()
		f, a, old := prepare(t)
		f.server.setObjects(username, old)
		err := a.Swap(t.Context(), sending, next)
		alarmed(t, f, a, err)
	})
	t.Run("wound back after a restart", func(t *testing.T) {
		t.Parallel()
		f, _, old := prepare(t)
		f.server.setObjects(username, old)
		a := f.device(t, 0)
		before := f.server.count("tx")
		err := a.Swap(t.Context(), sending, next)
		if f.server.count("tx") != before {
			t.Error("a reservation was sent on top of the old one")
		}
		alarmed(t, f, a, err)
	})
	t.Run("read once, wound back after a restart", func(t *testing.T) {
		t.Parallel()
		f, _, old := prepare(t)
		b := f.device(t, 1)
		refresh(t, b)
		if got := get(t, b, sending); got != "..." {
			t.Fatalf("got %q", got)
		}
		f.server.setObjects(username, old)
		b = f.device(t, 1)
		err := b.Swap(t.Context(), sending, next)
		alarmed(t, f, b, err)
	})
	t.Run("withheld", func(t *testing.T) {
		t.Parallel()
		f, _, _ := prepare(t)
		now := f.server.objects(username)
		a := f.device(t, 0)
		delete(now, a.id(sending))
		f.server.setObjects(username, now)
		calls := 0
		err := a.Swap(t.Context(), sending, func(old []byte) ([]byte, error) { calls++; return next(old) })
		if calls != 0 {
			t.Error("a withheld sender object was begun anew")
		}
		alarmed(t, f, a, err)
	})
	t.Run("withheld from a transaction", func(t *testing.T) {
		t.Parallel()
		f, _, _ := prepare(t)
		now := f.server.objects(username)
		a := f.device(t, 0)
		delete(now, a.id(sending))
		f.server.setObjects(username, now)
		err := a.Update(t.Context(), func(tx *Tx) error {
			_, _ = tx.Get(sending) // ignored, and yet
			return tx.Put(conv, nil)
		})
		alarmed(t, f, a, err)
	})
}
