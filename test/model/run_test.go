//go:build crashpoints && weakkdf

// Package model runs the SDK against a model of what it promises: users with
// several devices, one key server, random operations, and everything that goes
// wrong between them. Whatever happened, once the trouble is over all devices
// agree, everybody reads what was said to them and nobody else does.
package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// bench is what all runs of a process share.
type bench struct {
	t    *testing.T
	dir  string
	tmpl *template
	runs int // those that make a failure smaller among them
	// counts of what happened, so that a test of nothing is noticed.
	counts      map[string]int
	failed      []uint64 // seeds
	torn        int      // runs that ended before their key server was closed
	began, told time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: folder(t), counts: map[string]int{}, began: time.Now(), told: time.Now()}
	b.tmpl = makeTemplate(t, b.dir)
	return b
}

// run lets a history happen. The error is what should not be, the string what
// happened.
func (b *bench) run(h history) (err error, log string) {
	var w *world
	path := filepath.Join(b.dir, fmt.Sprintf("run%d.db", b.torn)) // nobody has it open
	b.bubble(&err, func() {
		var end func() error
		if w, end, err = b.tmpl.world(path, h.Users, h.Devices); err != nil {
			return
		}
		w.forget, w.json = h.Forget, h.JSON || h.Lies
		if h.Lies {
			if w.liar, err = newLiar(w); err != nil {
				err = errors.Join(err, end())
				return
			}
		}
		crashpoint.Hook(w.point)
		defer crashpoint.Hook(nil)
		crashpoint.Watch(w.usedOnce)
		defer crashpoint.Watch(nil)
		for n := range h.Steps {
			w.perform(&h.Steps[n])
			if w.broken != nil {
				break
			}
		}
		if w.broken == nil {
			w.settle()
		}
		if w.liar != nil {
			err = w.liar.close()
		}
		if err = errors.Join(err, end()); err == nil {
			err = w.broken
		}
	})
	if w != nil {
		log = w.log.String()
		for k, n := range w.counts {
			b.counts[k] += n
		}
	}
	b.runs++
	return err, log
}

// bubble runs play where waiting for another try takes no time. A panic, and
// operations that wait for one another for ever, are failures of one history and not
// the end of all.
func (b *bench) bubble(err *error, play func()) {
	torn := func(v any) {
		b.torn++
		*err = fmt.Errorf("%v\n%s", v, stacks())
	}
	defer func() {
		if v := recover(); v != nil && *err == nil {
			torn(v)
		}
	}()
	synctest.Test(b.t, func(*testing.T) {
		defer func() {
			if v := recover(); v != nil {
				torn(v)
			}
		}()
		play()
	})
}

// stacks are those of all goroutines, cut where there are too many.
func stacks() []byte {
	b := make([]byte, 1<<20)
	return b[:runtime.Stack(b, true)]
}

const (
	// shrinkTries bounds how often a failure is run again to make it smaller, and
	// maxShrunk how many are.
	shrinkTries = 150
	maxShrunk   = 8
)

// TestModel runs MODEL_RUNS random histories, of the seeds from MODEL_SEED on. One
// that fails does not keep the others from being played.
func TestModel(t *testing.T) {
	newBench(t).play(random, number(t, "MODEL_SEED", rand.Uint64()), number(t, "MODEL_RUNS", 100))
}

// TestLyingModel is TestModel with a key server that lies, MODEL_LIES histories.
func TestLyingModel(t *testing.T) {
	newBench(t).play(lyingHistory, number(t, "MODEL_LIES_SEED", number(t, "MODEL_SEED", rand.Uint64())), number(t, "MODEL_LIES", 100))
}

// play runs the histories of so many seeds.
func (b *bench) play(random func(seed uint64) history, seed, runs uint64) {
	t := b.t
	debug.SetGCPercent(400) // each history leaves much behind
	for n := range runs {
		b.tell(seed, n, runs)
		h := random(seed + n)
		err, log := b.run(h)
		if err == nil {
			continue
		}
		failed, cut, now := seed+n, h, err
		if b.failed = append(b.failed, failed); len(b.failed) <= maxShrunk {
			cut = shrink(h, shrinkTries, func(h history) bool {
				b.tell(seed, n, runs)
				smaller, _ := b.run(h)
				return smaller != nil && sort(smaller) == sort(err)
			})
			now, log = b.run(cut)
		}
		again := "MODEL_RUNS=1"
		if h.Lies {
			again = "MODEL_LIES=1"
		}
		t.Errorf("%v\nplay it again: %s MODEL_SEED=%d go test -count=1 -v -run TestModel ./test/model/\nmade smaller: %v\n%s\nwhat happened:\n%s", err, again, failed, now, cut, log)
	}
	b.summary(seed, runs)
}

// named are the names and numbers of one history in an error.
var named = regexp.MustCompile(`\b([a-e][0-9]*|[0-9]+|[0-9a-f]{16,})\b`)

// sort gives what goes wrong, whoever it happens to: a history is not made smaller
// into one that shows something else.
func sort(err error) string {
	what, _, _ := strings.Cut(err.Error(), "\ngoroutine ") // their stacks
	return named.ReplaceAllString(what, "?")
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: %v", name, s, err)
	}
	return n
}

// TestCrashPointsAreAll: the model crashes at every point of the SDK and of the
// key server that docs/crash-points.md names.
func TestCrashPointsAreAll(t *testing.T) {
	table, err := os.ReadFile(filepath.Join("..", "..", "docs", "crash-points.md"))
	if err != nil {
		t.Fatal(err)
	}
	// The model has one server. The points of three are tried by
	// TestThreat24_CrashAroundACommitApart of package cloudmls, those of a store of
	// the user's own by its TestStoreMoveIsKilled.
	have := []string{
		"commit-stored", "commit-accepted", "notice-submitted", "secrets-wrapped", "secrets-replaced",
		"move-named", "store-registered", "store-arriving", "store-leaving", "store-copied", "store-opened", "store-verified", "store-gone",
		"move-done", "move-given-up", "move-stayed", "store-login-named", "store-login-renewed",
	}
	for _, list := range crashPoints {
		have = append(have, list...)
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ((?:cloudmls|keyserver)[a-z/]*) \\|").FindAllStringSubmatch(string(table), -1)
	if len(rows) == 0 {
		t.Fatal("the table has no rows")
	}
	for _, row := range rows {
		if !slices.Contains(have, row[1]) {
			t.Errorf("the model does not crash at %s, in %s", row[1], row[2])
		}
	}
}
