package keyserver_test

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// shelf is one of the stores of the model.
type shelf interface {
	place() keyapi.StorePlace
	step(keyapi.StoreMove) error
	bring(keyapi.StoreImport) error
	write(keyapi.Object) error
	read() ([]keyapi.Object, error) // an error where objects are not read here
}

// moveModel is a user's devices that move the state between stores, name moves in
// directions, give them up, and die in between, while requests come late.
type moveModel struct {
	t      *testing.T
	r      *rand.Rand
	shelf  []shelf
	late   []func()                          // requests under way that nobody waits for any more
	latest map[keyapi.ObjectID]keyapi.Object // what was written last
	hash   []byte                            // of it; nil: not known
	to     heading
	calm   bool           // requests are not late any more
	counts map[string]int // what happened
	log    []event
}

// event is what is told of a run that fails.
type event struct {
	at   int
	step keyapi.StoreMove
	err  error
}

// heading is the directions of the model.
type heading struct {
	counter uint64
	at      int
	next    int    // where the state is moving to; none: -1
	move    uint64 // the counter that named the last move
}

func storeURL(i int) string { return fmt.Sprintf("https://store%d.example", i) }

func (m *moveModel) indexOf(url string) int {
	for i := range m.shelf {
		if storeURL(i) == url {
			return i
		}
	}
	return -1
}

// check: one store has all objects for reading, and one at most is in use, which
// has what was written last.
func (m *moveModel) check() {
	m.t.Helper()
	if m.hash == nil {
		m.hash = indexHash(slices.Collect(maps.Values(m.latest)))
	}
	want := m.hash
	whole, inUse := 0, 0
	for i, s := range m.shelf {
		p := s.place()
		same := slices.Equal(p.IndexHash, want)
		if same && (p.Place == keyapi.PlaceHere || p.Place == keyapi.PlaceLeaving) {
			whole++
		}
		if p.Objects > 0 && (p.Place == keyapi.PlaceHere && p.Move == 0 || p.Place == keyapi.PlaceLeaving) {
			if inUse++; !same {
				m.fail(fmt.Sprintf("store %d is in use, and has not what was written last: %+v", i, p))
			}
		}
	}
	if whole == 0 || inUse > 1 {
		m.fail(fmt.Sprintf("%d stores have all objects, %d are in use", whole, inUse))
	}
}

func (m *moveModel) fail(why string) {
	m.t.Helper()
	for i, s := range m.shelf {
		m.t.Logf("store %d: %+v", i, s.place())
	}
	for _, e := range m.log[max(0, len(m.log)-40):] {
		m.t.Logf("at %d: %s %d: %v", e.at, e.step.Change, e.step.Move, e.err)
	}
	m.t.Fatal(why)
}

// live is what a device does until the run is over.
func (m *moveModel) live(yield func(struct{}) bool) {
	defer func() {
		if r := recover(); r != nil && r != any(errOver) {
			panic(r)
		}
	}()
	d := &moveDevice{m, yield, 0}
	for {
		switch k := m.r.IntN(12); {
		case m.calm:
			d.resume()
		case k == 0:
			d.name(m.r.IntN(len(m.shelf)))
		case k == 1:
			d.giveUp()
		case k < 4:
			d.write()
		default:
			d.resume()
		}
	}
}

// play lets three devices do so many requests in any order, and then one alone
// end what is under way.
func (m *moveModel) play(requests int) {
	m.t.Helper()
	m.to.next, m.latest = -1, map[keyapi.ObjectID]keyapi.Object{}
	for i := range 3 {
		o := put(fmt.Sprint(i), 1, "first")
		if err := m.shelf[0].write(o); err != nil {
			m.t.Fatal(err)
		}
		m.latest[o.ID], m.hash = o, nil
	}
	var devices []func() (struct{}, bool)
	for range 3 {
		next, stop := iter.Pull(m.live)
		defer stop()
		devices = append(devices, next)
	}
	for range requests {
		if n := len(m.late); n > 0 && m.r.IntN(6) == 0 {
			m.deliver(m.r.IntN(n))
			continue
		}
		devices[m.r.IntN(len(devices))]()
	}
	m.calm = true
	for len(m.late) > 0 {
		m.deliver(m.r.IntN(len(m.late)))
	}
	for range 200 {
		if m.to.next < 0 && m.shelf[m.to.at].place().Place == keyapi.PlaceHere {
			return
		}
		devices[0]()
	}
	m.fail("the state does not come to rest")
}

func (m *moveModel) deliver(i int) {
	f := m.late[i]
	m.late = slices.Delete(m.late, i, i+1)
	f()
}

// Whatever is late, repeated or given up: at every moment a store has everything,
// and one at most is in use.
func TestMoveNumbersKeepTheStateWhole(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(1500) {
		m := &moveModel{t: t, r: rand.New(rand.NewPCG(seed, 14)), counts: counts}
		for range 2 + seed%2 {
			m.shelf = append(m.shelf, &drawn{p: keyserver.MovePlace{Place: keyapi.PlaceHere}, have: map[keyapi.ObjectID]keyapi.Object{}})
		}
		m.play(400)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Log(counts)
	for _, what := range []string{"leave", "stay", "go", "arrive", "open", "use", "abandon", "import"} {
		if counts[what] < 500 || counts[what+" refused"] < 20 {
			t.Errorf("%s: %d took effect and %d were refused, of which little is to be learned", what, counts[what], counts[what+" refused"])
		}
	}
}

// The same at servers.
func TestMoveNumbersKeepTheStateWholeAtServers(t *testing.T) {
	counts := map[string]int{}
	for seed := range uint64(3) {
		m := &moveModel{t: t, r: rand.New(rand.NewPCG(seed, 15)), counts: counts}
		for range 2 {
			w := newWorld(t, keyserver.Options{})
			m.shelf = append(m.shelf, &served{w.register("alice"), w.c})
		}
		m.play(600)
	}
	t.Log(counts)
	for _, what := range []string{"leave", "stay", "go", "arrive", "open", "abandon", "import"} {
		if counts[what] == 0 {
			t.Errorf("%s never took effect", what)
		}
	}
}
