package cloudmls

import (
	"slices"
	"testing"
)

// TestMoveProgress: every stage of a move is told, in order, and nothing twice in a row.
func TestMoveProgress(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice := r.user("alice")
	var told []MoveProgress
	tell := func(p MoveProgress) { told = append(told, p) }
	if err := alice.MoveStore(t.Context(), StoreTarget{Origin: storeA, Username: "alice"}, tell); err != nil {
		t.Fatal(err)
	}
	var stages []MoveStage
	for i, p := range told {
		if i > 0 && p == told[i-1] {
			t.Errorf("%+v is told twice", p)
		}
		if !slices.Contains(stages, p.Stage) {
			stages = append(stages, p.Stage)
		}
	}
	if want := []MoveStage{MoveNamed, MoveReady, MoveCopying, MoveVerified, MoveDone}; !slices.Equal(stages, want) {
		t.Errorf("%v", told)
	}
	told = nil
	if err := alice.ResumeMove(t.Context(), tell); err != nil || len(told) != 0 {
		t.Errorf("nothing to go on with: %v, %v", told, err)
	}
}
