package state

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func directionsScope() keys.Scope {
	return keys.Scope{Origin: "https://keys.test", User: bytes.Repeat([]byte{1}, keys.UserIDSize)}
}

func directionsDevice(t testing.TB, fill byte, s keys.Scope) *keys.Wrapper {
	t.Helper()
	w, err := keys.FromDevice(bytes.Repeat([]byte{fill}, 32), [16]byte{fill}, s)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func ownStore(id, origin string) storeLogin {
	return storeLogin{ID: id, Origin: origin, Username: "alice", UserID: make([]byte, keys.UserIDSize), Secret: make([]byte, secretSize)}
}

// Directions open for whom they were made, at their counter, with what a holder of
// the keyring knows, and for nobody else.
func TestDirectionsOpenForTheirRecipients(t *testing.T) {
	t.Parallel()
	scope := directionsScope()
	a, b, stranger := directionsDevice(t, 1, scope), directionsDevice(t, 2, scope), directionsDevice(t, 3, scope)
	d := &directions{Version: directionsVersion, At: "x", Moving: atHome, Move: 7, Stores: []storeLogin{ownStore("x", "https://store.test")}}
	data, err := d.seal(7, []keys.Recipient{a.Recipient(), b.Recipient()}, scope, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*keys.Wrapper{a, b} {
		got, err := openDirections(keyapi.Directions{Counter: 7, Data: data}, scope, stranger, w)
		if err != nil || got.At != "x" || got.Moving != atHome || got.Counter != 7 || got.Stores[0].Origin != "https://store.test" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	other := scope
	other.Origin = "https://other.test"
	forged, err := d.seal(7, []keys.Recipient{func() keys.Recipient { r := a.Recipient(); r.Authenticator = make([]byte, 32); return r }()}, scope, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() error{
		"a stranger": func() error {
			_, err := openDirections(keyapi.Directions{Counter: 7, Data: data}, scope, stranger)
			return err
		},
		"another counter": func() error {
			_, err := openDirections(keyapi.Directions{Counter: 8, Data: data}, scope, a)
			return err
		},
		"another server": func() error {
			_, err := openDirections(keyapi.Directions{Counter: 7, Data: data}, other, directionsDevice(t, 1, other))
			return err
		},
		"made without the authenticator": func() error {
			_, err := openDirections(keyapi.Directions{Counter: 7, Data: forged}, scope, a)
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: opened", name)
		}
	}
	// What is wrapped there is no ROOT, nor the other way round.
	list, _, err := splitDirections(data)
	if err != nil {
		t.Fatal(err)
	}
	wraps, err := keys.ParseWraps(list)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Find(wraps); err == nil {
		t.Error("the key of the directions opens as ROOT")
	}
	many := make([]keys.Recipient, 100)
	for i := range many {
		many[i] = a.Recipient()
	}
	if _, err := d.seal(8, many, scope, 1); err == nil {
		t.Error("directions that no home store takes")
	}
}

func TestDirectionsNameOnlyWhatTheyHave(t *testing.T) {
	t.Parallel()
	for name, plain := range map[string]string{
		"no JSON":                        `{`,
		"another version":                `{"version":2,"at":"home","counter":1}`,
		"counter":                        `{"version":1,"at":"home","counter":2}`,
		"nowhere":                        `{"version":1,"at":"x","counter":1}`,
		"to nowhere":                     `{"version":1,"at":"home","moving":"x","counter":1}`,
		"no secret":                      `{"version":1,"at":"x","stores":[{"id":"x","origin":"https://x","username":"a","user_id":"AAAAAAAAAAAAAAAAAAAAAA=="}],"counter":1}`,
		"short root":                     `{"version":1,"at":"home","root":"AAAA","counter":1}`,
		"a recipient without a recovery": `{"version":1,"at":"home","for":[{"kind":1}],"counter":1}`,
		"moving nowhere by a number":     `{"version":1,"at":"home","move":1,"counter":1}`,
		"copied to nowhere":              `{"version":1,"at":"home","copied":true,"counter":1}`,
		"moving to where it is":          `{"version":1,"at":"home","moving":"home","move":1,"counter":1}`,
		"ending of nothing":              `{"version":1,"at":"home","endings":[{"move":1,"from":"home","to":"x"}],"counter":1}`,
	} {
		if d, err := parseDirections([]byte(plain), 1); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// Finding by finding what a device that was dropped could have written.
	good := func() *directions {
		return &directions{Version: directionsVersion, At: "x", Moving: atHome, Move: 3, Counter: 3, Stores: []storeLogin{ownStore("x", "https://x.test"), ownStore("y", "https://y.test")}}
	}
	if err := good().check(3); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a", 2000)
	for name, spoil := range map[string]func(d *directions){
		"no origin":             func(d *directions) { d.Stores[0].Origin = "" },
		"origin of a file":      func(d *directions) { d.Stores[0].Origin = "file:///etc" },
		"origin with a user":    func(d *directions) { d.Stores[0].Origin = "https://me@x.test" },
		"origin with a query":   func(d *directions) { d.Stores[0].Origin = "https://x.test?q" },
		"long origin":           func(d *directions) { d.Stores[0].Origin = "https://x.test/" + long },
		"no name":               func(d *directions) { d.Stores[0].Username = "" },
		"long name":             func(d *directions) { d.Stores[0].Username = long },
		"long invitation":       func(d *directions) { d.Stores[0].Invitation = long },
		"long id":               func(d *directions) { d.Stores[1].ID = long },
		"short former secret":   func(d *directions) { d.Stores[0].Former = make([]byte, secretSize-1) },
		"known to too many":     func(d *directions) { d.Stores[0].Known = make([]string, maxKnown+1) },
		"known to a long one":   func(d *directions) { d.Stores[0].Known = []string{long} },
		"the same id twice":     func(d *directions) { d.Stores[1].ID = "x" },
		"the same user twice":   func(d *directions) { d.Stores[1].Origin = "https://x.test" },
		"an own store as home":  func(d *directions) { d.Stores[1].ID = atHome },
		"too many stores":       func(d *directions) { d.Stores = make([]storeLogin, maxStores+1) },
		"too many endings":      func(d *directions) { d.Endings = make([]ending, maxEndings+1) },
		"a move of the future":  func(d *directions) { d.Move = 4 },
		"an ending to come":     func(d *directions) { d.Endings = []ending{{Move: 4, From: "x", To: "y"}} },
		"an ending of number 0": func(d *directions) { d.Endings = []ending{{From: "x", To: "y"}} },
		"an ending of no way":   func(d *directions) { d.Endings = []ending{{Move: 1, From: "x", To: "x"}} },
	} {
		d := good()
		spoil(d)
		if d.check(3) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	last := good()
	last.Counter = math.MaxInt64
	if last.check(math.MaxInt64) == nil {
		t.Error("a counter after which none comes")
	}
	d := noDirections(1)
	for i := range 3 * maxStores {
		d.add(ownStore(fmt.Sprint(i), fmt.Sprintf("https://store-%d.test", i)))
		if i == 3 {
			d.At = "3"
		}
	}
	if _, ok := d.login("3"); !ok || len(d.Stores) > maxStores {
		t.Errorf("%d stores, the present one among them: %v", len(d.Stores), ok)
	}
	for i, l := range d.Stores {
		if got, ok := d.user(l.Origin, l.Username); !ok || got.ID != l.ID {
			t.Errorf("%d: another user", i)
		}
	}
	d.Moving, d.Move = d.Stores[1].ID, 9
	d.Endings = []ending{{Move: 4, From: atHome, To: d.Stores[2].ID}}
	for move, want := range map[uint64]string{9: d.Stores[1].ID, 4: d.Stores[2].ID, 5: "", 0: ""} {
		if id, ok := d.wentTo(move); id != want || ok != (want != "") {
			t.Errorf("move %d led to %q", move, id)
		}
	}
}

// A store that is known by an id is at one origin for good.
func TestDirectionsLeadAnIDNowhereElse(t *testing.T) {
	t.Parallel()
	s := &Store{depots: map[string]*depot{}}
	d := noDirections(1)
	d.add(ownStore("x", "https://x.test"))
	p, err := s.depotOf(d, "x")
	if err != nil || p.origin != "https://x.test" {
		t.Fatalf("%+v, %v", p, err)
	}
	if again, err := s.depotOf(d, "x"); err != nil || again != p {
		t.Errorf("the same: %v", err)
	}
	d.Stores[0].Origin = "https://thief.test"
	if _, err := s.depotOf(d, "x"); err == nil {
		t.Error("the sessions of one store are shown to another")
	}
	if _, err := s.depotOf(d, "y"); err == nil {
		t.Error("a store that is not named")
	}
}

// FuzzOpenDirections: what a home store serves as directions makes nothing but an error.
func FuzzOpenDirections(f *testing.F) {
	scope := directionsScope()
	w := directionsDevice(f, 1, scope)
	data, err := noDirections(0).seal(1, []keys.Recipient{w.Recipient()}, scope, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, []byte(`{"version":1,"at":"home","counter":1}`))
	f.Add(data[:len(data)-1], []byte(`{"version":1,"at":"x","stores":[{"id":"x"}],"counter":1}`))
	f.Add([]byte("CMD1\xff\xff\xff\xff"), []byte(`{}`))
	f.Fuzz(func(t *testing.T, sealed, plain []byte) {
		if d, err := openDirections(keyapi.Directions{Counter: 1, Data: sealed}, scope, w); err == nil && d.At != atHome {
			t.Fatal("other directions than were made")
		}
		d, err := parseDirections(plain, 1)
		if err != nil {
			return
		}
		for _, id := range []string{d.At, d.Moving} {
			if _, ok := d.login(id); id != "" && id != atHome && !ok {
				t.Fatalf("%q is not named", id)
			}
		}
	})
}
