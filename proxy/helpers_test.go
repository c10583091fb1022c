package proxy_test

import (
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/gatewaytest"
)

func mailAccount(address string) cloudmls.Account {
	return cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: address}
}

// conversationOf is the newest group of exactly the person and the others.
func conversationOf(t *testing.T, w *gatewaytest.World, name string, others ...string) groupid.ID {
	t.Helper()
	var members []cloudmls.Account
	for _, o := range others {
		members = append(members, mailAccount(o))
	}
	p := w.Person(name)
	s, err := p.Device().Client().FindGroup(t.Context(), mailAccount(p.Address), members)
	if err != nil {
		t.Fatalf("group of %s with %v: %v", name, others, err)
	}
	return s.ID
}

// lastStored is the newest message of a mailbox as the provider holds it.
func lastStored(t *testing.T, w *gatewaytest.World, name, mailbox string) []byte {
	t.Helper()
	return gatewaytest.Last(t, w.Stored(name, mailbox)).Content
}
