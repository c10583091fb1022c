//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// lie is one that goes on.
type lie struct {
	kind string
	to   func(device string) bool
	acts []*evil.Running
	end  func() // what is left to do; may be nil
}

// telling is a lie as it begins: what its step says.
type telling struct {
	l   *liar
	s   *step
	u   *user // whom it is about
	to  func(device string) bool
	lie *lie
}

// lies are the kinds of lies.
var lies = map[string]func(t *telling){
	// About the state of a user.
	"old-state":  (*telling).oldState,
	"old-object": (*telling).oldObject,
	"swapped":    (*telling).swapped,
	"omitted":    (*telling).omitted,
	"added":      (*telling).added,
	"old-index":  (*telling).oldIndex,
	"old-octets": (*telling).oldOctets,
	"unchanged":  func(t *telling) { t.always(evil.Any, evil.Unchanged) },
	// About what was delivered.
	"withheld":     (*telling).withheld,
	"reordered":    (*telling).reordered,
	"replayed":     (*telling).replayed,
	"misdelivered": (*telling).misdelivered,
	"altered":      (*telling).altered,
	// About all that happens.
	"forked": (*telling).forked,
	"second": (*telling).second,
	// About people.
	"keys":       (*telling).keys,
	"identity":   (*telling).identity,
	"used-keys":  (*telling).usedKeys,
	"denied":     (*telling).denied,
	"downgraded": (*telling).downgraded,
	// About signing in.
	"kdf": (*telling).kdf,
	// About everything.
	"faults": (*telling).faults,
}

var lieKinds = slices.Sorted(maps.Keys(lies))

// tellLie begins a lie.
func (w *world) tellLie(f *frame) {
	l := w.liar
	begin := lies[f.step.Lie]
	if l == nil || l.ended || begin == nil {
		w.fail("history: no lie %q", f.step.Lie)
		return
	}
	t := &telling{l: l, s: f.step, u: f.d.u, lie: &lie{kind: f.step.Lie}}
	name := f.d.name
	switch f.step.C % 4 {
	case 0:
		t.to = func(d string) bool { return d == name }
	case 1:
		t.to = func(d string) bool { return strings.HasPrefix(d, t.u.name) }
	case 2:
		t.to = func(string) bool { return true }
	default: // siblings see different things
		t.to = func(d string) bool { return d != name }
	}
	t.lie.to = t.to
	l.told = true
	begin(t)
	l.lies = append(l.lies, t.lie)
	w.counts["lie "+t.lie.kind]++
}

// tellTruth ends a lie.
func (w *world) tellTruth(f *frame) {
	if l := w.liar; l != nil && len(l.lies) > 0 {
		n := f.step.N % len(l.lies)
		f.note("no more %s", l.lies[n].kind)
		l.stop(l.lies[n])
		l.lies = slices.Delete(l.lies, n, n+1)
	}
}

func (l *liar) stop(x *lie) {
	for _, r := range x.acts {
		r.Stop()
		l.w.counts["lied "+x.kind] += r.Hits()
	}
	if x.end != nil {
		x.end()
	}
}

// always does something to requests of those who are lied to.
func (t *telling) always(on evil.Match, do evil.Act) {
	to := t.to
	t.lie.acts = append(t.lie.acts, t.l.middle.Always(func(e *evil.Exchange) bool { return to(e.Device) && on(e) }, do))
}

// owner is whose device asks.
func (l *liar) owner(device string) *user {
	return l.w.users[device[0]-'a']
}

// show has objects shown as change makes them, from the true ones of the user whose
// device asks.
func (t *telling) show(on evil.Match, change func(u *user, s evil.State) evil.State) {
	l := t.l
	var asking *user
	show := evil.Show(func() evil.State { return change(asking, maps.Clone(l.now(asking.name))) })
	t.always(on, func(e *evil.Exchange, serve func()) {
		asking = l.owner(e.Device)
		show(e, serve)
	})
}

// frozen is what each user's state was some time ago.
func (t *telling) frozen() map[string]evil.State {
	was := map[string]evil.State{}
	for _, u := range t.l.w.users {
		was[u.name] = t.l.older(u.name, t.s.N%6)
	}
	return was
}

