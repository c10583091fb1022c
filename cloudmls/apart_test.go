package cloudmls

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// apart is a world whose sign-in, deliveries and sealed objects are at three
// servers. The wire of the world is that of the delivery server.
type apart struct {
	*world
	delivery, store *keyservertest.Server
	storeWire       *wire
	authWire        *wire
}

func newApart(t *testing.T) *apart {
	t.Helper()
	return newApartWith(t, keyserver.Options{})
}

// newApartWith has a delivery server with options.
func newApartWith(t *testing.T, delivery keyserver.Options) *apart {
	t.Helper()
	w := &world{t: t, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, wire: &wire{}}
	a := &apart{world: w, storeWire: &wire{}, authWire: &wire{}}
	start := func(wire *wire, o keyserver.Options) *keyservertest.Server {
		o.Now = w.clock.now
		return keyservertest.NewServer(t, keyservertest.Options{Server: o, Wrap: wire.wrap})
	}
	w.ks = start(a.authWire, keyserver.Options{Roles: []keyserver.Role{keyserver.RoleAuth}})
	remote := func() *keyserver.RemoteAuth { return &keyserver.RemoteAuth{URL: w.ks.URL, Origin: w.ks.Origin} }
	delivery.Roles, delivery.Auth, delivery.Origin = []keyserver.Role{keyserver.RoleDelivery}, remote(), "https://delivery.test.example"
	a.delivery = start(w.wire, delivery)
	a.store = start(a.storeWire, keyserver.Options{Roles: []keyserver.Role{keyserver.RoleStore}, Auth: remote(), Origin: "https://store.test.example"})
	w.dial = func() Server {
		c, err := keyclient.New(keyclient.Options{URL: w.ks.URL, DeliveryURL: a.delivery.URL, StoreURL: a.store.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	return a
}

// commits lists the Commits that the delivery server was sent, by their tokens.
func (a *apart) commits() (all [][]byte) {
	for _, e := range a.wire.requests() {
		if !e.is("POST", "/v1/tx") {
			continue
		}
		if c := decodeJSON[keyapi.Tx](a.t, e.sent).Commit; c != nil && len(c.Notice) == 0 && !slices.ContainsFunc(all, func(h []byte) bool { return string(h) == string(c.TokenHash) }) {
			all = append(all, c.TokenHash)
		}
	}
	return all
}

// nothingStaged checks that a device knows of no Commit that is under way.
func (d *device) nothingStaged() {
	d.t.Helper()
	index, err := d.reader(d.t.Context(), d.self).stagedIndex()
	if err != nil || len(index.Staged) != 0 {
		d.t.Fatalf("%s: staged: %v, %v", d.self, index, err)
	}
}

// The three roles at three servers serve dialogs, groups, second devices,
// leaving and replacing.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob, carol := a.user("alice"), a.user("bob"), a.user("carol")
	phone := alice.sibling()
	dialog := alice.ensureDialog(bob)
	id := newID(t)
	alice.ensureGroup(id, bob, carol)
	for _, d := range []*device{phone, bob, carol} {
		d.cleanSync()
	}
	for _, from := range []*device{alice, phone, bob} {
		b := from.encrypt(dialog, "in the dialog")
		for _, to := range []*device{alice, phone, bob} {
			to.reads(b, "in the dialog", from)
		}
	}
	for _, d := range []*device{phone, bob, alice} {
		d.renewKeys(id)
		for _, o := range []*device{alice, phone, bob, carol} {
			o.cleanSync()
			o.reads(d.encrypt(id, "renewed"), "renewed", d)
		}
	}
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	bob.mustSync()
	bob.renewKeys(id)
	for _, d := range []*device{carol, alice, phone} {
		d.mustSync()
	}
	if st := alice.state(id); !slices.Equal(st.Members, accounts(alice, bob)) {
		t.Fatalf("%+v", st)
	}
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	bob.cleanSync()
	phone.cleanSync()
	phone.reads(bob.encrypt(id, "in the next group"), "in the next group", bob)
	if _, err := alice.Ensure(t.Context(), alice.self, Conversation{Kind: KindSelf}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, phone, bob, carol} {
		d.nothingStaged()
	}
}

// TestThreat24_CrashAroundACommitApart: where the Commit cannot be in one
// transaction with the state, it is stored first, and whichever device comes next
// submits the identical octets until they are accepted or beaten. The moments are
// those of docs/crash-points.md: before commit-stored, commit-stored, and
// commit-accepted.
func TestThreat24_CrashAroundACommitApart(t *testing.T) {
	t.Parallel()
	ops := map[string]struct {
		do   func(*crashScene, *device) error
		want func(*crashScene) []*device
	}{
		"create": {
			func(s *crashScene, d *device) error {
				_, err := d.Ensure(s.t.Context(), d.self, Conversation{ID: s.id, Kind: KindGroup, Members: accounts(s.bob, s.dave)})
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.dave} },
		},
		"update": {
			func(s *crashScene, d *device) error {
				_, err := d.Update(s.t.Context(), d.self, Conversation{ID: s.id, Kind: KindGroup, Members: accounts(s.bob, s.dave), Omitted: OmittedRemove})
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.dave} },
		},
		"replace": {
			func(s *crashScene, d *device) error {
				_, err := d.Replace(s.t.Context(), d.self, s.id)
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.carol} },
		},
		"leave": {
			func(s *crashScene, d *device) error { return d.Leave(s.t.Context(), d.self, s.id) },
			func(s *crashScene) []*device { return []*device{s.bob, s.carol} },
		},
	}
	for name, op := range ops {
		for _, moment := range []string{"before the transaction", "after it"} { // at the delivery server
			for _, next := range []string{"itself", "a sibling, by Sync", "a sibling, a day later"} {
				t.Run(name+", "+moment+", "+next, func(t *testing.T) {
					t.Parallel()
					a := newApart(t)
					s := &crashScene{world: a.world, alice: a.user("alice"), bob: a.user("bob"), carol: a.user("carol"), dave: a.user("dave"), id: newID(t)}
					s.phone = s.alice.sibling()
					s.alice.ensureGroup(s.id, s.bob, s.carol)
					for _, d := range []*device{s.phone, s.bob, s.carol} {
						d.cleanSync()
					}
					if name == "create" {
						s.id = newID(t)
					}
					a.wire.reset()
					s.dies(moment, func() error { return op.do(s, s.alice) })
					staged := a.commits()
					who := s.phone
					switch next {
					case "itself":
						s.alice.crash()
						who = s.alice
					case "a sibling, a day later":
						a.clock.advance(25 * time.Hour) // identical octets are remembered for a day
					}
					if next == "a sibling, by Sync" {
						who.mustSync()
						who.nothingStaged()
						if got := a.commits(); name != "leave" && len(got) != 1 {
							t.Fatalf("%d Commits for one epoch, %d before the crash", len(got), len(staged))
						}
					}
					if err := op.do(s, who); err != nil {
						t.Fatalf("gone on with: %v", err)
					}
					if who != s.alice {
						s.alice.crash()
					}
					s.mended(who, s.bob, s.carol, s.dave, s.alice)
					s.agree(op.want(s))
					for _, d := range []*device{s.alice, s.phone} {
						d.mustSync()
						d.nothingStaged()
					}
				})
			}
		}
	}
}

