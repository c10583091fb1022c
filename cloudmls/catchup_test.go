package cloudmls

import (
	"errors"
	"testing"
)

// TestSiblingTakesTheQueueMeanwhile: a Sync has looked at the state, and before it looks
// at the queue another device of the user has taken from it who was removed. What this
// device encrypts then is not for them: the Commit was accepted before it began.
func TestSiblingTakesTheQueueMeanwhile(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	phone := alice.sibling()
	phone.cleanSync()
	phone.encrypt(id, "so that generations are left") // and nothing has to be reserved
	if err := bob.Remove(t.Context(), bob.self, id, accounts(carol)); err != nil {
		t.Fatal(err)
	}
	raced := false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("GET", "/v1/delivery") {
			return false
		}
		raced = true
		alice.cleanSync()
		return false
	}, nil)
	b, err := phone.Encrypt(t.Context(), phone.self, id, []byte("not for Carol"), nil)
	w.wire.set(nil, nil)
	if err != nil || !raced {
		t.Fatalf("raced %v: %v", raced, err)
	}
	bob.reads(b, "not for Carol", alice)
	var never *NeverError
	if p, err := carol.Decrypt(t.Context(), carol.self, b); !errors.As(err, &never) {
		t.Errorf("Carol reads %+v, %v", p, err)
	}

	// Nothing is asked for a second time because of what is known.
	phone.cleanSync()
	w.wire.reset()
	phone.cleanSync()
	once := w.wire.count("GET", "/") + w.wire.count("POST", "/")
	w.wire.reset()
	phone.cleanSync()
	if n := w.wire.count("GET", "/") + w.wire.count("POST", "/"); n > 2 || n > once {
		t.Errorf("%d requests for a Sync with nothing new", n)
	}
}