func (t *telling) oldState() {
	was := t.frozen()
	t.show(evil.Any, func(u *user, _ evil.State) evil.State { return was[u.name] })
}

func (t *telling) oldIndex() {
	was := t.frozen()
	t.show(evil.ToIndex, func(u *user, _ evil.State) evil.State { return was[u.name] })
}

func (t *telling) oldOctets() {
	was := t.frozen()
	t.show(evil.ToObjects, func(u *user, _ evil.State) evil.State { return was[u.name] })
}

// pick gives the ids of a state, in order, beginning at one of them.
func (t *telling) pick(s evil.State) []keyapi.ObjectID {
	ids := slices.SortedFunc(maps.Keys(s), func(a, b keyapi.ObjectID) int { return bytes.Compare(a[:], b[:]) })
	if len(ids) == 0 {
		return nil
	}
	// Types are not as many as there are objects of each.
	types := slices.Compact(func() (all []byte) {
		for _, id := range ids {
			all = append(all, id[0])
		}
		return all
	}())
	from := slices.IndexFunc(ids, func(id keyapi.ObjectID) bool { return id[0] == types[t.s.N%len(types)] })
	return slices.Concat(ids[from:], ids[:from])
}

// parts says where the lie is told: in what is listed, in what is given, or in both.
func (t *telling) parts() evil.Match {
	if len(t.s.V) == 0 {
		return evil.Any
	}
	return []evil.Match{evil.Any, evil.ToIndex, evil.ToObjects}[t.s.V[0]%3]
}

func (t *telling) oldObject() {
	was := t.frozen()
	renumber := len(t.s.V) > 1
	t.show(t.parts(), func(u *user, s evil.State) evil.State {
		for _, id := range t.pick(s)[:1] {
			if o, ok := was[u.name][id]; ok {
				if renumber {
					o.Counter = s[id].Counter
				}
				s[id] = o
			}
		}
		return s
	})
}

func (t *telling) swapped() {
	other := t.l.w.users[(slices.Index(t.l.w.users, t.u)+1)%len(t.l.w.users)]
	foreign := len(t.s.V) > 1
	t.show(t.parts(), func(u *user, s evil.State) evil.State {
		ids := t.pick(s)
		a, b := s[ids[0]], s[ids[1%len(ids)]]
		if foreign {
			for id, o := range t.l.now(other.name) {
				if id[0] == a.ID[0] {
					b.Data = o.Data
				}
			}
		}
		s[a.ID] = keyapi.Object{ID: a.ID, Counter: a.Counter, Data: b.Data}
		if !foreign {
			s[b.ID] = keyapi.Object{ID: b.ID, Counter: b.Counter, Data: a.Data}
		}
		return s
	})
}

func (t *telling) omitted() {
	t.show(t.parts(), func(_ *user, s evil.State) evil.State {
		for _, id := range t.pick(s)[:1+len(t.s.V)] {
			delete(s, id)
		}
		return s
	})
}

func (t *telling) added() {
	t.show(t.parts(), func(_ *user, s evil.State) evil.State {
		o := s[t.pick(s)[0]]
		o.ID[31] ^= 1
		s[o.ID] = o
		return s
	})
}

// pages changes what is delivered to those who are lied to.
func (t *telling) pages(change func(a keyapi.Account, p *keyapi.Deliveries)) {
	t.always(func(e *evil.Exchange) bool {
		return e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/v1/delivery/")
	}, func(e *evil.Exchange, serve func()) {
		a := accountOf(e.Path)
		evil.Edit(func(p *keyapi.Deliveries) { change(a, p) })(e, serve)
	})
}

func (t *telling) withheld() {
	which := []func(d *keyapi.Delivery) bool{
		func(*keyapi.Delivery) bool { return true },
		evil.IsCommit, evil.IsWelcome,
		func(d *keyapi.Delivery) bool { return d.Type == keyapi.DeliveryNotice },
		func(d *keyapi.Delivery) bool { return d.Seq%2 == 0 },
	}[t.s.N%5]
	t.pages(func(a keyapi.Account, p *keyapi.Deliveries) {
		p.Messages = slices.DeleteFunc(p.Messages, func(d keyapi.Delivery) bool {
			if which(&d) {
				t.l.keep(a, d)
			}
			return which(&d)
		})
	})
}

