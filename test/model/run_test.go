//go:build crashpoints && weakkdf

// Package model runs the SDK against a model of what it promises: users with
// several devices, one key server, random operations, and everything that goes
// wrong between them. Whatever happened, once the trouble is over all devices
// agree, everybody reads what was said to them and nobody else does.
package model

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
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
	runs int
	// counts of what happened, so that a test of nothing is noticed.
	counts map[string]int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: folder(t), counts: map[string]int{}}
	b.tmpl = makeTemplate(t, b.dir)
	return b
}

// run lets a history happen. The error is what should not be, the string what
// happened.
func (b *bench) run(h history) (err error, log string) {
	var w *world
	// In a bubble, waiting for another try takes no time.
	synctest.Test(b.t, func(t *testing.T) {
		path := filepath.Join(b.dir, "run.db")
		var end func() error
		if w, end, err = b.tmpl.world(path, h.Users, h.Devices); err != nil {
			return
		}
		w.forget = h.Forget
		crashpoint.Hook(w.point)
		defer crashpoint.Hook(nil)
		for n := range h.Steps {
			w.perform(&h.Steps[n])
			if w.broken != nil {
				break
			}
		}
		if w.broken == nil {
			w.settle()
		}
		if err = end(); err == nil {
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

// shrinkTries bounds how long a failure is made smaller.
const shrinkTries = 150

// TestModel runs MODEL_RUNS random histories, of the seeds from MODEL_SEED on.
func TestModel(t *testing.T) {
	runs, seed := int(number(t, "MODEL_RUNS", 100)), number(t, "MODEL_SEED", rand.Uint64())
	debug.SetGCPercent(400) // each history leaves much behind
	b := newBench(t)
	began := time.Now()
	for n := range runs {
		h := random(seed + uint64(n))
		err, _ := b.run(h)
		if err == nil {
			continue
		}
		cut := shrink(h, shrinkTries, func(h history) bool {
			err, _ := b.run(h)
			return err != nil
		})
		now, log := b.run(cut)
		t.Errorf("MODEL_SEED=%d MODEL_RUNS=1: %v\nmade smaller: %v\n%s\nwhat happened:\n%s", seed+uint64(n), err, now, cut, log)
		break
	}
	for _, k := range slices.Sorted(maps.Keys(b.counts)) {
		t.Logf("%-34s %7d, %.2f in a run", k, b.counts[k], float64(b.counts[k])/float64(b.runs))
	}
	t.Logf("%d histories, the first of MODEL_SEED=%d, in %v", b.runs, seed, time.Since(began))
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
	// TestThreat24_CrashAroundACommitApart of package cloudmls.
	have := []string{"commit-stored", "commit-accepted", "notice-submitted", "secrets-wrapped", "secrets-replaced"}
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
