package cloudmls

import (
	"errors"
	"strings"
	"testing"
)

// TestRefusedAgainIsNotedOnce: somebody who was removed, and does not enter the
// group again because of strangers, is told so however many Commits of the group
// are refused after it.
func TestRefusedAgainIsNotedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, dave := w.user("alice"), w.user("bob"), w.user("carol"), w.user("dave")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	bob.updates(id, OmittedRemove, carol.self)
	carol.cleanSync()
	carol.updates(id, OmittedRemove, bob.self, alice.self)
	commits := 0
	for range maxNoted / 2 {
		carol.updates(id, OmittedLeave, alice.self, bob.self, dave.self)
		carol.updates(id, OmittedRemove, alice.self, bob.self)
		commits += 2
	}
	if r := alice.mustSync(); len(r.Problems) != 1+commits {
		t.Fatalf("%d problems, want 1 and %d", len(r.Problems), commits)
	}
	s, err := alice.Status(t.Context(), alice.self)
	if err != nil || len(s.Problems) != 2 {
		t.Fatalf("%+v, %v", s.Problems, err)
	}
	if p := s.Problems[0]; p.Kind != ProblemUnknownGroup || p.Conversation != id {
		t.Errorf("newest: %+v", p)
	}
	if p := s.Problems[1]; p.Kind != ProblemForbidden || !strings.Contains(p.Reason, "unknown here") {
		t.Errorf("what it comes from: %+v", p)
	}
	if _, err := alice.Encrypt(t.Context(), alice.self, id, []byte("hello"), nil); !errors.Is(err, ErrNotMember) {
		t.Errorf("encrypts: %v", err)
	}
}
