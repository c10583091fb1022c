package mls

import (
	"fmt"
	"testing"
)

// BenchmarkAddAll adds all members of a group by one Commit, and lets the last
// one join.
func BenchmarkAddAll(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var add []*KeyPackage
			var last *KeyPackageSecrets
			for i := range n {
				var kp *KeyPackage
				kp, last = newKeyPackage(b, fmt.Sprintf("member %d", i+1))
				add = append(add, kp)
			}
			for b.Loop() {
				g := newGroup(b, "creator")
				p, err := g.Commit(CommitOptions{Add: add, Now: testNow})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := JoinWelcome(p.Welcome, JoinOptions{Secrets: last, Validate: acceptNamed}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCommit lets a member of a group without blank nodes refresh its
// keys, and another one follow.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{2, 32, 256} {
		w := newWorld(b, n, min(n, 8))
		g, h := w.members[0], w.members[n-1]
		b.Run(fmt.Sprintf("create/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := g.Commit(CommitOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		p, err := g.Commit(CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("process/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := h.Process(p.Commit, testNow); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkArchive opens and seals messages from an archive record.
func BenchmarkArchive(b *testing.B) {
	w := newWorld(b, 32, 0)
	r := w.records()[0]
	sig := w.members[0].SignatureKey()
	text := make([]byte, 4096)
	for _, n := range []uint32{0, 200, MaxGeneration - 1} {
		m, err := r.Seal(text, sig, ProtectOptions{Generation: &n})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("open/generation %d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Open(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