// TestThreat25_StagedCommitIsBeaten: another member's Commit takes the epoch
// while one is stored and not submitted. It is dropped, the winner followed, and
// what was wanted is done in the next epoch.
func TestThreat25_StagedCommitIsBeaten(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"itself", "a sibling"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			s := &crashScene{world: a.world, alice: a.user("alice"), bob: a.user("bob"), carol: a.user("carol"), dave: a.user("dave"), id: newID(t)}
			s.phone = s.alice.sibling()
			s.alice.ensureGroup(s.id, s.bob, s.carol)
			for _, d := range []*device{s.phone, s.bob, s.carol} {
				d.cleanSync()
			}
			do := func(d *device) error {
				_, err := d.Update(t.Context(), d.self, Conversation{ID: s.id, Kind: KindGroup, Members: accounts(s.bob, s.dave), Omitted: OmittedRemove})
				return err
			}
			s.dies("before the transaction", func() error { return do(s.alice) })
			s.bob.renewKeys(s.id)
			s.alice.crash()
			who := s.alice
			if next == "a sibling" {
				who = s.phone
			}
			text := s.bob.encrypt(s.id, "the winner's")
			who.mustSync()
			who.nothingStaged()
			who.reads(text, "the winner's", s.bob)
			if err := do(who); err != nil {
				t.Fatal(err)
			}
			s.mended(who, s.bob, s.carol, s.dave, s.alice, s.phone)
			s.agree([]*device{s.alice, s.bob, s.dave})
		})
	}
}