func (t *telling) reordered() {
	t.pages(func(a keyapi.Account, p *keyapi.Deliveries) {
		for i, j := 0, len(p.Messages)-1; i < j; i, j = i+1, j-1 {
			x, y := &p.Messages[i], &p.Messages[j]
			t.l.keep(a, *x)
			t.l.keep(a, *y)
			*x, *y = *y, *x
			x.Seq, y.Seq = y.Seq, x.Seq
		}
	})
}

func (t *telling) altered() {
	t.pages(func(a keyapi.Account, p *keyapi.Deliveries) {
		for i := range p.Messages {
			d := &p.Messages[i]
			if len(d.Message) == 0 || (d.Seq+uint64(t.s.N))%2 == 0 {
				continue
			}
			t.l.keep(a, *d)
			d.Message = bytes.Clone(d.Message)
			switch t.s.N % 5 {
			case 0:
				d.Message[len(d.Message)/2] ^= 1
			case 1:
				d.Message = d.Message[:len(d.Message)-1]
			case 2:
				d.Epoch += 1 + uint64(t.s.N)
			case 3:
				d.Sender = t.l.w.users[t.s.N%len(t.l.w.users)].self
			case 4:
				d.Group = append(bytes.Clone(d.Group), 0)
			}
		}
	})
}

// replayed delivers again what was delivered before.
func (t *telling) replayed() {
	t.again(t.u.self, t.u.self)
}

// misdelivered delivers to somebody what was for somebody else.
func (t *telling) misdelivered() {
	n := slices.Index(t.l.w.users, t.u)
	t.again(t.l.w.users[(n+1+t.s.N%max(1, len(t.l.w.users)-1))%len(t.l.w.users)].self, t.u.self)
}

