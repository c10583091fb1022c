package cloudmls

import (
	"bytes"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestKnownDeliveriesCostNoHead: the delivery of an own Commit is acknowledged, and
// nothing is written for it. A key server that delivers it again and again does no
// harm, and a Sync does not go on for ever.
func TestKnownDeliveriesCostNoHead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	alice.cleanSync()
	bob.cleanSync()
	renew := func(*conversationRecord) (*change, error) { return &change{renew: true}, nil }
	if _, err := alice.commit(t.Context(), alice.self, id, renew); err != nil {
		t.Fatal(err)
	}
	epoch := alice.state(id).Epoch
	var delivered []byte
	w.wire.set(nil, func(e *exchange) {
		if e.is("GET", "/v1/delivery/") && delivered == nil {
			delivered = bytes.Clone(e.answered)
		}
	})
	w.wire.reset()
	if r := alice.cleanSync(); r.Processed != 1 || len(r.Changed) != 0 {
		t.Fatalf("the own Commit: %+v", r)
	}
	for _, e := range w.wire.requests() {
		if !e.is("POST", "/v1/tx") {
			continue
		}
		if tx := decodeJSON[keyapi.Tx](t, e.sent); len(tx.Put)+len(tx.Delete) != 0 || len(tx.Ack) != 1 {
			t.Errorf("for a delivery that was known: %d objects, acknowledged %v", len(tx.Put), tx.Ack)
		}
	}
	if n := w.wire.count("POST", "/v1/tx"); n != 1 {
		t.Errorf("%d transactions", n)
	}
	if r := phone.cleanSync(); r.Processed != 0 || phone.state(id).Epoch != epoch {
		t.Errorf("the other device: %+v", r)
	}
	again := 0
	w.wire.set(func(e *exchange) bool {
		if !e.is("GET", "/v1/delivery/") {
			return false
		}
		e.status, e.answered, e.header = 200, delivered, "application/json"
		again++
		return true
	}, nil)
	if _, err := alice.Sync(t.Context(), alice.self); err == nil || again > 3*maxStuck {
		t.Errorf("delivered %d times: %v", again, err)
	}
	w.wire.set(nil, nil)
	if alice.state(id).Epoch != epoch {
		t.Error("an old Commit, delivered again, opened an epoch")
	}
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "as before"), "as before", alice)
	if r := alice.cleanSync(); r.Processed != 0 {
		t.Errorf("what was acknowledged is delivered: %+v", r)
	}
}
