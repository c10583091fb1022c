package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// burglar has what lay on a device when it was stolen, its vault key too, and a program
// of their own. The home server helps: it shows them all directions that any
// device ever sent, those of long ago and those of after the device was dropped.
type burglar struct {
	r       *roam
	key     *keys.Wrapper
	scope   keys.Scope
	sign    ed25519.PrivateKey // of no device of the user
	known   map[string]stolenLogin
	live    []stolenSession
	scanned int
	planted int // recovery codes
}

type stolenLogin struct {
	Origin   string `json:"origin"`
	Username string `json:"username"`
	UserID   []byte `json:"user_id"`
	Secret   []byte `json:"secret"`
	Former   []byte `json:"former"`
}

type stolenSession struct {
	origin string
	keyapi.Session
}

type stolenDirections struct {
	Stores []stolenLogin     `json:"stores"`
	Root   []byte            `json:"root"`
	For    []json.RawMessage `json:"for"`
}

// stolen copies a device's vault. What is read here is written down again from the
// formats, so that it fails where these change.
func (r *roam) stolen(d *device) *burglar {
	r.t.Helper()
	o := r.options(d.store)
	key, err := keys.Derive(o.VaultKey, keys.PurposeVault)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := d.store.Get("vault", "device")
	if err != nil || b == nil {
		r.t.Fatalf("no vault: %v", err)
	}
	_, plain, err := envelope.Open(key, envelope.Context{
		Origin: o.Origin, Type: 0x81, Object: sha256.Sum256([]byte("vault\x00device")),
	}, envelope.Expect{}, b)
	if err != nil {
		r.t.Fatal(err)
	}
	v := decodeJSON[struct {
		UserID     []byte            `json:"user_id"`
		DeviceID   []byte            `json:"device_id"`
		DeviceSeed []byte            `json:"device_seed"`
		Directions *stolenDirections `json:"directions"`
	}](r.t, plain)
	h := &burglar{r: r, scope: keys.Scope{Origin: o.Origin, User: v.UserID}, known: map[string]stolenLogin{}}
	if h.key, err = keys.FromDevice(v.DeviceSeed, [16]byte(v.DeviceID), h.scope); err != nil {
		r.t.Fatal(err)
	}
	if _, h.sign, err = ed25519.GenerateKey(nil); err != nil {
		r.t.Fatal(err)
	}
	if v.Directions != nil {
		h.learn(v.Directions)
	}
	return h
}

func (h *burglar) learn(d *stolenDirections) {
	for _, l := range d.Stores {
		for _, secret := range [][]byte{l.Secret, l.Former} {
			if len(secret) > 0 {
				l.Secret = secret
				h.known[l.Origin+" "+string(l.UserID)+" "+string(secret)] = l
			}
		}
	}
}

// reads opens all directions that were sent home since it last did.
func (h *burglar) reads() {
	h.r.t.Helper()
	all := h.r.wires[""].requests()
	for _, e := range all[h.scanned:] {
		if !e.is("POST", "/v1/store/directions") {
			continue
		}
		if d := h.opens(decodeJSON[keyapi.Directions](h.r.t, e.sent)); d != nil {
			h.learn(d)
		}
	}
	h.scanned = len(all)
}

// opens gives directions if they were sealed to the stolen device.
func (h *burglar) opens(x keyapi.Directions) *stolenDirections {
	h.r.t.Helper()
	rest, ok := bytes.CutPrefix(x.Data, []byte("CMD1"))
	if !ok {
		h.r.t.Fatal("no directions")
	}
	n := binary.BigEndian.Uint32(rest)
	wraps, err := keys.ParseWraps(rest[4 : 4+n])
	if err != nil {
		h.r.t.Fatal(err)
	}
	key, _, err := h.key.ForDirections().Find(wraps)
	if err != nil {
		return nil
	}
	c := envelope.Context{Origin: h.scope.Origin, Type: 0x84}
	copy(c.User[:], h.scope.User)
	_, plain, err := envelope.Open(key, c, envelope.Expect{Counter: &x.Counter}, rest[4+n:])
	if err != nil {
		h.r.t.Fatal(err)
	}
	d := decodeJSON[stolenDirections](h.r.t, plain)
	return &d
}

