package cloudmls

import (
	"testing"
)

// Two devices replace the login at the store at the same moment. One is held up
// between naming the next one and replacing it, until the other one has done all
// of its work: it must not put back what it had named.
func TestLoginIsReplacedByTwoDevices(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, where string // the store whose login is replaced by who is held up
		in          string // where the state is
	}{
		{"in use", storeA, storeA},
		{"left", storeA, ""},
		{"left for another one", storeA, storeB},
	} {
		for _, how := range []string{"revoked", "rotated"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				t.Parallel()
				r := newRoam(t)
				alice, bob := r.user("alice"), r.user("bob")
				tablet, phone, pad := alice.sibling(), alice.sibling(), alice.sibling()
				id := alice.ensureDialog(bob)
				bob.cleanSync()
				alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
				if c.in != storeA {
					target := StoreTarget{Origin: c.in}
					if c.in != "" {
						target.Username = "alice"
					}
					alice.moves(target)
				}
				for _, d := range []*device{tablet, phone, pad} {
					d.isAt(c.in)
				}
				first, second := deviceID(t, phone), deviceID(t, pad)
				h := r.stolen(phone)
				h.breaksIn()
				met, err := r.during(1, func(origin string, e *exchange) bool {
					return origin == c.where && e.is("POST", "/v1/auth/password")
				}, func() {
					if err := tablet.revokes(how, second); err != nil {
						t.Errorf("the faster device: %v", err)
					}
					tablet.maintains()
				}, func() error { return alice.revokes(how, first) })
				if err != nil {
					t.Errorf("the slower device: %v", err)
				}
				if !met {
					t.Fatal("they did not meet")
				}
				tablet.maintains()
				alice.maintains()
				h.isOut("in the end")
				for _, d := range []*device{alice, tablet} {
					d.crash()
					d.isAt(c.in)
				}
				r.goesOn(id, alice, tablet, bob)
				r.knownThere(alice, c.in)
				for _, to := range []string{storeA, storeB, storeA} { // what is known of each serves
					if st, err := tablet.Store(t.Context()); err != nil || st.Origin == to {
						continue
					}
					tablet.moves(StoreTarget{Origin: to, Username: "alice"})
				}
			})
		}
	}
}
