//go:build crashpoints

package cloudmls

import (
	"testing"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// TestThreat44_RotationIsKilled: at every named point a device dies, starts
// again, and Maintain finishes what it began. Not parallel: the hook is the
// process's.
func TestThreat44_RotationIsKilled(t *testing.T) {
	for _, point := range []string{
		"rotation-begun", "rotation-sessions-ended", "identity-stored", "identity-published", "identity-replaced",
		"rotation-group-done", "rotation-groups-done", "rotation-resealed",
	} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			before := alice.ownKey()
			history := alice.encrypt(id, "history")
			bob.reads(history, "history", alice)
			died := false
			func() {
				crashpoint.Hook(func(name string) {
					if name == point && !died {
						died = true
						panic(point)
					}
				})
				defer crashpoint.Hook(nil)
				defer func() {
					if r := recover(); r != nil && r != point {
						panic(r)
					}
				}()
				if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
					t.Error(err)
				}
			}()
			if !died {
				t.Fatal("the point was not passed")
			}
			alice.crash()
			if _, on, err := alice.Rotating(t.Context()); !on || err != nil {
				t.Fatalf("after the crash: under way %v, %v", on, err)
			}
			if err := alice.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			alice.isRotated(before)
			bob.cleanSync()
			bob.reads(alice.encrypt(id, "after"), "after", alice)
			alice.reads(bob.encrypt(id, "an answer"), "an answer", bob)
			alice.decrypt(history)
		})
	}
}
