package proxy_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

// TestSomebodyJoinsMeanwhile: while alice's message to bob and carol is under
// way, bob adds dave to their group. Whatever the order of things, dave, whom
// alice did not address, cannot read it, and the others can.
func TestSomebodyJoinsMeanwhile(t *testing.T) {
	t.Parallel()
	const dave = "dave@example.net"
	for _, path := range []string{"/reachable/", "/reachable/email/carol"} { // the first look-up, and a later one
		people := append(gatewaytest.Three(), world.Spec{Name: "dave", Address: dave})
		w := gatewaytest.New(t, gatewaytest.Options{People: people})
		first := letter("w1", alice, bob, carol)
		w.Send("alice", first)
		opens(t, w, "bob", "INBOX", first)
		joins := answer(letter("w2", bob, alice, carol, dave), first.MessageID)
		var once sync.Once
		w.KeyServer().Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, path) {
				once.Do(func() { // only the first caller, which is alice, waits here
					w.KeyServer().Intercept(nil)
					if err := w.Try("bob", joins); err != nil {
						t.Errorf("bob: %v", err)
					}
				})
			}
			return false
		})
		l := answer(letter("w3", alice, bob, carol), first.MessageID)
		l.Body = "dave must not read this\n"
		w.Send("alice", l)
		opens(t, w, "dave", "INBOX", joins)
		opens(t, w, "bob", "INBOX", l)
		opens(t, w, "carol", "INBOX", l)
		w.Deliver("dave", lastStored(t, w, "carol", "INBOX"))
		cannotOpen(t, w, "dave", "INBOX", "dave must not read this")
	}
}
