//go:build crashpoints && weakkdf

package model

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTornHistories: one that panics, or waits for ever, with its key server open,
// fails with the stacks of who was doing what, and the next one is played.
func TestTornHistories(t *testing.T) {
	b := newBench(t)
	for want, tear := range map[string]func(){
		"defect":   func() { panic("defect") },
		"deadlock": func() { <-make(chan struct{}) },
	} {
		var err error
		b.bubble(&err, func() {
			if _, _, e := b.tmpl.world(filepath.Join(b.dir, want), 2, 1); e != nil {
				t.Error(e)
			}
			tear()
		})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "TestTornHistories") {
			t.Errorf("want an error of %q with stacks, have %v", want, err)
		}
		if what := sort(err); strings.Contains(what, "goroutine 1") || !strings.Contains(what, want) {
			t.Errorf("sorted as %q", what)
		}
	}
	if b.torn != 2 {
		t.Errorf("%d torn", b.torn)
	}
	h := history{Users: 2, Devices: 1, Steps: []step{{Op: "dialog"}, {Op: "send"}}}
	if err, log := b.run(h); err != nil {
		t.Errorf("the next one: %v\n%s", err, log)
	}
}