// Both devices want a Commit at the same moment: one is stored, and no two are
// ever submitted for an epoch by one account.
func TestThreat25_TwoDevicesStage(t *testing.T) {
	t.Parallel()
	a := newApart(t)
	alice, bob := a.user("alice"), a.user("bob")
	phone := alice.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob)
	phone.cleanSync()
	bob.cleanSync()
	done := make(chan error)
	for _, d := range []*device{alice, phone, bob} {
		go func() {
			var err error
			for range 3 {
				if err == nil {
					_, err = d.commit(t.Context(), d.self, id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
				}
			}
			done <- err
		}()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	byEpoch := map[uint64][][]byte{}
	for _, e := range a.wire.requests() {
		if e.is("POST", "/v1/tx") {
			if c := decodeJSON[keyapi.Tx](t, e.sent).Commit; c != nil && c.Sender == alice.self && !c.Create {
				if !slices.ContainsFunc(byEpoch[c.Epoch], func(b []byte) bool { return string(b) == string(c.Commit) }) {
					byEpoch[c.Epoch] = append(byEpoch[c.Epoch], c.Commit)
				}
			}
		}
	}
	for epoch, list := range byEpoch {
		if len(list) > 1 {
			t.Errorf("epoch %d: %d different Commits of one account", epoch, len(list))
		}
	}
	for _, d := range []*device{alice, phone, bob} {
		d.cleanSync()
	}
	for _, from := range []*device{alice, phone, bob} {
		b := from.encrypt(id, "agreed")
		for _, to := range []*device{alice, phone, bob} {
			to.reads(b, "agreed", from)
		}
		from.nothingStaged()
	}
}

// TestThreat25_BeatenCommitStaysUntilFollowed: the delivery server says that
// another Commit was faster. Until that one is in the state, the user's devices make
// no second one for the epoch: a server that lies would have two of one leaf to show
// to different people.
func TestThreat25_BeatenCommitStaysUntilFollowed(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"true", "of something else", "without the winner"} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			s := &crashScene{world: a.world, alice: a.user("alice"), bob: a.user("bob"), id: newID(t)}
			s.phone = s.alice.sibling()
			s.alice.ensureGroup(s.id, s.bob)
			for _, d := range []*device{s.phone, s.bob} {
				d.cleanSync()
			}
			a.wire.reset()
			s.dies("before the transaction", func() error { return s.alice.commitFresh(s.id) })
			s.alice.crash()
			winner := &keyapi.Delivery{}
			if word == "true" {
				s.bob.renewKeys(s.id)
			} else {
				if word == "without the winner" {
					winner = nil
				}
				answer := encodeJSON(t, &keyapi.Problem{Status: 409, Code: keyapi.CodeEpochConflict, Winner: winner})
				a.wire.set(nil, func(e *exchange) {
					if e.is("POST", "/v1/tx") && decodeJSON[keyapi.Tx](t, e.sent).Commit != nil {
						e.status, e.answered, e.header = 409, answer, "application/problem+json"
					}
				})
			}
			var moved *movedError
			if _, err := s.alice.settle(t.Context(), s.alice.self, s.id); !errors.As(err, &moved) || !moved.taken {
				t.Fatalf("a Commit that was beaten: %v", err)
			}
			err := s.phone.commitFresh(s.id)
			if word == "true" && err != nil {
				t.Fatal(err)
			}
			byEpoch := map[uint64][]byte{}
			for _, e := range a.wire.requests() {
				if !e.is("POST", "/v1/tx") {
					continue
				}
				c := decodeJSON[keyapi.Tx](t, e.sent).Commit
				if c == nil || c.Sender != s.alice.self || len(c.Commit) == 0 {
					continue
				}
				if had, ok := byEpoch[c.Epoch]; ok && string(had) != string(c.Commit) {
					t.Fatalf("two Commits of one account for epoch %d", c.Epoch)
				}
				byEpoch[c.Epoch] = c.Commit
			}
			if word == "true" {
				for _, d := range []*device{s.alice, s.phone, s.bob} {
					d.mustSync()
					d.nothingStaged()
				}
				s.agree([]*device{s.alice, s.bob})
			}
		})
	}
}

