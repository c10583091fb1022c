package thunderbird

import (
	"slices"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestThunderbird is a working day: the account is set up, then each scenario
// does what a user does, with messages of its own.
func TestThunderbird(t *testing.T) {
	w := newWorld(t)
	w.tb = startThunderbird(t, nil)
	if !t.Run("set-up", w.setUp) {
		return
	}
	scenarios := []struct {
		name string
		run  func(*testing.T)
	}{
		{"reading", w.reading},
		{"arrival", w.arrival},
		{"writing", w.writing},
		{"answering", w.answering},
		{"drafting", w.drafting},
		{"searching", w.searching},
		{"ordering", w.ordering},
		{"syncing", w.syncing},
		{"refusing", w.refusing},
		{"restarting", w.restarting},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			s.run(t)
			w.tb.quiet(t)
		})
	}
	w.unreadable(t)
}

// setUp: the exported certificate and the printed settings suffice, without
// any dialog, in the form that a user fills in.
func (w *world) setUp(t *testing.T) {
	w.tb.setUpByHand(t, w.alice, stack.Alice, func(string) {})
	w.tb.setUp(t, w.erin, stack.Erin)
	for _, address := range []string{stack.Alice, stack.Erin} {
		var uses []string
		for _, f := range w.tb.folders(t, address) {
			uses = append(uses, f.SpecialUse...)
		}
		for _, use := range []string{"inbox", "sent", "drafts", "trash"} {
			if !slices.Contains(uses, use) {
				t.Errorf("%s has no %s folder; there are %v", address, use, uses)
			}
		}
	}
	w.tb.quiet(t)
}
