package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestGroupLife(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 8, 13} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w := newWorld(t, n, n)
			for i, g := range w.members {
				m := wire(t, must[*Message](t)(g.Protect(fmt.Appendf(nil, "from %d", i), ProtectOptions{AuthenticatedData: []byte("aad")})))
				for j, h := range w.members {
					if i == j {
						continue
					}
					r := must[Received](t)(h.Process(m, testNow))
					app := r.(*Application)
					if string(app.Plaintext) != fmt.Sprintf("from %d", i) || string(app.AuthenticatedData) != "aad" || app.Sender != g.OwnLeaf() {
						t.Fatalf("member %d got %+v", j, app)
					}
					if _, err := h.Process(m, testNow); !errors.Is(err, ErrReplayed) {
						t.Fatalf("replay: got %v, want %v", err, ErrReplayed)
					}
				}
			}
		})
	}
}

// TestRandomEvolution lets a group change at random: everybody must always
// agree, and joiners must find a valid tree.
func TestRandomEvolution(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, 4, 0)
			for range 40 {
				i := rnd.IntN(len(w.members))
				o := CommitOptions{WithoutPath: rnd.IntN(3) == 0}
				switch k := rnd.IntN(10); {
				case k < 4 && len(w.members) < 24:
					w.add(i, 1+rnd.IntN(3))
					continue
				case k < 6:
					for range rnd.IntN(3) {
						victim := w.members[rnd.IntN(len(w.members))].OwnLeaf()
						if victim != w.members[i].OwnLeaf() && !bytes.Contains(fmt.Append(nil, o.Remove), fmt.Append(nil, uint32(victim))) {
							o.Remove = append(o.Remove, victim)
						}
					}
				case k < 8:
					w.propose(rnd.IntN(len(w.members)))
				}
				w.commit(i, o)
			}
		})
	}
}

// propose lets member i propose an update of its leaf.
func (w *world) propose(i int) {
	w.t.Helper()
	m := wire(w.t, must[*Message](w.t)(w.members[i].ProposeUpdate(UpdateOptions{})))
	for j, g := range w.members {
		if j != i {
			if _, err := g.Process(m, testNow); err != nil {
				w.t.Fatalf("member %d processes proposal of member %d: %v", j, i, err)
			}
		}
	}
}
