package cloudmls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestRandomMoves lets the devices of a user move the state, give moves up, write,
// sign in and drop each other, one inside the other, while requests and answers are
// lost, arrive late, devices die and stores are down for a while. What was
// acknowledged is readable at any time, never do two stores take writes, and at the
// end nothing is left anywhere else. CLOUDMLS_MOVES=first-last runs other histories.
func TestRandomMoves(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), uint64(14)
	if s, ok := os.LookupEnv("CLOUDMLS_MOVES"); ok {
		a, b, _ := strings.Cut(s, "-")
		var err, e error
		first, err = strconv.ParseUint(a, 10, 64)
		last, e = strconv.ParseUint(b, 10, 64)
		if err := errors.Join(err, e); err != nil {
			t.Fatalf("CLOUDMLS_MOVES: %v", err)
		}
	}
	for seed := first; seed <= last; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { newDrift(t, seed).run() })
	}
}

// drift is one history.
type drift struct {
	*roam
	rnd     *rand.Rand
	id      ConversationID
	bob     *device
	devices []*rover
	wrote   []wrote
	names   int // of devices
	trace   []string
	wrong   error // what a check found that does not run in the test's own goroutine

	mu    sync.Mutex // of what follows: requests come from many goroutines, one after the other
	stack []*attempt
	late  []*exchange // that have not arrived yet
	down  map[string]bool
	calm  bool // no faults
}

// rover is a device of the user.
type rover struct {
	*device
	name    string
	id      string // how the others call it
	busy    bool   // does something
	dead    bool
	dropped bool // or may be: another one has tried to
	// unsure: an answer that renews its session was lost, or a request that does comes
	// late. Then the key server may end that session, and it is signed in again.
	unsure bool
}

type wrote struct {
	text string
	b    []byte
}

// attempt is something that a device does, and what goes wrong.
type attempt struct {
	who   *rover
	left  int // requests until then
	fault string
	at    *exchange // whose answer it concerns
	dead  bool
	upset bool // something has gone wrong, or somebody else has done something meanwhile
}

var moveFaults = []string{
	"lost", "unanswered", "late", "late", "dies before", "dies after", "meanwhile before", "meanwhile after", "meanwhile before", "meanwhile after",
}

func newDrift(t *testing.T, seed uint64) *drift {
	h := &drift{roam: newRoam(t), rnd: rand.New(rand.NewPCG(seed, 7)), down: map[string]bool{}, calm: true}
	h.world.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	alice := h.user("alice")
	h.bob = h.user("bob")
	h.id = newID(t)
	alice.ensureGroup(h.id, h.bob)
	h.bob.cleanSync()
	h.adopt(alice)
	h.adopt(alice.sibling())
	for _, d := range h.devices {
		d.mustSync()
	}
	for origin, w := range h.wires {
		w.set(func(e *exchange) bool { return h.before(origin, e) }, h.after)
	}
	return h
}

func (h *drift) adopt(d *device) *rover {
	x := &rover{device: d, name: fmt.Sprintf("device %d", h.names)}
	for _, o := range d.Client.store.Devices() {
		if o.This {
			x.id = o.ID
		}
	}
	h.names++
	h.devices = append(h.devices, x)
	return x
}

func (h *drift) note(format string, a ...any) {
	h.trace = append(h.trace, strings.Repeat("  ", len(h.stack))+fmt.Sprintf(format, a...))
}

func (h *drift) fatal(err error) {
	h.t.Helper()
	h.t.Fatalf("%v\n%s", err, strings.Join(h.trace, "\n"))
}

// wrongly keeps the first thing that is wrong.
func (h *drift) wrongly(err error) {
	if h.wrong == nil {
		h.wrong = err
		h.note("WRONG: %v", err)
	}
}

func (h *drift) chance(percent int) bool { return h.rnd.IntN(100) < percent }

