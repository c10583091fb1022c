package keyserver

import (
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestLargeGateShares: neither one user nor many fill the room for bodies, large
// or not, and what has left counts no longer.
func TestLargeGateShares(t *testing.T) {
	var g largeGate
	one, other := UserID{1}, UserID{2}
	for i := range largeOfOne {
		if !g.enter(one, largeBody) {
			t.Fatalf("large body %d was refused", i)
		}
	}
	if g.enter(one, largeBody) {
		t.Error("one user has more than two large bodies")
	}
	if !g.enter(other, largeBody) {
		t.Error("another user has none")
	}
	g.leave(one, largeBody)
	if !g.enter(one, largeBody) {
		t.Error("what has left counts still")
	}

	g = largeGate{}
	var total int64
	for i := range 200 { // each takes what is to be had
		u := UserID{3, byte(i)}
		for g.enter(u, largeBody-1) {
			total += largeBody - 1
		}
	}
	if total > octetsOfAll {
		t.Errorf("%d octets of bodies are in memory", total)
	}
	if !g.enter(UserID{4}, 64<<10) {
		t.Error("after all these a new user cannot send the body of an acknowledgement")
	}

	g = largeGate{}
	if !g.enter(one, keyapi.MaxTxSize) || !g.enter(one, keyapi.MaxTxSize) || g.enter(one, largeBody-1) && g.enter(one, largeBody-1) {
		t.Error("one user has not room for two of the longest transactions, or for more")
	}
	g.leave(one, keyapi.MaxTxSize)
	g.leave(one, keyapi.MaxTxSize)
	g.leave(one, largeBody-1)
	if g.all != 0 || g.total != 0 || len(g.users) != 0 || len(g.large) != 0 {
		t.Errorf("all have left, and %d, %d, %v, %v remain", g.all, g.total, g.users, g.large)
	}
}
