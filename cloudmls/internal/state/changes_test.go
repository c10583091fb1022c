package state

import (
	"context"
	"errors"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// asking notes what a Store asks of what has changed, and may refuse it.
type asking struct {
	*evilServer
	refuse   error
	all      int // questions for the whole index
	heads    int // questions for the head that the Store may have
	buckets  []keyapi.Buckets
	meantime func() // before the index is given
}

func (a *asking) ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error) {
	a.all++
	return a.evilServer.ObjectIndex(ctx, token)
}

func (a *asking) ObjectIndexOf(ctx context.Context, token string, b keyapi.Buckets) (keyapi.ObjectIndex, error) {
	if a.refuse != nil {
		return keyapi.ObjectIndex{}, a.refuse
	}
	if f := a.meantime; f != nil {
		a.meantime = nil
		f()
	}
	a.buckets = append(a.buckets, b)
	return a.evilServer.ObjectIndexOf(ctx, token, b)
}

func (a *asking) ObjectUnless(ctx context.Context, token string, id keyapi.ObjectID, hash [32]byte) (keyapi.ObjectList, error) {
	a.heads++
	if a.refuse != nil {
		return keyapi.ObjectList{}, a.refuse
	}
	return a.evilServer.ObjectUnless(ctx, token, id, hash)
}

func setUpAsking(t *testing.T) (*fixture, *Store, *Store, *asking) {
	t.Helper()
	f := setUp(t)
	x := &asking{evilServer: f.server}
	a := f.device(t, 0)
	f.asked = x
	b := f.device(t, 1)
	put(t, a, conv, "c")
	put(t, a, group, "g")
	refresh(t, b)
	x.all, x.heads, x.buckets = 0, 0, nil
	return f, a, b, x
}

// A device that follows asks for the head, and for the index of what the head says has
// changed: not for all there is.
func TestRefreshAsksForWhatChanged(t *testing.T) {
	t.Parallel()
	_, a, b, x := setUpAsking(t)
	if changed, err := b.Refresh(t.Context()); changed || err != nil || x.heads != 1 || len(x.buckets)+x.all != 0 {
		t.Errorf("nothing new: %v, %v after %d questions for the head, %d for all, %v", changed, err, x.heads, x.all, x.buckets)
	}
	put(t, a, conv, "c2")
	if changed, err := b.Refresh(t.Context()); !changed || err != nil || x.all != 0 || len(x.buckets) != 1 {
		t.Fatalf("a change: %v, %v after %d questions for all, %v", changed, err, x.all, x.buckets)
	}
	for i := range keyapi.BucketCount {
		if want := i == a.id(conv).Bucket() || i == bootstrapID(TypeHead).Bucket(); x.buckets[0].Has(i) != want {
			t.Errorf("bucket %d is asked for: %v", i, !want)
		}
	}
	for k, want := range map[Key]string{conv: "c2", group: "g"} {
		if got, err := b.Get(t.Context(), k); string(got) != want || err != nil {
			t.Errorf("%v: %q, %v", k, got, err)
		}
	}
	if err := a.RotateRoot(t.Context(), nil); err != nil { // which seals everything anew: all is asked for
		t.Fatal(err)
	}
	if _, err := b.Refresh(t.Context()); err != nil || x.all == 0 {
		t.Errorf("after a rotation: %v, %d questions for all", err, x.all)
	}
}

// A server that cannot be asked so gives the head that the device has, which is enough.
func TestHeadThatIsKnownIsEnough(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.plain = true
	b := f.device(t, 1)
	refresh(t, b)
	before := f.server.count("index")
	if changed, err := b.Refresh(t.Context()); changed || err != nil || f.server.count("index") != before {
		t.Errorf("%v, %v, %d questions for the index", changed, err, f.server.count("index")-before)
	}
}

