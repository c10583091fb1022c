package cloudmls

import (
	"bytes"
	"testing"
)

// TestKeyIsConfirmedForTheReader: the key server's word on a sender's key that did not
// reach the state, because a write failed or is still under way, keeps nobody who
// reads from asking for it: what is said of a message then stays.
func TestKeyIsConfirmedForTheReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	message := alice.encrypt(id, "hello")
	asked := false
	w.wire.set(func(e *exchange) bool {
		asked = asked || e.is("GET", "/v1/reachable/")
		if !asked || !e.is("POST", "/v1/tx") || !bytes.Contains(e.sent, []byte(`"put"`)) {
			return false
		}
		e.status = 500
		return true
	}, nil)
	if _, err := bob.Sync(t.Context(), bob.self); err == nil || !asked {
		t.Fatalf("the test's write did not fail: asked %v, %v", asked, err)
	}
	w.wire.set(nil, nil)
	bob.reads(message, "hello", alice)
}