// commitFresh opens an epoch with fresh keys of the own leaf.
func (d *device) commitFresh(id ConversationID) error {
	_, err := d.commit(d.t.Context(), d.self, id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
	return err
}

// TestThreat07_RecoverApart: the recovery code where sign-in and sealed objects are
// two servers'. Wherever it is cut off, the code serves still, or the new password
// signs in and opens everything; no device of the user is needed for either.
func TestThreat07_RecoverApart(t *testing.T) {
	t.Parallel()
	const next = "another horse, another battery"
	for _, moment := range []string{"", "before", "answer lost once", "answer lost", "after"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			alice, bob := a.user("alice"), a.user("bob")
			code, err := alice.ReplaceRecoveryCode(t.Context(), password)
			if err != nil {
				t.Fatal(err)
			}
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			message := bob.encrypt(id, "read after recovery")
			alice.Close()
			lost, dead := 0, false
			is := func(e *exchange) bool { return e.is("POST", "/v1/auth/password") }
			a.authWire.set(func(e *exchange) bool {
				dead = dead || moment == "before" && is(e)
				if dead {
					e.status = 0
				}
				return dead
			}, func(e *exchange) {
				if is(e) && (moment == "answer lost" || moment == "answer lost once" && lost == 0) {
					lost++
					dead = moment == "answer lost"
					e.status = 0
				}
			})
			a.storeWire.set(func(e *exchange) bool { // after: the state is not changed any more
				if cut := dead || moment == "after" && e.is("POST", "/v1/tx"); cut {
					e.status = 0
					return true
				}
				return false
			}, nil)
			phone := &device{w: a.world, t: t, username: alice.username, self: alice.self, store: NewMemoryStore()}
			c, second, err := Recover(t.Context(), alice.username, code.Code, next, a.options(phone.store))
			a.authWire.set(nil, nil)
			a.storeWire.set(nil, nil)
			done := moment == "" || moment == "answer lost once"
			if done != (err == nil) {
				t.Fatal(err)
			}
			if moment == "before" {
				if _, err := Open(t.Context(), alice.username, next, a.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
					t.Fatalf("the new password before it is one: %v", err)
				}
				if c, second, err = Recover(t.Context(), alice.username, code.Code, next, a.options(phone.store)); err != nil {
					t.Fatalf("the code again: %v", err)
				}
				done = true
			}
			if done {
				if second == nil || second.Code == code.Code {
					t.Fatalf("the code that replaces it: %v", second)
				}
				phone.Client = c
				phone.hasNoRootIn(t, phone.place(t))
				phone.reads(message, "read after recovery", bob)
				bob.reads(phone.encrypt(id, "here again"), "here again", phone)
			}
			if _, _, err := Recover(t.Context(), alice.username, code.Code, "a third one", a.options(NewMemoryStore())); !errors.Is(err, ErrRecovery) {
				t.Errorf("a code that was used: %v", err)
			}
			if _, err := Open(t.Context(), alice.username, password, a.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
				t.Errorf("the old password: %v", err)
			}
			for range 2 { // the second one has the wraps alone
				tablet := &device{w: a.world, t: t, username: alice.username, self: alice.self, store: NewMemoryStore()}
				if tablet.Client, err = Open(t.Context(), alice.username, next, a.options(tablet.store)); err != nil {
					t.Fatalf("the new password: %v", err)
				}
				tablet.reads(message, "read after recovery", bob)
				tablet.hasNoRootIn(t, tablet.place(t))
				tablet.Close()
			}
		})
	}
}

