package state

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func TestObjectsTravelBetweenDevices(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	if a.Slot() == b.Slot() || a.Slot() == 0 || b.Slot() == 0 {
		t.Fatalf("slots %d and %d", a.Slot(), b.Slot())
	}
	for _, k := range []Key{conv, group, record, {Type: TypeContacts, Name: "", Account: mail}} {
		put(t, a, k, "data of "+k.Name)
	}
	if changed, err := b.Refresh(t.Context()); err != nil || !changed {
		t.Fatalf("refresh: %v, %v", changed, err)
	}
	for _, k := range []Key{conv, group, record} {
		if got := get(t, b, k); got != "data of "+k.Name {
			t.Errorf("%v: got %q", k, got)
		}
	}
	if changed, err := b.Refresh(t.Context()); err != nil || changed {
		t.Errorf("refresh without news: %v, %v", changed, err)
	}
	if a.Derive("x", nil) != b.Derive("x", nil) || a.Derive("x", nil) == a.Derive("x", []byte{0}) {
		t.Error("derived secrets are not the same on both devices, or not bound")
	}
}

func TestListNamesOneType(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	other := keyapi.Account{Platform: "email", ID: "alice@example.net"}
	want := []Key{{TypeConversation, "x", other}, {TypeConversation, "a", mail}, {TypeConversation, "b", mail}}
	for _, k := range want {
		put(t, a, k, "1")
	}
	put(t, a, group, "2")
	refresh(t, b)
	got, err := b.List(t.Context(), TypeConversation)
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
	before := f.server.count("objects")
	if _, err := b.List(t.Context(), TypeConversation); err != nil || f.server.count("objects") != before {
		t.Errorf("a second List asked the server again (%v)", err)
	}
}

func TestUpdateSeesItsOwnWrites(t *testing.T) {
	t.Parallel()
	s := setUp(t).device(t, 0)
	put(t, s, conv, "old")
	err := s.Update(t.Context(), func(tx *Tx) error {
		if err := tx.Put(conv, []byte("new")); err != nil {
			return err
		}
		if b, err := tx.Get(conv); err != nil || string(b) != "new" {
			t.Errorf("got %q, %v", b, err)
		}
		if err := tx.Delete(conv); err != nil {
			return err
		}
		if _, err := tx.Get(conv); !errors.Is(err, ErrNotFound) {
			t.Errorf("after delete: %v", err)
		}
		ks, err := tx.List(TypeConversation)
		if err != nil || len(ks) != 0 {
			t.Errorf("list after delete: %v, %v", ks, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), conv); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestUpdateRerunsOnConflict(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "a")
	runs := 0
	err := b.Update(t.Context(), func(tx *Tx) error { // b has not seen a's change
		runs++
		old, err := tx.Get(conv)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return tx.Put(conv, append(old, 'b'))
	})
	if err != nil || runs != 2 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	refresh(t, a)
	if got := get(t, a, conv); got != "ab" {
		t.Errorf("got %q: an update was lost", got)
	}
}

func TestUpdateFailsWithoutChange(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	mine := errors.New("mine")
	before := f.server.count("tx")
	err := s.Update(t.Context(), func(tx *Tx) error {
		_ = tx.Put(conv, []byte("x"))
		return mine
	})
	if !errors.Is(err, mine) || f.server.count("tx") != before {
		t.Fatalf("got %v and %d transactions", err, f.server.count("tx")-before)
	}
	if err := s.Update(t.Context(), func(*Tx) error { return nil }); err != nil || f.server.count("tx") != before {
		t.Errorf("an empty update: %v", err)
	}
}

func TestCommitConflictIsNotRerun(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "old")
	lost := problem(409, keyapi.CodeEpochConflict)
	f.server.fail = func(op string) error {
		if op == "tx" {
			return lost
		}
		return nil
	}
	runs := 0
	err := s.Update(t.Context(), func(tx *Tx) error {
		runs++
		_ = tx.SetCommit(keyapi.CommitSubmission{})
		return tx.Put(conv, []byte("new"))
	})
	var p *keyapi.Problem
	if !errors.As(err, &p) || p != lost || runs != 1 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	f.server.fail = nil
	if got := get(t, s, conv); got != "old" {
		t.Errorf("got %q", got)
	}
	put(t, s, conv, "newer")
}

func TestAckTravelsWithTheChange(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	err := s.Update(t.Context(), func(tx *Tx) error {
		tx.Ack(mail, 3)
		tx.Ack(mail, 7)
		tx.Ack(mail, 5)
		_ = tx.Put(conv, []byte("x"))
		if err := tx.SetCommit(keyapi.CommitSubmission{Epoch: 4}); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tx := f.server.lastTx(t)
	if len(tx.Ack) != 1 || tx.Ack[0] != (keyapi.AckRequestFor{Account: mail, Seq: 7}) || tx.Commit == nil || len(tx.Put) != 2 {
		t.Errorf("transaction has %v, commit %v, %d objects", tx.Ack, tx.Commit, len(tx.Put))
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { tx.Ack(mail, 8); return nil }); err != nil {
		t.Fatal(err)
	}
	tx = f.server.lastTx(t)
	if len(tx.Put) != 0 || len(tx.Expect) != 1 || len(tx.Nonce) == 0 {
		t.Errorf("an acknowledgement alone: %+v", tx)
	}
	err = s.Update(t.Context(), func(tx *Tx) error {
		_ = tx.SetCommit(keyapi.CommitSubmission{})
		_ = tx.SetCommit(keyapi.CommitSubmission{})
		return nil
	})
	if err == nil {
		t.Error("two Commits in one transaction")
	}
}

func TestKeysOfThePackageAreNotCallers(t *testing.T) {
	t.Parallel()
	s := setUp(t).device(t, 0)
	for _, ty := range []Type{0, TypeWrap, TypeHead, TypeKeyring, TypeProfile, TypeHistory + 1, typePersonal} {
		if _, err := s.Get(t.Context(), Key{Type: ty}); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("get of type %d: %v", ty, err)
		}
		err := s.Update(t.Context(), func(tx *Tx) error {
			_ = tx.Put(Key{Type: ty}, nil) // even if fn ignores it
			return nil
		})
		if err == nil {
			t.Errorf("put of type %d was accepted", ty)
		}
	}
}

func TestMonthlyArchiveKeys(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, record, "first")
	n := len(a.now.Load().ring.Archive)
	put(t, a, Key{TypeEpoch, "instance/2", mail}, "second")
	if got := len(a.now.Load().ring.Archive); got != n {
		t.Errorf("%d archive keys after a second record of one month, before %d", got, n)
	}
	base := a.cfg.Now()
	a.cfg.Now = func() time.Time { return base.AddDate(0, 1, 5) }
	put(t, a, Key{TypeEpoch, "instance/3", mail}, "third")
	if got := len(a.now.Load().ring.Archive); got != n+1 {
		t.Errorf("%d archive keys after a month, want %d", got, n+1)
	}
	b := f.device(t, 1)
	refresh(t, b)
	for i, want := range []string{"first", "second", "third"} {
		if got := get(t, b, Key{TypeEpoch, "instance/" + string(rune('1'+i)), mail}); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	// Destroying a month's key destroys what it sealed.
	ring := b.now.Load().ring
	ring.Archive = slices.DeleteFunc(ring.clone().Archive, func(k archiveKey) bool { return k.Number == 2 })
	if _, err := b.Get(t.Context(), record); err == nil {
		t.Error("a record opens without its archive key")
	}
}
