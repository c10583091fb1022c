package proxy_test

import (
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
	"github.com/cloudmls/gateway/proxy"
)

// TestOmittedAreRemoved: with that policy an answer to fewer and other people keeps the
// thread's group, and one Commit takes out who is left out and lets in who is new.
func TestOmittedAreRemoved(t *testing.T) {
	t.Parallel()
	const dave = "dave@example.net"
	people := append(gatewaytest.Three(), world.Spec{Name: "dave", Address: dave})
	people[0].Policy = proxy.Policy{Omitted: proxy.OmittedRemove}
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	first := letter("first", alice, bob, carol)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	opens(t, w, "carol", "INBOX", first)
	id := conversationOf(t, w, "alice", bob, carol)
	state := func() *cloudmls.ConversationState {
		t.Helper()
		s, err := w.Person("alice").Device().Client().Conversation(t.Context(), mailAccount(alice), id)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := state().Epoch

	second := answer(letter("second", alice, bob, dave), first.MessageID)
	w.Send("alice", second)
	opens(t, w, "bob", "INBOX", second)
	opens(t, w, "dave", "INBOX", second)
	if now := conversationOf(t, w, "alice", bob, dave); now != id {
		t.Error("the answer went to another group")
	}
	if now := state(); now.Epoch != before+1 || len(now.Members) != 3 {
		t.Errorf("epoch %d after %d, members %v", now.Epoch, before, now.Members)
	}
	// Carol has the ciphertext, by whatever way, and no keys for it.
	w.Deliver("carol", lastStored(t, w, "bob", "INBOX"))
	cannotOpen(t, w, "carol", "INBOX", second.Body)
}
