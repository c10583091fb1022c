package cloudmls

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// crashScene is a group of Alice, Bob and Carol; Alice has two devices.
type crashScene struct {
	*world
	alice, phone, bob, carol, dave *device
	id                             ConversationID
}

// TestThreat24_CrashAroundACommit: whatever opens an epoch, and wherever around
// its transaction the device dies, the device itself or a sibling goes on: the
// same call brings about what was asked for, once, and nobody is in a fork. The
// moments are those of docs/crash-points.md: handshake-reserved, commit-staged,
// group-staged and update-sealed lie before the transaction, update-accepted
// after it, update-noted, commit-merged and group-created behind the note.
func TestThreat24_CrashAroundACommit(t *testing.T) {
	t.Parallel()
	asked := func(s *crashScene) { s.carol.mustSync() }
	ops := map[string]struct {
		prepare func(*crashScene)
		do      func(*crashScene, *device) error
		want    func(*crashScene) []*device // who is in the group then
	}{
		"create": {
			func(s *crashScene) { s.id = newID(s.t) },
			func(s *crashScene, d *device) error {
				_, err := d.Ensure(s.t.Context(), d.self, Conversation{ID: s.id, Kind: KindGroup, Members: accounts(s.bob, s.dave)})
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.dave} },
		},
		"update": {
			nil,
			func(s *crashScene, d *device) error {
				m, err := d.Update(s.t.Context(), d.self, Conversation{
					ID: s.id, Kind: KindGroup, Members: accounts(s.bob, s.dave), Omitted: OmittedRemove,
				})
				if err == nil && !m.Complete {
					err = fmt.Errorf("%+v", m)
				}
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.dave} },
		},
		"let in again": {
			func(s *crashScene) {
				s.alice.splitCommit(s.id)
				s.phone.mustSync()
				s.bob.mustSync()
				asked(s)
			},
			func(s *crashScene, d *device) error {
				_, err := d.Encrypt(s.t.Context(), d.self, s.id, []byte("x"), nil)
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.carol} },
		},
		"replace": {
			nil,
			func(s *crashScene, d *device) error {
				_, err := d.Replace(s.t.Context(), d.self, s.id)
				return err
			},
			func(s *crashScene) []*device { return []*device{s.alice, s.bob, s.carol} },
		},
		"leave": {
			nil,
			func(s *crashScene, d *device) error { return d.Leave(s.t.Context(), d.self, s.id) },
			func(s *crashScene) []*device { return []*device{s.bob, s.carol} },
		},
	}
	for name, op := range ops {
		for _, moment := range []string{"before the transaction", "after it", "behind the note"} {
			for _, who := range []string{"itself", "a sibling"} {
				t.Run(name+", "+moment+", "+who, func(t *testing.T) {
					t.Parallel()
					s := newCrashScene(t)
					if op.prepare != nil {
						op.prepare(s)
					}
					s.dies(moment, func() error { return op.do(s, s.alice) })
					next := s.phone
					if who == "itself" {
						s.alice.crash()
						next = s.alice
					}
					if err := op.do(s, next); err != nil {
						t.Fatalf("gone on with: %v", err)
					}
					if who != "itself" {
						s.alice.crash()
					}
					s.mended(next, s.bob, s.carol, s.dave, s.alice)
					s.agree(op.want(s))
				})
			}
		}
	}
}

func newCrashScene(t *testing.T) *crashScene {
	t.Helper()
	w := newWorld(t)
	s := &crashScene{world: w, alice: w.user("alice"), bob: w.user("bob"), carol: w.user("carol"), dave: w.user("dave"), id: newID(t)}
	s.phone = s.alice.sibling()
	s.alice.ensureGroup(s.id, s.bob, s.carol)
	for _, d := range []*device{s.phone, s.bob, s.carol} {
		d.cleanSync()
	}
	return s
}

// dies lets Alice's device die around the first transaction of hers that has a
// Commit or a notice.
func (s *crashScene) dies(moment string, do func() error) {
	s.t.Helper()
	hers := func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") {
			return false
		}
		c := decodeJSON[keyapi.Tx](s.t, e.sent).Commit
		return c != nil && c.Sender == s.alice.self
	}
	dead := false
	s.wire.set(func(e *exchange) bool {
		if moment == "before the transaction" && hers(e) {
			dead = true
			s.alice.Close()
		}
		if dead {
			e.status = 0
		}
		return dead
	}, func(e *exchange) {
		if moment == "after it" && hers(e) {
			dead = true
			s.alice.Close()
			e.status = 0
		}
	})
	err := do()
	s.wire.set(nil, nil)
	switch {
	case moment == "behind the note":
		if err != nil {
			s.t.Fatal(err)
		}
		s.alice.Close()
	case !dead:
		s.t.Fatal("there was no transaction")
	}
}

// agree checks that these, and nobody else, are in the group, in one epoch, and
// that each reads the others.
func (s *crashScene) agree(members []*device) {
	s.t.Helper()
	for _, d := range members {
		st := d.state(s.id)
		if st.Blocked != nil || !slices.Equal(st.Members, accounts(members...)) || st.Epoch != members[0].state(s.id).Epoch || len(st.Lost)+len(st.Leaving) != 0 {
			s.t.Fatalf("%s: %+v", d.self, st)
		}
	}
	for _, from := range members {
		text := "from " + from.self.ID
		b := from.encrypt(s.id, text)
		for _, to := range members {
			to.reads(b, text, from)
		}
	}
}
