package keyserver

import (
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Plan names what a transaction is going to read and change. Zero fields say
// nothing.
type Plan struct {
	User     UserID
	Body     Hash      // of TxResult, with User
	Session  SessionID // of the User
	Objects  []keyapi.ObjectID
	Kind     keyapi.Kind // with Conversation
	Conv     ConversationID
	Group    []byte
	Accounts []keyapi.Account // whose inboxes or KeyPackages are read or changed
	Sender   keyapi.Account   // of the User; its record is read
	Pool     keyapi.Account   // of which one KeyPackage is taken, and nothing is delivered
	Now      time.Time        // with Pool
}

// Planner is the part of a Reader that is told about the future. A store that
// several processes share locks all of a Plan in one order and reads it in one
// go; without a Plan it does so one by one, and two transactions may have to
// start over because each waits for the other. A Plan changes no result.
type Planner interface {
	Foresee(*Plan) error
}

// planOf is the Plan of a transaction of the API.
func planOf(who identity, body Hash, t *keyapi.Tx) *Plan {
	p := &Plan{User: who.user, Session: who.session, Body: body}
	for _, list := range [][]keyapi.Expect{t.Expect, t.Delete} {
		for _, e := range list {
			p.Objects = append(p.Objects, e.ID)
		}
	}
	for i := range t.Put {
		p.Objects = append(p.Objects, t.Put[i].ID)
	}
	if c := t.Commit; c != nil {
		p.Kind, p.Conv, p.Group = c.Kind, ConversationID(c.Conversation), c.Group
		p.Sender = c.Sender
		p.Accounts = append(append(p.Accounts, c.Recipients...), c.Joiners...)
	}
	for _, a := range t.Ack {
		p.Accounts = append(p.Accounts, a.Account)
	}
	return p
}