// breaksIn reads what there is, and opens sessions with all logins that serve. Where
// it can it sets a recovery code there, to come back with.
func (h *burglar) breaksIn() (in int) {
	h.r.t.Helper()
	h.reads()
	for _, l := range h.known {
		s, ok := h.r.stores[l.Origin]
		if !ok {
			continue
		}
		auth, err := keys.StoreAuth(l.Secret, keys.Scope{Origin: l.Origin, User: l.UserID})
		if err != nil {
			h.r.t.Fatal(err)
		}
		got, err := s.Client().Login(h.r.t.Context(), keyapi.LoginRequest{
			Username: l.Username, AuthVersion: keys.AuthVersion, Auth: auth,
			Device: keyapi.Device{Name: "burglar", Key: h.sign.Public().(ed25519.PublicKey)},
		})
		var p *keyapi.Problem
		switch {
		case err == nil:
			in++
			h.live = append(h.live, stolenSession{l.Origin, got})
			h.plants(s.Client(), got, auth)
		case !errors.As(err, &p) || p.Code != keyapi.CodeUnauthorized:
			h.r.t.Fatalf("the burglar at %s: %v", l.Origin, err)
		}
	}
	return in
}

// burglarsCode is what the recovery code derives that they have set.
var burglarsCode = bytes.Repeat([]byte{0xbb}, 32)

// plants leaves the login as it is, and sets a recovery code. A store that has the
// state wants objects that are sealed to the login with it, and refuses.
func (h *burglar) plants(c *keyclient.Client, s keyapi.Session, auth []byte) {
	h.r.t.Helper()
	kdf, err := keys.NewKDF()
	if err != nil {
		h.r.t.Fatal(err)
	}
	_, err = c.ChangePassword(h.r.t.Context(), s.AccessToken, keyapi.PasswordRequest{
		OldAuth: auth, AuthVersion: keys.AuthVersion, KDF: kdf, Auth: auth, RecoveryAuth: burglarsCode,
	})
	var p *keyapi.Problem
	switch {
	case err == nil:
		h.planted++
	case !errors.As(err, &p) || p.Code != keyapi.CodeInvalid && p.Code != keyapi.CodeRateLimited:
		h.r.t.Fatalf("the burglar sets a recovery code: %v", err)
	}
}

// comesBack tries the recovery code that they may have set.
func (h *burglar) comesBack() (in []string) {
	h.r.t.Helper()
	tried := map[string]bool{}
	for _, l := range h.known {
		s, ok := h.r.stores[l.Origin]
		if who := l.Origin + " " + l.Username; !ok || tried[who] {
			continue
		} else {
			tried[who] = true
		}
		_, err := s.Client().Recover(h.r.t.Context(), keyapi.RecoverRequest{
			Username: l.Username, AuthVersion: keys.AuthVersion, RecoveryAuth: burglarsCode,
			Device: keyapi.Device{Name: "burglar", Key: h.sign.Public().(ed25519.PublicKey)},
		})
		switch {
		case err == nil:
			in = append(in, l.Origin)
		case !isUnauthorized(err):
			h.r.t.Fatalf("the burglar at %s: %v", l.Origin, err)
		}
	}
	return in
}

// isOut checks that nothing they know signs in, or recovers, and no session of theirs lives.
func (h *burglar) isOut(when string) {
	h.r.t.Helper()
	for _, s := range h.live {
		c := h.r.stores[s.origin].Client()
		if at, err := c.StorePlace(h.r.t.Context(), s.AccessToken); !isUnauthorized(err) {
			h.r.t.Errorf("%s: a session of the burglar lives at %s: %+v, %v", when, s.origin, at, err)
		}
		r := keyapi.RefreshRequest{RefreshToken: s.RefreshToken, Time: h.r.clock.now().UTC()}
		r.Signature = ed25519.Sign(h.sign, keyapi.RefreshSigningInput(s.origin, r))
		if _, err := c.Refresh(h.r.t.Context(), r); !isUnauthorized(err) {
			h.r.t.Errorf("%s: a session of the burglar is renewed at %s: %v", when, s.origin, err)
		}
	}
	h.r.clock.advance(2 * time.Hour) // failures before this are no answer
	h.live = nil
	if h.breaksIn() > 0 {
		h.r.t.Errorf("%s: the burglar signs in at %s", when, h.live[0].origin)
	}
	if in := h.comesBack(); len(in) > 0 {
		h.r.t.Errorf("%s: the burglar recovers at %v", when, in)
	}
	h.r.clock.advance(2 * time.Hour)
}

