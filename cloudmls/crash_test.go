//go:build crashpoints

package cloudmls

import (
	"fmt"
	"testing"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// crashAt runs fn on a device that dies at a crash point, if it passes it, and
// starts the device again.
func (d *device) crashAt(point string, fn func()) (died bool) {
	d.t.Helper()
	type death struct{}
	crashpoint.Hook(func(name string) {
		if name == point {
			panic(death{})
		}
	})
	func() {
		defer func() {
			crashpoint.Hook(nil)
			switch r := recover().(type) {
			case nil:
			case death:
				died = true
			default:
				panic(r)
			}
		}()
		fn()
	}()
	d.crash()
	return died
}

// TestMaintainIsKilled kills a device at each crash point of Maintain. What was
// due is deleted by the next one, or by a sibling's, and nothing else is lost.
func TestMaintainIsKilled(t *testing.T) { // not parallel: the hook is the process's
	for _, point := range []string{"archive-packed", "archive-replaced", "history-due", "history-deleted"} {
		for _, sibling := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, sibling %v", point, sibling), func(t *testing.T) {
				w := newWorld(t)
				alice := w.user("alice")
				limited, kept := alice.limitedGroup(5), alice.ensureGroup(newID(t)).ID
				other := alice.sibling()
				var due, ever [][]byte
				for range packFrom + 1 {
					due, ever = append(due, alice.encrypt(limited, "due")), append(ever, alice.encrypt(kept, "for ever"))
					alice.renewKeys(limited)
					alice.renewKeys(kept)
				}
				died := false
				for range 14 {
					w.clock.advance(3 * day)
					if !died {
						died = alice.crashAt(point, func() { alice.maintain() })
					}
					next := alice
					if sibling {
						next = other
					}
					next.mustSync()
					next.maintain()
				}
				if !died {
					t.Fatal("the point was not passed")
				}
				for _, d := range []*device{alice, other} {
					d.mustSync()
					d.maintain()
					for _, m := range due {
						d.cannotRead(m, NeverDeleted)
					}
					for _, m := range ever {
						if p := d.decrypt(m); string(p.Data) != "for ever" {
							t.Fatalf("got %q", p.Data)
						}
					}
				}
				if got := alice.shelves(limited); len(got) != 1 || got[0] != "2026-04" {
					t.Errorf("archive keys of %q", got)
				}
				alice.reads(alice.encrypt(limited, "afterwards"), "afterwards", alice)
			})
		}
	}
}