// The state moves on between the head and the index of what it changed.
func TestStateMovesOnBetweenHeadAndIndex(t *testing.T) {
	t.Parallel()
	_, a, b, x := setUpAsking(t)
	put(t, a, conv, "c2")
	x.meantime = func() { put(t, a, conv, "c3") }
	if changed, err := b.Refresh(t.Context()); !changed || err != nil {
		t.Fatalf("%v, %v", changed, err)
	}
	if got, err := b.Get(t.Context(), conv); string(got) != "c3" || err != nil || x.meantime != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A key server of an earlier version does not know these questions, and says so; any
// other refusal is one.
func TestKeyServerThatKnowsNoChanges(t *testing.T) {
	t.Parallel()
	_, a, b, x := setUpAsking(t)
	for version, code := range map[string]string{"c2": keyapi.CodeInvalid, "c3": keyapi.CodeNoRoute} {
		x.refuse = &keyapi.Problem{Status: 400, Code: code}
		put(t, a, conv, version)
		if changed, err := b.Refresh(t.Context()); !changed || err != nil || x.all == 0 {
			t.Fatalf("%s: %v, %v, %d questions for all", code, changed, err, x.all)
		}
		if got, err := b.Get(t.Context(), conv); string(got) != version || err != nil {
			t.Errorf("%s: %q, %v", code, got, err)
		}
		x.all = 0
	}
	all := x.all
	x.refuse = &keyapi.Problem{Status: 429, Code: keyapi.CodeRateLimited}
	var p *keyapi.Problem
	if _, err := b.Refresh(t.Context()); !errors.As(err, &p) || p.Code != keyapi.CodeRateLimited || x.all != all {
		t.Errorf("a refusal: %v, %d questions for all", err, x.all-all)
	}
}

// A server that says of another head than the device's that it is unchanged, or of more
// than was asked, is not believed.
func TestThreat16_UnchangedIsHeldAgainstTheQuestion(t *testing.T) {
	t.Parallel()
	f, a, b, _ := setUpAsking(t)
	put(t, a, conv, "c2")
	for name, unchanged := range map[string][]keyapi.ObjectID{"another object": {a.id(conv)}, "two": {bootstrapID(TypeHead), a.id(conv)}, "none": nil} {
		f.server.inObjects = func(l *keyapi.ObjectList) { *l = keyapi.ObjectList{Unchanged: unchanged} }
		if changed, err := b.Refresh(t.Context()); changed || err == nil {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
	}
	f.server.inObjects = nil
	if changed, err := b.Refresh(t.Context()); !changed || err != nil {
		t.Errorf("in the end: %v, %v", changed, err)
	}
}

// The floor counts, and not what the Store still shows, where another call has raised
// it meanwhile.
func TestThreat16_FloorIsAboveWhatIsShown(t *testing.T) {
	t.Parallel()
	f, a, b, _ := setUpAsking(t)
	shown := b.now.Load()
	put(t, a, conv, "c2")
	between := f.server.objects(username)
	put(t, a, conv, "c3")
	refresh(t, b)
	b.now.Store(shown)
	f.server.setObjects(username, between)
	_, err := b.Refresh(t.Context())
	alarmed(t, f, b, err)
}

// Nor is it believed that the head is still the one that is shown, where the floor is
// above that.
func TestThreat16_UnchangedBelowTheFloor(t *testing.T) {
	t.Parallel()
	f, a, b, _ := setUpAsking(t)
	shown, then := b.now.Load(), f.server.objects(username)
	put(t, a, conv, "c2")
	refresh(t, b)
	b.now.Store(shown)
	f.server.setObjects(username, then)
	_, err := b.Refresh(t.Context())
	alarmed(t, f, b, err)
}

// A Store that runs knows what it has verified, though its floor be wound back.
func TestThreat16_OlderHeadThanShown(t *testing.T) {
	t.Parallel()
	f, a, b, _ := setUpAsking(t)
	shown, then := b.now.Load().view, f.server.objects(username)
	put(t, a, conv, "c2")
	refresh(t, b)
	f.server.setObjects(username, then)
	err := b.cfg.Local.Update(func(w Writer) error {
		return b.locals.putFloor(w, b.scope.User, keyHead, floor{shown.counter, shown.hash})
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Refresh(t.Context())
	alarmed(t, f, b, err)
}
