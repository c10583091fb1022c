package evil

import (
	"slices"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Withhold keeps messages from an account's devices, though they lie in its
// inbox; which nil: all. Whatever comes after them is delivered.
func (m *Middle) Withhold(a keyapi.Account, which func(*keyapi.Delivery) bool) *Running {
	return m.Deliveries(a, func(p *keyapi.Deliveries) {
		p.Messages = slices.DeleteFunc(p.Messages, func(d keyapi.Delivery) bool { return which == nil || which(&d) })
	})
}

// Deliveries lies about what lies in an account's inbox. What is acknowledged
// must lie there, so lies keep to the numbers that they find; Deliver makes more.
func (m *Middle) Deliveries(a keyapi.Account, change func(*keyapi.Deliveries)) *Running {
	return m.Always(ToAccount("GET", "/v1/delivery", a, ""), Edit(change))
}

// Deliver puts a message into inboxes that no rule of a key server allows: a
// forged one, one of a Commit that was refused, one that was delivered before.
func (s *Server) Deliver(d keyapi.Delivery, to ...keyapi.Account) {
	s.tb.Helper()
	s.change("deliver", func(w keyserver.Writer) error { return w.Deliver(&d, keyserver.UserID{}, to) })
}

// Inbox is what waits for an account.
func (s *Server) Inbox(a keyapi.Account) []keyapi.Delivery {
	s.tb.Helper()
	var all []keyapi.Delivery
	s.look("read inbox", func(r keyserver.Reader) (err error) {
		all, err = r.Deliveries(a, 0, 1<<20, 1<<40)
		return err
	})
	return all
}

// IsCommit and IsWelcome are for Withhold.
func IsCommit(d *keyapi.Delivery) bool { return d.Type == keyapi.DeliveryCommit }

// IsWelcome see IsCommit.
func IsWelcome(d *keyapi.Delivery) bool { return d.Type == keyapi.DeliveryWelcome }
