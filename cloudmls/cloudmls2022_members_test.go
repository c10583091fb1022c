package cloudmls_test

import (
	"slices"

	"github.com/cloudmls/gateway/cloudmls"
)

// update is the passive side: the platform's list is all that is said, and people
// who are not in it any more are removed.
func (p *person) update(id cloudmls.ConversationID, now []*person) {
	p.l.t.Helper()
	m, err := p.Update(p.l.t.Context(), p.self, cloudmls.Conversation{
		ID: id, Kind: cloudmls.KindGroup, Members: accountsOf(now), Omitted: cloudmls.OmittedRemove,
	})
	if err != nil || !m.Encrypted || !m.Complete || len(m.Missing)+len(m.Extra) != 0 || !slices.Equal(m.State.Members, accountsOf(now)) {
		p.l.t.Fatalf("%s: update: %+v, %v", p.name, m, err)
	}
}

// create is the active side.
func (p *person) create(id cloudmls.ConversationID, members []*person) {
	p.l.t.Helper()
	s, err := p.Create(p.l.t.Context(), p.self, cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: accountsOf(members)})
	if err != nil || !slices.Equal(s.Members, accountsOf(members)) {
		p.l.t.Fatalf("%s: create: %+v, %v", p.name, s, err)
	}
}

func (p *person) add(id cloudmls.ConversationID, members ...*person) {
	p.l.t.Helper()
	s, err := p.Add(p.l.t.Context(), p.self, id, accountsOf(members))
	if err != nil {
		p.l.t.Fatalf("%s: add: %v", p.name, err)
	}
	for _, m := range members {
		if !slices.Contains(s.Members, m.self) {
			p.l.t.Fatalf("%s: %s is not in it: %+v", p.name, m.name, s)
		}
	}
}