func (t *telling) again(from, to keyapi.Account) {
	list := t.l.delivered[from]
	if len(list) == 0 {
		return
	}
	if t.s.N%3 > 0 { // only some
		list = list[t.s.N%len(list):]
	}
	list = slices.Clone(list[:min(len(list), 6)])
	if t.s.N%2 == 0 {
		slices.Reverse(list)
	}
	err := t.l.w.store.Update(context.Background(), func(w keyserver.Writer) error {
		for _, d := range list {
			if err := w.Deliver(&d, keyserver.UserID{}, []keyapi.Account{to}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.l.w.fail("deliver again: %v", err)
	}
	t.l.w.counts["lied "+t.lie.kind] += len(list)
}

func isClaim(e *evil.Exchange) bool {
	return e.Method == http.MethodPost && strings.HasPrefix(e.Path, "/v1/keypackages/") && strings.HasSuffix(e.Path, "/claim")
}

func isReachable(e *evil.Exchange) bool {
	return e.Method == http.MethodGet && strings.HasPrefix(e.Path, "/v1/reachable/")
}

// about tells whether the lie is about this account: everybody, or one user.
func (t *telling) about(a keyapi.Account) bool { return len(t.s.V) < 2 || a == t.u.self }

// own tells whether a request is about one of the asker's own accounts.
func (t *telling) own(e *evil.Exchange) bool { return t.l.owner(e.Device).self == accountOf(e.Path) }

// keys hands out KeyPackages of the thief's, and the identity key that goes with them.
func (t *telling) keys() {
	t.identity()
	t.always(func(e *evil.Exchange) bool { return isClaim(e) && t.about(accountOf(e.Path)) }, func(e *evil.Exchange, serve func()) {
		suite := mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
		if n, err := strconv.Atoi(e.Request.URL.Query().Get("suite")); err == nil {
			suite = mls.CipherSuite(n)
		}
		kp, err := t.l.thief.keyPackage(accountOf(e.Path), suite)
		if err != nil {
			t.l.w.fail("make a KeyPackage of suite %d: %v", suite, err)
			return
		}
		evil.Say(http.StatusOK, keyapi.ClaimedKeyPackage{KeyPackage: kp, LastResort: t.s.N%2 == 1})(e, serve)
	})
}

func (t *telling) identity() {
	t.always(func(e *evil.Exchange) bool { return isReachable(e) && t.about(accountOf(e.Path)) && !t.own(e) }, func(e *evil.Exchange, serve func()) {
		a := accountOf(e.Path)
		evil.Edit(func(r *keyapi.Reachability) {
			r.HasAccount, r.Rotations = true, nil
			r.IdentityKey = t.l.thief.public(a)
		})(e, serve)
	})
}

func (t *telling) usedKeys() {
	t.always(isClaim, func(e *evil.Exchange, serve func()) {
		list := t.l.claimed[accountOf(e.Path)]
		if len(list) == 0 {
			serve()
			return
		}
		evil.Say(http.StatusOK, keyapi.ClaimedKeyPackage{KeyPackage: list[t.s.N%len(list)]})(e, serve)
	})
}

func (t *telling) denied() {
	t.always(func(e *evil.Exchange) bool { return isReachable(e) && t.about(accountOf(e.Path)) },
		evil.Edit(func(r *keyapi.Reachability) { r.HasAccount, r.IdentityKey, r.Rotations = false, nil, nil }))
	t.always(func(e *evil.Exchange) bool { return isClaim(e) && t.about(accountOf(e.Path)) },
		evil.Refuse(http.StatusNotFound, []string{keyapi.CodeNoAccount, keyapi.CodeNoKeyPackage}[t.s.N%2]))
}

func (t *telling) downgraded() {
	const pq = uint16(mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519)
	t.always(isReachable, evil.Edit(func(r *keyapi.Reachability) {
		r.Suites = slices.DeleteFunc(r.Suites, func(s uint16) bool { return s == pq })
	}))
	t.always(func(e *evil.Exchange) bool {
		return isClaim(e) && e.Request.URL.Query().Get("suite") == fmt.Sprint(pq)
	}, evil.Refuse(http.StatusNotFound, keyapi.CodeNoKeyPackage))
}

// kdf asks for something else to be derived from the password. Whoever signs in
// then, with what that gives, has let it be searched.
func (t *telling) kdf() {
	t.always(evil.To("POST", "/v1/auth/params"), evil.Edit(func(p *keyapi.AuthParams) {
		switch t.s.N % 7 {
		case 0:
			p.KDF.Time = 0
		case 1:
			p.KDF.MemoryKiB = 8
		case 2:
			p.KDF.MemoryKiB = 1 << 31
		case 3:
			p.KDF.Algorithm = "argon2d"
		case 4:
			p.KDF.Salt = make([]byte, 16)
		case 5:
			p.UserID = make([]byte, 16)
		case 6:
			p.AuthVersion++
		}
	}))
	weak := t.s.N%7 < 4
	t.always(evil.To("POST", "/v1/auth/login"), func(e *evil.Exchange, serve func()) {
		if weak {
			t.l.w.fail("%s: sends what it derived from the password in a way that it must not", e.Device)
		}
		serve()
	})
}

// faults answers in ways that no key server does, all requests or some.
func (t *telling) faults() {
	all := evil.Faults()
	all["cut off"] = evil.Truncate(20)
	all["cut in the middle"] = func(e *evil.Exchange, serve func()) {
		serve()
		e.Answered = bytes.Clone(e.Answered[:len(e.Answered)/2])
	}
	all["the answer to another question"] = func(e *evil.Exchange, serve func()) {
		serve()
		var v any
		if json.Unmarshal(e.Answered, &v) == nil && e.Status == http.StatusOK {
			evil.Say(http.StatusOK, keyapi.ObjectIndex{Objects: []keyapi.ObjectVersion{}})(e, serve)
		}
	}
	name := slices.Sorted(maps.Keys(all))[t.s.N%len(all)]
	part := []string{"/v1/", "/v1/objects", "/v1/tx", "/v1/delivery", "/v1/keypackages", "/v1/reachable", "/v1/auth"}
	prefix := part[0]
	if len(t.s.V) > 0 {
		prefix = part[t.s.V[0]%len(part)]
	}
	if len(t.s.V) > 1 {
		prefix = part[(t.s.V[0]*5+t.s.V[1])%len(part)]
	}
	t.always(func(e *evil.Exchange) bool { return strings.HasPrefix(e.Path, prefix) }, all[name])
}
