package state

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
)

// versions gives the key versions of the user's objects at the server.
func (f *fixture) versions(t *testing.T) map[Type][]uint32 {
	t.Helper()
	all := map[Type][]uint32{}
	for id, o := range f.server.objects(username) {
		if typeOf(id) == TypeWrap {
			continue
		}
		h, err := envelope.ParseHeader(o.Data)
		if err != nil {
			t.Fatal(err)
		}
		all[typeOf(id)] = append(all[typeOf(id)], h.KeyVersion)
	}
	return all
}

func fill(t *testing.T, s *Store) {
	t.Helper()
	for n := range 3 {
		put(t, s, Key{TypeConversation, fmt.Sprintf("c%d", n), mail}, fmt.Sprint(n))
	}
	put(t, s, record, "an archive record")
	for _, k := range []Key{sending, {TypeSender, "another", mail}} {
		if err := s.Swap(t.Context(), k, func([]byte) ([]byte, error) { return []byte("7"), nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// TestThreat44_ResealDestroysOldRoots: after a rotation nothing lies under what
// a dropped device has, and the others lose nothing.
func TestThreat44_ResealDestroysOldRoots(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	fill(t, a)
	bin := []byte("place")
	sealed, err := a.SealPersonal(t.Context(), []byte("own"), bin)
	if err != nil {
		t.Fatal(err)
	}
	old := a.now.Load()
	if err := a.RotateRoot(t.Context(), nil, b.vault.DeviceID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Refresh(t.Context()); !errors.Is(err, ErrDropped) {
		t.Errorf("a dropped device: %v", err)
	}
	var steps [][2]int
	if err := a.Reseal(t.Context(), func(done, total int) { steps = append(steps, [2]int{done, total}) }); err != nil {
		t.Fatal(err)
	}
	if last := steps[len(steps)-1]; last[0] != last[1] || last[1] < 5 || !slices.IsSortedFunc(steps, func(x, y [2]int) int { return x[0] - y[0] }) {
		t.Errorf("progress %v", steps)
	}
	for ty, vs := range f.versions(t) {
		for _, v := range vs {
			if ty != TypeEpoch && v != 2 {
				t.Errorf("an object of type %d lies under ROOT %d", ty, v)
			}
		}
	}
	if n := a.now.Load(); len(n.ring.Roots) != 0 {
		t.Errorf("%d earlier ROOTs are kept", len(n.ring.Roots))
	}
	for id, o := range f.server.objects(username) { // with everything that the dropped device had
		if typeOf(id) == TypeEpoch || typeOf(id) == TypeWrap {
			continue
		}
		if _, _, err := a.open(old, version{id: id, counter: o.Counter}, o.Data); err == nil {
			t.Errorf("an object of type %d opens with the keys from before", typeOf(id))
		}
	}
	put(t, a, Key{TypeEpoch, "instance/2", mail}, "a later record")
	later, err := a.SealPersonal(t.Context(), []byte("own, later"), bin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.deviceWith(t, old, a).OpenPersonal(t.Context(), later, bin); err == nil {
		t.Error("an own upload from after the rotation opens with the keys from before")
	}
	c := f.config(1)
	c.Local, c.VaultKey = NewMemory(), random(32)
	fresh, err := Open(t.Context(), username, password, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{a, fresh} {
		got := get(t, s, Key{TypeConversation, "c2", mail}) + get(t, s, record) + get(t, s, sending) + get(t, s, Key{TypeEpoch, "instance/2", mail})
		if got != "2an archive record7a later record" {
			t.Errorf("got %q", got)
		}
		for text, b := range map[string][]byte{"own": sealed, "own, later": later} {
			if p, err := s.OpenPersonal(t.Context(), b, bin); err != nil || string(p) != text {
				t.Errorf("own upload: %q, %v", p, err)
			}
		}
	}
	if kinds := events(fresh); !slices.Contains(kinds, EventKeysRotated) || !slices.Contains(kinds, EventDeviceRemoved) || !slices.Contains(kinds, EventDeviceAdded) {
		t.Errorf("events %v", kinds)
	}
}

// deviceWith is a store that knows what n knows, and cannot ask.
func (f *fixture) deviceWith(t *testing.T, n *snapshot, like *Store) *Store {
	t.Helper()
	c := like.cfg
	c.Local = NewMemory()
	s := newStore(c, like.locals, like.vault)
	s.session.refresh = nil
	s.now.Store(n)
	return s
}

func events(s *Store) (kinds []EventKind) {
	for _, e := range s.Events() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestResealIsCutOff: at every request; what is left is done the next time, and
// nothing is lost meanwhile.
func TestResealIsCutOff(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	fill(t, a)
	if err := a.RotateRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if n == 60 {
			t.Fatal("Reseal makes no progress")
		}
		left := n
		f.server.fail = func(string) error {
			if left--; left < 0 {
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		err := a.Reseal(t.Context(), nil)
		f.server.fail = nil
		if got := get(t, a, Key{TypeConversation, "c1", mail}) + get(t, a, sending); got != "17" {
			t.Fatalf("got %q", got)
		}
		if err == nil {
			break
		}
	}
	if n := a.now.Load(); len(n.ring.Roots) != 0 {
		t.Errorf("%d earlier ROOTs are kept", len(n.ring.Roots))
	}
}

// TestStaleDeviceWritesUnderTheNewRoot: a device that has not heard of a
// rotation cannot write a sender object under the ROOT before, which the head
// would not tell.
func TestStaleDeviceWritesUnderTheNewRoot(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	fill(t, a)
	refresh(t, b)
	next := func(old []byte) ([]byte, error) { return append(old, '.'), nil }
	if err := b.Swap(t.Context(), sending, next); err != nil { // b knows its counter
		t.Fatal(err)
	}
	if err := a.RotateRoot(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Swap(t.Context(), sending, next); err != nil {
		t.Fatal(err)
	}
	for _, v := range f.versions(t)[TypeSender] {
		if v != 1 && v != 2 {
			t.Errorf("version %d", v)
		}
	}
	h, err := envelope.ParseHeader(f.server.objects(username)[b.id(sending)].Data)
	if err != nil || h.KeyVersion != 2 {
		t.Errorf("written under ROOT %d, %v", h.KeyVersion, err)
	}
	if got := get(t, a, sending); got != "7.." {
		t.Errorf("got %q", got)
	}
}

// TestDroppedDeviceComesBack: the password makes it one of the user's again,
// with a slot of its own.
func TestDroppedDeviceComesBack(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "x")
	slot := b.Slot()
	if err := a.RotateRoot(t.Context(), nil, b.vault.DeviceID); err != nil {
		t.Fatal(err)
	}
	if err := a.Reseal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.device(t, 1).Refresh(t.Context()); !errors.Is(err, ErrDropped) {
		t.Fatalf("before: %v", err)
	}
	again, err := Open(t.Context(), username, password, f.config(1))
	if err != nil {
		t.Fatal(err)
	}
	if again.Slot() == slot || get(t, again, conv) != "x" {
		t.Errorf("slot %d as before, or the state is not there", again.Slot())
	}
	put(t, again, conv, "y")
	refresh(t, a)
	if got := get(t, a, conv); got != "y" {
		t.Errorf("got %q", got)
	}
	if got := get(t, f.device(t, 1), conv); got != "y" {
		t.Errorf("after a restart: %q", got)
	}
}

// TestObligation09_SignedOutIsTold: once, whoever finds out.
func TestObligation09_SignedOutIsTold(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	told := 0
	c := f.config(0)
	c.SignedOut = func() { told++ }
	a, err := Resume(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Refresh(t.Context()); err != nil || !a.SignedIn() {
		t.Fatalf("signed in %v, %v", a.SignedIn(), err)
	}
	f.server.expireTokens()
	f.server.mu.Lock()
	clear(f.server.users[username].sessions)
	f.server.mu.Unlock()
	for range 3 {
		if _, err := a.Refresh(t.Context()); !errors.Is(err, ErrSignedOut) {
			t.Errorf("got %v", err)
		}
	}
	if told != 1 || a.SignedIn() {
		t.Errorf("told %d times, signed in %v", told, a.SignedIn())
	}
}

// TestObligation07_EndSessionKeepsTheData: reading goes on, the password
// continues.
func TestObligation07_EndSessionKeepsTheData(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, conv, "kept")
	if err := a.Cache("x").Defer("k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	slot := a.Slot()
	if err := a.EndSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := f.device(t, 0)
	if got := get(t, again, conv); got != "kept" {
		t.Errorf("got %q", got)
	}
	if v, err := again.Cache("x").Get("k"); err != nil || string(v) != "v" {
		t.Errorf("cache: %q, %v", v, err)
	}
	if _, err := again.Refresh(t.Context()); !errors.Is(err, ErrSignedOut) {
		t.Errorf("after the end of the session: %v", err)
	}
	back, err := Open(t.Context(), username, password, f.config(0))
	if err != nil || back.Slot() != slot {
		t.Fatalf("sign in again: %v", err)
	}
	put(t, back, conv, "more")
}

// TestThreat07_EveryDeviceHears: of recovery and of a change of password.
func TestThreat07_EveryDeviceHears(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	c := f.config(1)
	c.Local, c.VaultKey = NewMemory(), random(32)
	if _, _, err := Recover(t.Context(), username, f.recovery, "another password", c); err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), username, "another password", f.config(0))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(events(a), EventRecovered) {
		t.Errorf("events %v", events(a))
	}
	if err := a.ChangePassword(t.Context(), "another password", "a third password"); err != nil {
		t.Fatal(err)
	}
	if kinds := events(a); kinds[len(kinds)-1] != EventPassword {
		t.Errorf("events %v", kinds)
	}
}
