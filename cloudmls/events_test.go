package cloudmls

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"
)

// TestThreat11_OtherDevicesHearOfReusedTokens: somebody presents a token of a device
// that the device has used; the session ends, and every other device of the user
// hears of it within the life of its own token, the device itself when it has signed
// in again.
func TestThreat11_OtherDevicesHearOfReusedTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	phone := alice.sibling()
	reused := func(e Event) bool { return e.Kind == EventTokenReused }
	w.clock.advance(15 * time.Minute)
	w.wire.reset()
	phone.cleanSync()
	var copied []byte
	for _, e := range w.wire.requests() {
		if e.is("POST", "/v1/auth/refresh") {
			copied = e.sent
		}
	}
	if copied == nil {
		t.Fatal("the phone has not renewed its token")
	}
	alice.cleanSync()
	if list := alice.Events(); slices.ContainsFunc(list, reused) {
		t.Fatalf("before: %v", list)
	}
	w.clock.advance(time.Minute)
	resp, err := http.Post(w.ks.URL+"/v1/auth/refresh", "application/json", bytes.NewReader(copied))
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("the copied token: %d, %v", resp.StatusCode, err)
	}
	w.clock.advance(15 * time.Minute)
	alice.cleanSync()
	list := alice.Events()
	i := slices.IndexFunc(list, reused)
	if i < 0 || list[i].Device == "" || i != len(list)-1 {
		t.Errorf("events %v", list)
	}
	// A device that signs in hears of it at once.
	if list := alice.sibling().Events(); !slices.ContainsFunc(list, reused) {
		t.Errorf("events of a new device %v", list)
	}
}
