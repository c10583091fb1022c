package state

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (f *fixture) wraps(t *testing.T) []keys.Wrap {
	t.Helper()
	wraps, err := keys.ParseWraps(f.server.objects(username)[bootstrapID(TypeWrap)].Data)
	if err != nil {
		t.Fatal(err)
	}
	return wraps
}

// TestThreat44_PlantedRecipients: whoever had a device could have put keys of
// their own among those that ROOT is wrapped for; a rotation does not wrap the
// new ROOT for them.
func TestThreat44_PlantedRecipients(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, stolen := f.device(t, 0), f.device(t, 1)
	own, err := keys.FromDevice(random(32), [16]byte{7}, stolen.scope)
	if err != nil {
		t.Fatal(err)
	}
	other := own.Recipient()
	other.Kind = keys.KindPassword
	err = stolen.Update(t.Context(), func(tx *Tx) error {
		tx.changeRing().setRecipient(own.Recipient())
		tx.changeRing().setRecipient(other)
		return tx.wrapRoot()
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := own.Find(f.wraps(t)); err != nil {
		t.Fatalf("the thief's key was not planted: %v", err)
	}
	refresh(t, a)
	if err := a.RotateRoot(t.Context(), nil, stolen.vault.DeviceID); err != nil {
		t.Fatal(err)
	}
	var kinds []keys.Kind
	for _, w := range f.wraps(t) {
		kinds = append(kinds, w.Kind)
		if w.ID == [16]byte{7} {
			t.Errorf("ROOT is wrapped for a stranger, kind %d", w.Kind)
		}
	}
	if slices.Sort(kinds); !slices.Equal(kinds, []keys.Kind{keys.KindPassword, keys.KindRecovery, keys.KindDevice}) {
		t.Errorf("ROOT is wrapped for %v", kinds)
	}
	c := f.config(1)
	c.Local, c.VaultKey = NewMemory(), random(32)
	if _, err := Open(t.Context(), username, password, c); err != nil {
		t.Errorf("the password: %v", err)
	}
}

// TestThreat44_RotateAlone: a device that was added after somebody looked at the
// list is out as well.
func TestThreat44_RotateAlone(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	late, err := Open(t.Context(), username, password, f.stranger())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.RotateRootAlone(t.Context(), nil); err != nil { // a has not heard of late
		t.Fatal(err)
	}
	for _, s := range []*Store{b, late} {
		if _, err := s.Refresh(t.Context()); !errors.Is(err, ErrDropped) {
			t.Errorf("another device: %v", err)
		}
	}
	if d := a.Devices(); len(d) != 1 || !d[0].This {
		t.Errorf("devices %+v", d)
	}
}

// TestThreat44_ThiefCannotSucceedARoot: who had the keyring can wrap a ROOT for
// the user's devices. Together with the key server they still cannot make one
// that takes the place of a ROOT which they never had.
func TestThreat44_ThiefCannotSucceedARoot(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, thief := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "x")
	refresh(t, thief)
	old := thief.now.Load()
	if err := a.RotateRoot(t.Context(), nil, thief.vault.DeviceID); err != nil {
		t.Fatal(err)
	}
	if err := a.Reseal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	objects := f.server.objects(username)
	var index []version
	for id, o := range objects {
		index = append(index, version{id, o.Counter, envelope.Hash(o.Data)})
	}
	last := objects[bootstrapID(TypeHead)]
	base := &snapshot{
		ring: old.ring, profile: old.profile, newest: 2, roots: map[uint32][]byte{1: old.roots[1], 2: random(32)},
		view: &view{counter: last.Counter, hash: envelope.Hash(last.Data), head: &head{roots: []rootMark{old.view.head.roots[0], {2, 9, [32]byte(random(32))}}}},
	}
	var err error
	if base.view.objects, err = bucketize(index); err != nil {
		t.Fatal(err)
	}
	for i := range base.view.objects {
		base.view.head.buckets[i] = bucketHash(i, base.view.objects[i])
	}
	tx := thief.begin(t.Context(), base)
	tx.root = &newRoot{key: random(32), version: 3}
	if tx.root.id, err = rootID(tx.root.key); err != nil {
		t.Fatal(err)
	}
	tx.changeProfile()
	if err := tx.wrapRoot(); err != nil {
		t.Fatal(err)
	}
	forged, err := thief.prepare(t.Context(), tx)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range forged.wire.Put {
		objects[o.ID] = o
	}
	f.server.setObjects(username, objects)
	var alarm *RollbackError
	if _, err := a.Refresh(t.Context()); !errors.As(err, &alarm) {
		t.Errorf("a ROOT of the thief's was followed: %v", err)
	}
	if n := a.now.Load(); n.newest != 2 {
		t.Errorf("ROOT %d is in use", n.newest)
	}
}

// TestThreat44_OldRootSealsNothingNew: sender objects are not covered by the
// head. One that is made under a ROOT which was destroyed opens on no device,
// those that have been running since before included.
func TestThreat44_OldRootSealsNothingNew(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	fill(t, a)
	refresh(t, b)
	old := a.now.Load()
	if err := a.RotateRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	refresh(t, b)
	if err := a.Reseal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	refresh(t, b)
	if got := get(t, b, sending); got != "7" {
		t.Fatalf("got %q", got)
	}
	id := b.id(sending)
	objects := f.server.objects(username)
	o := objects[id]
	k, err := old.sealingKey(TypeSender, 1)
	if err != nil {
		t.Fatal(err)
	}
	h := envelope.Header{KeyVersion: 1, Counter: o.Counter + 1, Previous: envelope.Hash(o.Data), Slot: 9}
	sealed, err := envelope.Seal(k, b.context(TypeSender, id), h, marshalObject(sending, []byte("0")))
	if err != nil {
		t.Fatal(err)
	}
	objects[id] = keyapi.Object{ID: id, Counter: h.Counter, Data: sealed}
	f.server.setObjects(username, objects)
	for i, s := range []*Store{a, b} {
		if got, err := s.Get(t.Context(), sending); err == nil {
			t.Errorf("device %d took %q from somebody with the old ROOT", i, got)
		}
	}
}

// TestSignOutStaysWiped: a call that was under way when the device signed out
// does not bring its secrets back.
func TestSignOutStaysWiped(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, conv, "x")
	n := a.now.Load()
	f.server.expireTokens()
	reached, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	f.server.lose = func(op string) error {
		if op == "refresh" {
			close(reached)
			<-goOn
		}
		return nil
	}
	go func() {
		_, err := a.Refresh(context.Background())
		done <- err
	}()
	<-reached
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the key server is not waited for
	if err := a.SignOut(ctx); err == nil {
		t.Error("the key server was not told, and nobody says so")
	}
	close(goOn)
	if err := <-done; err == nil {
		t.Error("a call of a signed-out device went through")
	}
	if err := a.publish(n, nil, map[keyapi.ObjectID]floor{a.id(sending): {9, [32]byte{}}}); err == nil {
		t.Error("published after the sign-out")
	}
	if err := a.keep([]version{{id: a.id(conv)}}, map[keyapi.ObjectID][]byte{a.id(conv): {1}}); err == nil {
		t.Error("an object is kept after the sign-out")
	}
	if err := a.noteSender(a.id(sending), floor{99, [32]byte{}}); err == nil {
		t.Error("a floor is noted after the sign-out")
	}
	for name, m := range f.local[0].buckets {
		if len(m) > 0 && name != bucketPins && name != bucketFloor {
			t.Errorf("%d records in %s", len(m), name)
		}
	}
}

// TestThreat21_ForkedSenderObject: the key server takes two devices' changes of
// one sender object and shows each of them its own. When it shows one what the
// other wrote, at the same counter or at the next, that is an alarm.
func TestThreat21_ForkedSenderObject(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]int{"same counter": 0, "next counter": 1} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			fill(t, a)
			refresh(t, b)
			before := f.server.objects(username)
			write := func(s *Store, text string) {
				t.Helper()
				if err := s.Swap(t.Context(), sending, func([]byte) ([]byte, error) { return []byte(text), nil }); err != nil {
					t.Fatal(err)
				}
			}
			write(a, "8")
			f.server.setObjects(username, before)
			for range more + 1 {
				write(b, "other")
			}
			var alarm *RollbackError
			if _, err := a.Get(t.Context(), sending); !errors.As(err, &alarm) {
				t.Errorf("got %v", err)
			}
			if _, err := b.Get(t.Context(), sending); err != nil {
				t.Errorf("the other device: %v", err)
			}
		})
	}
}
