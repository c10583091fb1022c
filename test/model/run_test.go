//go:build crashpoints && weakkdf

// Package model runs the SDK against a model of what it promises: users with
// several devices, one key server, random operations, and everything that goes
// wrong between them. Whatever happened, once the trouble is over all devices
// agree, everybody reads what was said to them and nobody else does.
package model

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// bench is what all runs of a process share.
type bench struct {
	t    *testing.T
	dir  string
	tmpl *template
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: folder(t)}
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
	}
	return err, log
}

// TestModel runs MODEL_RUNS random histories.
func TestModel(t *testing.T) {
	set := func(name, env string) {
		if v := os.Getenv(env); v != "" {
			if err := flag.Set(name, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	set("rapid.checks", "MODEL_RUNS")
	set("rapid.seed", "MODEL_SEED")
	b := newBench(t)
	all := random()
	rapid.Check(t, func(rt *rapid.T) {
		h := all.Draw(rt, "history")
		if err, log := b.run(h); err != nil {
			rt.Fatalf("%v\nhistory:\n%s\nwhat happened:\n%s", err, h, log)
		}
	})
}