func (h *drift) before(origin string, e *exchange) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calm || len(h.stack) == 0 {
		return false
	}
	a := h.stack[len(h.stack)-1]
	switch {
	case a.dead:
		return true
	case h.down[origin]:
		a.upset = true
		return true
	}
	if len(h.late) > 0 && h.chance(12) {
		h.arrive()
	}
	a.left--
	if a.left != 0 {
		return false
	}
	name := fmt.Sprintf("%s %s %s", origin, e.request.Method, e.request.URL.Path)
	fault := a.fault
	if fault == "late" && e.request.Method != "POST" {
		fault = "lost"
	}
	if origin == "" && e.is("POST", "/v1/auth/refresh") && (fault == "late" || fault == "unanswered" || fault == "dies after") {
		a.who.unsure = true
	}
	h.note("%s: %s", fault, name)
	a.upset = true
	a.left, a.fault = 1+h.rnd.IntN(12), moveFaults[h.rnd.IntN(len(moveFaults))]
	if h.chance(50) {
		a.left = -1
	}
	switch fault {
	case "late":
		h.late = append(h.late, e)
		return true
	case "lost":
		return true
	case "dies before":
		h.dies(a)
		return true
	case "meanwhile before":
		h.meanwhile()
	default:
		e.header = fault
		a.at = e
	}
	return false
}

func (h *drift) after(e *exchange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.oneWriter(); err != nil {
		h.wrongly(err)
	}
	if len(h.stack) == 0 {
		return
	}
	a := h.stack[len(h.stack)-1]
	if a.at != e {
		return
	}
	fault := e.header
	a.at, e.header = nil, ""
	switch fault {
	case "unanswered":
		e.status = 0
	case "dies after":
		h.dies(a)
		e.status = 0
	case "meanwhile after":
		h.meanwhile()
	}
}

func (h *drift) dies(a *attempt) {
	a.dead, a.who.dead = true, true
	a.who.Close()
}

// arrive carries out a request that was on its way until now.
func (h *drift) arrive() {
	i := h.rnd.IntN(len(h.late))
	e := h.late[i]
	h.late = slices.Delete(h.late, i, i+1)
	status := e.carryOut()
	h.note("arrives late, %d: %s %s %.90s", status, e.request.Host, e.request.URL.Path, e.sent)
	for _, a := range h.stack {
		a.upset = true
	}
	if err := h.oneWriter(); err != nil {
		h.wrongly(err)
	}
}

// meanwhile lets another device do something, while a request is on its way.
func (h *drift) meanwhile() {
	h.mu.Unlock()
	defer h.mu.Lock()
	h.act(len(h.stack) < 3)
}

// holding is where the objects of the user are at a server.
type holding struct {
	place   string
	move    uint64
	objects int
}

// places tells for each store what it has of the user.
func (h *drift) places() (map[string][]holding, error) {
	all := map[string][]holding{}
	for _, origin := range []string{"", storeA, storeB} {
		s := h.ks
		if origin != "" {
			s = h.stores[origin]
		}
		list, err := keyserver.ListUsers(h.t.Context(), s.Handler.Store, "", 100)
		if err != nil {
			return nil, err
		}
		for _, u := range list {
			if u.Name == h.bob.username {
				continue
			}
			p := holding{place: keyapi.PlaceHere, objects: u.Objects}
			err := s.Handler.Store.View(h.t.Context(), func(r keyserver.Reader) error {
				n, err := r.Note(keyserver.NoteMove, u.ID[:], nil, h.clock.now())
				if err != nil || n == nil {
					return err
				}
				var v struct {
					Place string
					Move  uint64
				}
				err = json.Unmarshal(n.Value, &v)
				p.place, p.move = v.Place, v.Move
				return err
			})
			if err != nil {
				return nil, err
			}
			all[origin] = append(all[origin], p)
		}
	}
	return all, nil
}

// oneWriter: what is here and was written since it came is what is used. There is
// one such store, and no state is lost.
func (h *drift) oneWriter() error {
	all, err := h.places()
	if err != nil {
		return err
	}
	writers, holders := 0, 0
	for _, list := range all {
		for _, p := range list {
			if p.objects > 0 && p.place == keyapi.PlaceHere && p.move == 0 {
				writers++
			}
			if p.objects > 0 && (p.place == keyapi.PlaceHere || p.place == keyapi.PlaceLeaving) {
				holders++
			}
		}
	}
	switch {
	case writers > 1:
		return fmt.Errorf("%d stores take writes: %+v", writers, all)
	case holders == 0:
		return fmt.Errorf("no store has the state: %+v", all)
	}
	return nil
}

