package mls

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// each does what a loop does, however many goroutines there are.
func TestEachFailsAsALoop(t *testing.T) {
	errAt := make([]error, 500)
	for i := range errAt {
		errAt[i] = fmt.Errorf("error of %d", i)
	}
	for _, w := range []workers{-1, 0, 1, 2, 3, 16, 1000} {
		for _, bad := range [][]int{nil, {0}, {499}, {3, 4, 400}, {250, 251, 252, 253}} {
			calls := make([]atomic.Int32, len(errAt))
			err := w.each(len(errAt), func(i int) error {
				calls[i].Add(1)
				if slices.Contains(bad, i) {
					if i == bad[0] {
						time.Sleep(time.Millisecond) // lets the later ones fail first
					}
					return errAt[i]
				}
				return nil
			})
			end := len(errAt)
			if bad != nil {
				end = bad[0] + 1
			}
			if bad == nil && err != nil || bad != nil && err != errAt[bad[0]] {
				t.Errorf("%d workers, %v fail: got %v", w, bad, err)
			}
			for i := range calls {
				n := calls[i].Load()
				if i < end && n != 1 || n > 1 || w < 2 && i >= end && n != 0 {
					t.Errorf("%d workers, %v fail: %d was called %d times", w, bad, i, n)
				}
			}
		}
	}
	for _, w := range []workers{0, 4} {
		if err := w.each(0, func(int) error { return errAt[0] }); err != nil {
			t.Errorf("nothing to do: %v", err)
		}
	}
}

// Of two failures the lower one counts too if the other one comes last, and
// after one not everything else is done.
func TestEachStopsAtAFailure(t *testing.T) {
	first := errors.New("first")
	var started sync.WaitGroup
	started.Add(2)
	err := workers(2).each(2, func(i int) error {
		started.Done()
		started.Wait() // both run
		if i == 0 {
			return first
		}
		time.Sleep(5 * time.Millisecond)
		return errors.New("second")
	})
	if err != first {
		t.Errorf("got %v", err)
	}
	var calls atomic.Int32
	const n = 1000
	err = workers(2).each(n, func(i int) error {
		calls.Add(1)
		if i == 0 {
			return first
		}
		time.Sleep(100 * time.Microsecond)
		return nil
	})
	if err != first || calls.Load() == n {
		t.Errorf("got %v after %d calls of %d", err, calls.Load(), n)
	}
}

// A panic can be recovered by the caller, as if there were no goroutines.
func TestEachPanicsInTheCaller(t *testing.T) {
	for _, w := range []workers{1, 4} {
		func() {
			defer func() {
				if v := recover(); v != "seven" {
					t.Errorf("%d workers: recovered %v", w, v)
				}
			}()
			_ = w.each(100, func(i int) error {
				if i == 7 {
					panic("seven")
				}
				return nil
			})
			t.Errorf("%d workers: no panic", w)
		}()
	}
}

// Goroutines are started in parallel.go alone.
func TestGoroutinesAreInOneFile(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == "interop" { // tests alone
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || path == "parallel.go" {
			return nil
		}
		files++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			_, started := n.(*ast.GoStmt)
			if s, ok := n.(*ast.SelectorExpr); started || ok && s.Sel.Name == "Go" { // of sync.WaitGroup
				t.Errorf("%s starts a goroutine", path)
			}
			return true
		})
		return nil
	})
	noError(t, err)
	if files < 50 {
		t.Errorf("only %d files were looked at", files)
	}
}

// crowd is a group of more members than one goroutine hashes together, and a
// Welcome to it, made on several goroutines.
func crowd(t *testing.T) (w *world, packages []*KeyPackage, secrets []*KeyPackageSecrets, welcome *Message) {
	t.Helper()
	w = &world{t: t, members: []*Group{newGroup(t, "member 0")}}
	for i := range 3*hashedTogether - 1 {
		kp, s := newKeyPackage(t, fmt.Sprintf("member %d", i+1))
		packages, secrets = append(packages, kp), append(secrets, s)
	}
	p := w.commit(0, CommitOptions{Add: packages, Parallel: 4})
	return w, packages, secrets, wire(t, p.Welcome)
}

