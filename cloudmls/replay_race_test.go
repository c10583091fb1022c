package cloudmls

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestFlaw05_ReplaysAtTheSameTime: of two messages at one place that are opened
// at once, one is the first.
func TestFlaw05_ReplaysAtTheSameTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	for i := range 100 {
		at := uint32(40 + i)
		pair := [][]byte{
			alice.sealAt(id, fmt.Sprintf("pay 10 for %d", i), at, at, nil),
			alice.sealAt(id, fmt.Sprintf("pay 99 for %d", i), at, at, nil),
		}
		var wg sync.WaitGroup
		var verified [2]bool
		var failed [2]error
		start := make(chan struct{})
		for j, m := range pair {
			wg.Go(func() {
				<-start
				p, err := bob.DecryptDeferred(context.Background(), bob.self, m)
				if failed[j] = err; err == nil {
					verified[j] = p.Verified
				}
			})
		}
		close(start)
		wg.Wait()
		if failed[0] != nil || failed[1] != nil {
			t.Fatal(failed)
		}
		if verified[0] == verified[1] {
			t.Errorf("pair %d: verified %v, want one of them", i, verified)
		}
	}
}
