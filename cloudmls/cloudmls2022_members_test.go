package cloudmls_test

import "github.com/cloudmls/gateway/cloudmls"

// update is the passive side: the platform's list is all that is said.
func (p *person) update(id cloudmls.ConversationID, now []*person) {
	p.l.t.Helper()
	p.sync()
	p.ensure(id, now...)
	s, err := p.Conversation(p.l.t.Context(), p.self, id)
	if err != nil {
		p.l.t.Fatal(err)
	}
	var gone []*person
	for _, a := range s.Members {
		in := false
		for _, q := range now {
			in = in || q.self == a
		}
		if !in {
			gone = append(gone, p.l.named(a.ID))
		}
	}
	if len(gone) > 0 {
		p.remove(id, gone...)
	}
}

// create and add are the active side.
func (p *person) create(id cloudmls.ConversationID, members []*person) {
	p.l.t.Helper()
	p.ensure(id, members...)
}

func (p *person) add(id cloudmls.ConversationID, members ...*person) {
	p.l.t.Helper()
	p.ensure(id, members...)
}