// onlyAt gives the one store that has a state to read; ok: there is just one.
func (h *drift) onlyAt() (at string, ok bool) {
	all, err := h.places()
	if err != nil {
		return "", false
	}
	n := 0
	for origin, list := range all {
		for _, p := range list {
			if p.objects > 0 && p.place != keyapi.PlaceGone {
				at = origin
				n++
			}
		}
	}
	return at, n == 1
}

func (h *drift) run() {
	for range 12 + h.rnd.IntN(14) {
		h.calm = false
		switch {
		case len(h.down) == 0 && h.chance(10):
			origin := []string{"", storeA, storeB}[h.rnd.IntN(3)]
			h.down[origin] = true
			h.note("%q is down", origin)
		case len(h.down) > 0 && h.chance(35):
			clear(h.down)
			h.note("all are up")
		}
		if h.chance(30) {
			h.clock.advance(time.Duration(h.rnd.IntN(6)) * time.Minute)
		}
		h.act(true)
		if len(h.late) > 0 && h.chance(20) {
			h.arrive()
		}
		h.calm = true
		if h.chance(50) {
			h.check()
		}
		if h.wrong != nil {
			h.fatal(h.wrong)
		}
	}
	h.calm = true
	clear(h.down)
	h.end()
}

// pick gives a device that can do something now.
func (h *drift) pick() *rover {
	var free []*rover
	for _, d := range h.devices {
		if !d.busy && !d.dropped {
			free = append(free, d)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return free[h.rnd.IntN(len(free))]
}

// wakes resumes a device that died, and signs one in that may be signed out.
func (h *drift) wakes(d *rover) error {
	if d.dead {
		c, err := Resume(h.t.Context(), h.options(d.store))
		if err != nil {
			return fmt.Errorf("%s: resume: %w", d.name, err)
		}
		d.Client, d.dead = c, false
		h.t.Cleanup(func() { c.Close() })
	}
	if !d.unsure {
		return nil
	}
	defer h.calms(h.calms(true))
	if _, err := d.Store(h.t.Context()); !errors.Is(err, ErrSignedOut) {
		return nil
	}
	h.note("%s: is signed out, and in again", d.name)
	d.Close()
	c, err := Open(h.t.Context(), d.username, password, h.options(d.store))
	if err != nil {
		return fmt.Errorf("%s: sign in again: %w", d.name, err)
	}
	d.Client = c
	h.t.Cleanup(func() { c.Close() })
	return nil
}

// calms says whether there are no faults, and gives what was said before.
func (h *drift) calms(calm bool) (before bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, h.calm = h.calm, calm
	return before
}

// act lets a device do something.
func (h *drift) act(faults bool) {
	who := h.pick()
	if who == nil {
		return
	}
	if err := h.wakes(who); err != nil {
		h.wrongly(err)
		return
	}
	what, most := h.deeds()[h.rnd.IntN(len(h.deeds()))], 12
	if what.long {
		most = 45
	}
	a := &attempt{who: who, left: -1, fault: moveFaults[h.rnd.IntN(len(moveFaults))]}
	if faults && h.chance(75) {
		a.left = 1 + h.rnd.IntN(most)
	}
	h.mu.Lock()
	a.upset = len(h.stack) > 0 || len(h.down) > 0
	h.note("%s: %s", who.name, what.name)
	h.stack = append(h.stack, a)
	h.mu.Unlock()
	who.busy = true
	err := what.do(a)
	who.busy = false
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stack = h.stack[:len(h.stack)-1]
	for _, outer := range h.stack {
		outer.upset = true
	}
	h.note("%s: %s: %v", who.name, what.name, err)
	if err != nil && !who.dropped {
		h.judge(a, what, err)
	}
}

// judge says which errors there may be.
func (h *drift) judge(a *attempt, what deed, err error) {
	var alarm *RollbackError
	var target *TargetError
	switch {
	case errors.Is(err, ErrSignedOut) && a.who.unsure:
		return
	case errors.As(err, &alarm), errors.Is(err, ErrDropped), errors.Is(err, ErrStoreLogin), errors.Is(err, ErrSignedOut),
		strings.Contains(err.Error(), "not followed"), strings.Contains(err.Error(), "malformed"):
	case a.upset:
		return
	case slices.ContainsFunc(what.may, func(e error) bool { return errors.Is(err, e) }):
		return
	case errors.As(err, &target) && what.name == "move" && strings.Contains(err.Error(), "has the state already"):
		return
	}
	h.wrongly(fmt.Errorf("%s: %s: %w", a.who.name, what.name, err))
}

// deed is what a device can do.
type deed struct {
	name string
	long bool
	may  []error
	do   func(*attempt) error
}

func (h *drift) deeds() []deed {
	ctx := h.t.Context()
	write := deed{name: "write", may: []error{ErrMoving}, do: func(a *attempt) error {
		text := fmt.Sprintf("number %d of %s", len(h.wrote), a.who.name)
		b, err := a.who.Encrypt(ctx, a.who.self, h.id, []byte(text), nil)
		if err == nil && !a.who.dropped {
			h.wrote = append(h.wrote, wrote{text, b})
		}
		return err
	}}
	commit := deed{name: "commit", may: []error{ErrMoving}, do: func(a *attempt) error {
		_, err := a.who.commit(ctx, a.who.self, h.id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
		return err
	}}
	move := deed{name: "move", long: true, may: []error{ErrMoveBusy, ErrMovesLeft}, do: func(a *attempt) error {
		to := []StoreTarget{{}, {Origin: storeA, Username: "a"}, {Origin: storeB, Username: "b"}, {Origin: storeA, Username: "other"}}[h.rnd.IntN(4)]
		h.note("to %s %s", to.Origin, to.Username)
		return a.who.MoveStore(ctx, to, nil)
	}}
	cancel := deed{name: "cancel", may: []error{ErrNoMove, ErrMoveDecided}, do: func(a *attempt) error { return a.who.CancelMove(ctx) }}
	resume := deed{name: "resume", long: true, do: func(a *attempt) error { return a.who.ResumeMove(ctx, nil) }}
	maintain := deed{name: "maintain", long: true, may: []error{ErrMoving}, do: func(a *attempt) error { return a.who.Maintain(ctx) }}
	sync := deed{name: "sync", may: []error{ErrMoving}, do: func(a *attempt) error {
		_, err := a.who.Sync(ctx, a.who.self)
		return err
	}}
	open := deed{name: "sign in", long: true, may: []error{ErrMoving}, do: func(a *attempt) error {
		if len(h.devices) > 5 {
			return nil
		}
		d := &device{w: h.world, t: h.t, username: a.who.username, self: a.who.self, store: NewMemoryStore()}
		c, err := Open(ctx, d.username, password, h.options(d.store))
		if err != nil {
			return err
		}
		h.t.Cleanup(func() { c.Close() })
		d.Client = c
		h.adopt(d)
		return nil
	}}
	revoke := deed{name: "revoke", long: true, may: []error{ErrMoving}, do: func(a *attempt) error {
		i := slices.IndexFunc(h.devices, func(d *rover) bool { return d != a.who && !d.dropped })
		left := 0
		for _, d := range h.devices {
			if !d.dropped {
				left++
			}
		}
		if i < 0 || left < 3 {
			return nil
		}
		h.note("%s", h.devices[i].name)
		h.devices[i].dropped = true
		err := a.who.RevokeDevice(ctx, h.devices[i].id)
		if a.upset && errors.Is(err, ErrNoDevice) {
			return nil
		}
		return err
	}}
	return []deed{write, write, write, commit, commit, move, move, move, move, cancel, cancel, resume, maintain, maintain, sync, sync, open, revoke}
}

// reading checks what a device can read.
func (h *drift) reading(d *rover, all []wrote) error {
	if err := h.wakes(d); err != nil {
		return err
	}
	if _, err := d.Sync(h.t.Context(), d.self); err != nil && !errors.Is(err, ErrMoving) {
		return fmt.Errorf("%s: sync: %w", d.name, err)
	}
	for _, w := range all {
		p, err := d.Decrypt(h.t.Context(), d.self, w.b)
		if err != nil {
			return fmt.Errorf("%s: read %q: %w", d.name, w.text, err)
		}
		if string(p.Data) != w.text {
			return fmt.Errorf("%s: read %q, want %q", d.name, p.Data, w.text)
		}
	}
	return nil
}

// check reads on one device, or a new one, while nothing goes wrong. A store that is
// down and does not have the state is in nobody's way.
func (h *drift) check() {
	at, ok := h.onlyAt()
	if len(h.down) > 0 && (!ok || h.down[at] || h.down[""]) {
		return
	}
	h.note("check, %d written", len(h.wrote))
	var err error
	if who := h.pick(); who != nil {
		err = h.reading(who, h.wrote)
	}
	if err != nil {
		h.fatal(err)
	}
	if h.chance(25) && len(h.down) == 0 {
		h.newcomer()
	}
}

// nothingLeft: no device has anything to do at a store that the state is not at.
func (h *drift) nothingLeft(left []*device) {
	for _, w := range h.wires {
		w.reset()
	}
	for _, d := range left {
		if err := d.Maintain(h.t.Context()); err != nil {
			h.fatal(err)
		}
	}
	st, err := left[0].Store(h.t.Context())
	if err != nil {
		h.fatal(err)
	}
	for origin, w := range h.wires {
		if n := len(w.requests()); origin != "" && origin != st.Origin && n > 0 {
			h.fatal(fmt.Errorf("%d requests to %s, and the state is at %s", n, origin, st.Origin))
		}
	}
}

// newcomer is a device that signs in with the password alone, reads everything, and goes.
func (h *drift) newcomer() {
	d := &device{w: h.world, t: h.t, username: h.devices[0].username, self: h.devices[0].self, store: NewMemoryStore()}
	var err error
	d.Client, err = Open(h.t.Context(), d.username, password, h.options(d.store))
	if errors.Is(err, ErrMoving) {
		return
	}
	if err != nil {
		h.fatal(fmt.Errorf("a new device: %w", err))
	}
	defer d.Close()
	if err := h.reading(&rover{device: d, name: "new device"}, h.wrote); err != nil {
		h.fatal(err)
	}
	if err := d.SignOut(h.t.Context()); err != nil && !errors.Is(err, ErrMoving) {
		h.fatal(fmt.Errorf("a new device signs out: %w", err))
	}
}

// end: what is left to do Maintain does, and requests that arrive afterwards change
// nothing.
func (h *drift) end() {
	ctx := h.t.Context()
	var left []*device
	for _, d := range h.devices {
		if d.dropped {
			continue
		}
		if err := h.wakes(d); err != nil {
			h.fatal(err)
		}
		h.note("%s: last maintain", d.name)
		if err := d.Maintain(ctx); err != nil {
			h.fatal(fmt.Errorf("%s: last maintain: %w", d.name, err))
		}
		left = append(left, d.device)
	}
	for round := range 2 {
		where := ""
		for i, d := range left {
			st, err := d.Store(ctx)
			if err != nil || st.Moving != "" || i > 0 && st.Origin != where {
				h.fatal(fmt.Errorf("where is the state: %+v, %w", st, err))
			}
			where = st.Origin
		}
		all, err := h.places()
		if err != nil {
			h.fatal(err)
		}
		have := 0
		for origin, list := range all {
			for _, p := range list {
				is := origin == where || origin == "" && where == h.ks.Origin
				if p.objects > 0 {
					have++
				}
				if p.objects > 0 && (!is || p.place != keyapi.PlaceHere) || p.place == keyapi.PlaceArriving || p.place == keyapi.PlaceLeaving {
					h.fatal(fmt.Errorf("the state is at %q, and in the end there are %+v", where, all))
				}
			}
		}
		if have != 1 {
			h.fatal(fmt.Errorf("%d states in the end: %+v", have, all))
		}
		if round == 0 {
			for len(h.late) > 0 {
				h.arrive()
			}
			for _, d := range h.devices {
				if d.dropped {
					continue
				}
				if err := h.wakes(d); err != nil {
					h.fatal(err)
				}
			}
		}
	}
	h.note("in the end")
	h.nothingLeft(left)
	if err := h.oneWriter(); err != nil {
		h.fatal(err)
	}
	h.goesOn(h.id, append(left, h.bob)...)
	for _, d := range append(slices.Clone(h.devices), &rover{device: h.bob, name: "bob"}) {
		if d.dropped {
			continue
		}
		if err := h.reading(d, h.wrote); err != nil {
			h.fatal(err)
		}
	}
	h.newcomer()
	if testing.Verbose() || h.t.Failed() {
		h.t.Log(strings.Join(h.trace, "\n"))
	}
}