func isUnauthorized(err error) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && p.Code == keyapi.CodeUnauthorized
}

// during runs do, and meanwhile, once, before the nth request to any server that
// is of this kind is served. It tells whether there was one.
func (r *roam) during(n int64, is func(origin string, e *exchange) bool, meanwhile func(), do func() error) (met bool, err error) {
	var seen atomic.Int64
	var busy atomic.Bool
	for origin, w := range r.wires {
		w.set(func(e *exchange) bool {
			if !busy.Load() && is(origin, e) && seen.Add(1) == n {
				busy.Store(true)
				meanwhile()
				busy.Store(false)
			}
			return false
		}, nil)
	}
	err = do()
	r.wireAll(nil, nil)
	return seen.Load() >= n, err
}

// stopsAt begins a move that is left at a stage, as by a device that is killed.
func (d *device) stopsAt(stage MoveStage, to StoreTarget) {
	d.t.Helper()
	stop := errors.New("stop")
	func() {
		defer func() {
			if r := recover(); r != nil && r != stop {
				panic(r)
			}
		}()
		err := d.MoveStore(d.t.Context(), to, func(p MoveProgress) {
			if p.Stage == stage {
				panic(stop)
			}
		})
		d.t.Fatalf("the move went on: %v", err)
	}()
}

// maintains looks after the state, as the gateway does once an hour.
func (d *device) maintains() {
	d.t.Helper()
	if err := d.Maintain(d.t.Context()); err != nil {
		d.t.Fatalf("maintain: %v", err)
	}
}

// revokes drops a device, or rotates all keys; again where it has to wait for a move.
func (d *device) revokes(how, id string) error {
	if how == "rotated" {
		return d.Rotate(d.t.Context(), RotateOptions{Devices: []string{id}})
	}
	return d.RevokeDevice(d.t.Context(), id)
}

func (d *device) lists(id string) bool {
	d.t.Helper()
	for _, x := range d.listed(d.t) {
		if x.ID == id {
			return true
		}
	}
	return false
}

// knownThere checks that directions at home open for a new device and lead to the
// state.
func (r *roam) knownThere(d *device, origin string) {
	r.t.Helper()
	n := r.new(d, password)
	n.isAt(origin)
	n.Close()
}

// diesAfter makes a device die as a store has served a request with these octets.
func (r *roam) diesAfter(d *device, origin, path, octets string) {
	var dead atomic.Bool
	for at, w := range r.wires {
		w.set(func(e *exchange) bool {
			if dead.Load() {
				e.status = 0
			}
			return dead.Load()
		}, func(e *exchange) {
			if at == origin && e.is("POST", path) && bytes.Contains(e.sent, []byte(octets)) {
				dead.Store(true)
				d.Close()
				e.status = 0
			}
		})
	}
}

// counts lets all servers die after n requests, as cutOff does.
func (r *roam) counts(n int64, after bool) (made *atomic.Int64, dead *atomic.Bool) {
	made, dead = &atomic.Int64{}, &atomic.Bool{}
	r.wireAll(func(e *exchange) bool {
		if !dead.Load() && made.Add(1) > n && !after {
			dead.Store(true)
		}
		if dead.Load() {
			e.status = 0
		}
		return dead.Load()
	}, func(e *exchange) {
		if after && made.Load() == n {
			dead.Store(true)
			e.status = 0
		}
	})
	return made, dead
}