// hasNoRootIn checks that directions have wraps for password, recovery code and
// devices, say that there is nothing to say, and have no room for anything else: ROOT
// takes 80 octets more, and whom it would be there for two thousand each.
func (d *device) hasNoRootIn(t *testing.T, directions []byte) {
	t.Helper()
	const wrap, nothing = 1393, 300
	if room := wrap*(2+len(d.listed(t))) + nothing; len(directions) > room || len(directions) < wrap {
		t.Errorf("directions of %d octets, want at most %d: something in place of wraps is left", len(directions), room)
	}
}

// place gives the directions that lie at the home store.
func (d *device) place(t *testing.T) []byte {
	t.Helper()
	var at keyapi.StorePlace
	err := d.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) (err error) {
		at, err = d.o.Server.(StoreServer).StorePlace(ctx, token)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if at.Directions == nil {
		return nil
	}
	return at.Directions.Data
}

// TestPasswordChangeApart: sign-in and sealed objects at two servers. Wherever the change is
// cut off, the password that signs in opens the state, and the change can be made
// again.
func TestPasswordChangeApart(t *testing.T) {
	t.Parallel()
	const next = "another horse, another battery"
	for _, moment := range []string{"", "not sent", "answer lost once", "answer lost"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			a := newApart(t)
			alice := a.user("alice")
			lost := 0
			is := func(e *exchange) bool { return moment != "" && e.is("POST", "/v1/auth/password") }
			a.authWire.set(func(e *exchange) bool { return is(e) && moment == "not sent" }, func(e *exchange) {
				if is(e) && (lost == 0 || moment == "answer lost") {
					lost++
					e.status = 0
					if moment == "answer lost" {
						alice.Close()
					}
				}
			})
			err := alice.ChangePassword(t.Context(), password, next)
			a.authWire.set(nil, nil)
			if done := moment == "" || moment == "answer lost once"; done != (err == nil) {
				t.Fatal(err)
			}
			good, bad := next, password
			if moment == "not sent" {
				good, bad = bad, good
			}
			open := func(p string) error {
				c, err := Open(t.Context(), alice.username, p, a.options(NewMemoryStore()))
				if err == nil {
					defer c.Close()
					_, err = c.Sync(t.Context(), alice.self)
				}
				return err
			}
			if err := open(good); err != nil {
				t.Fatalf("the password that signs in: %v", err)
			}
			if err := open(bad); !errors.Is(err, ErrCredentials) {
				t.Fatalf("the other one: %v", err)
			}
			alice.crash()
			if moment == "answer lost" { // this device has not heard of the new parameters
				alice.Close()
				if alice.Client, err = Open(t.Context(), alice.username, good, a.options(alice.store)); err != nil {
					t.Fatal(err)
				}
			}
			if err := alice.ChangePassword(t.Context(), good, "a third one, to go on with"); err != nil {
				t.Fatal(err)
			}
			if err := open("a third one, to go on with"); err != nil {
				t.Fatal(err)
			}
			if code, err := alice.ReplaceRecoveryCode(t.Context(), "a third one, to go on with"); err != nil || code == nil || code.Code == "" {
				t.Fatalf("recovery code: %v", err)
			}
		})
	}
}