// What was made on several goroutines is what all others accept, and joining
// on several gives the same group.
func TestParallelMakesTheSameGroup(t *testing.T) {
	w, _, secrets, welcome := crowd(t)
	w.join(welcome, secrets[len(secrets)-1])
	for i := range secrets {
		o := JoinOptions{Secrets: secrets[i], Validate: acceptNamed, Parallel: 3}
		if i%40 != 0 {
			continue
		}
		parallel := must[*Group](t)(JoinWelcome(welcome, o))
		o.Parallel = 0
		serial := must[*Group](t)(JoinWelcome(welcome, o))
		if !bytes.Equal(must[[]byte](t)(parallel.MarshalBinary()), must[[]byte](t)(serial.MarshalBinary())) {
			t.Errorf("member %d joined another group", i+1)
		}
		for n := range parallel.tree.width() {
			if hash := parallel.tree.nodes.at(int(n)).hash; hash == nil || !bytes.Equal(hash, serial.tree.nodes.at(int(n)).hash) {
				t.Errorf("member %d has another hash of node %d", i+1, n)
			}
		}
	}
	w.agree()
	// Commits to many, received by one who does nothing in parallel.
	w.commit(0, CommitOptions{Parallel: 4})
	w.commit(0, CommitOptions{Parallel: 4, Remove: []LeafIndex{5}})

	info := wire(t, must[*Message](t)(w.members[0].GroupInfo()))
	for _, n := range []int{0, 4} {
		j, err := JoinExternal(ExternalJoinOptions{
			GroupInfo: info, Credential: NewBasicCredential([]byte("outsider")), SignatureKey: newKey(t), Validate: acceptNamed, Parallel: n,
		})
		noError(t, err)
		g := w.members[0].Clone()
		g.SetExternalCommits(true)
		r := must[Received](t)(g.Process(wire(t, j.Commit), testNow)).(*ReceivedCommit)
		noError(t, g.Merge(r.Staged))
		if !bytes.Equal(g.EpochAuthenticator(), j.Group.EpochAuthenticator()) {
			t.Errorf("external commit on %d goroutines leads elsewhere", n)
		}
	}
}

// Errors are those of the lowest leaf, whatever comes later and whichever
// rule it breaks.
func TestParallelErrorsAreTheSame(t *testing.T) {
	w, packages, _, _ := crowd(t)
	g := w.members[0]
	forge := func(l *leafNode) { l.signature = flip(l.signature) }
	otherSuite := func(l *leafNode) { l.capabilities.CipherSuites = []CipherSuite{2} }
	badKey := func(l *leafNode) { l.encryptionKey = lowOrderKey }
	for name, c := range map[string]struct {
		want    string
		changes map[int]func(*leafNode)
	}{
		"forged":                    {"leaf node signature", map[int]func(*leafNode){150: forge}},
		"forged, then a bad key":    {"leaf node signature", map[int]func(*leafNode){70: forge, 71: badKey, 160: badKey}},
		"bad key, then forged":      {"encryption_key is no key", map[int]func(*leafNode){70: badKey, 71: forge}},
		"capabilities, then forged": {"leaf node signature", map[int]func(*leafNode){33: otherSuite, 34: forge}}, // they are signed
	} {
		t.Run(name, func(t *testing.T) {
			var errs []string
			for _, n := range []workers{1, 4} {
				tree := must[*ratchetTree](t)(parseRatchetTree(encode(g.tree)))
				for at, change := range c.changes {
					leaf := *tree.leaf(LeafIndex(at))
					change(&leaf)
					tree.setLeaf(LeafIndex(at), &leaf)
				}
				err := tree.verifyJoined(g.suite, &g.context, n)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%d workers: got %v, want %q", n, err, c.want)
				}
				errs = append(errs, err.Error())
			}
			if errs[0] != errs[1] {
				t.Errorf("serial: %s, parallel: %s", errs[0], errs[1])
			}
		})
	}
	forgePackage := func(kp *KeyPackage) { kp.signature = flip(kp.signature) }
	badInit := func(kp *KeyPackage) { kp.initKey = lowOrderKey }
	unnamed := func(kp *KeyPackage) { k, _ := newKeyPackage(t, ""); *kp = *k }
	for name, c := range map[string]struct {
		want    string
		changes map[int]func(*KeyPackage)
	}{
		"key package forged, then a bad key": {"key package signature", map[int]func(*KeyPackage){100: forgePackage, 101: badInit, 170: badInit}},
		"bad key, then forged":               {"init_key is no key", map[int]func(*KeyPackage){100: badInit, 101: forgePackage}},
		"credential, then forged":            {"no identity", map[int]func(*KeyPackage){99: unnamed, 100: forgePackage}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{0, 4} {
				o := CommitOptions{Now: testNow, Parallel: n}
				for i, kp := range packages {
					if change := c.changes[i]; change != nil {
						bad := *kp
						change(&bad)
						kp = &bad
					}
					o.Add = append(o.Add, kp)
				}
				if _, err := newGroup(t, "another").Commit(o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%d goroutines: got %v, want %q", n, err, c.want)
				}
			}
		})
	}
}
