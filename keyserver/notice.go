package keyserver

import (
	"bytes"
	"net/http"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// checkNotice checks the form of a submission that opens no epoch.
func checkNotice(c *keyapi.CommitSubmission) error {
	switch {
	case len(c.Conversation) != len(ConversationID{}):
		return invalid("conversation must have 16 octets")
	case len(c.Group) == 0 || len(c.Group) > keyapi.MaxGroupIDSize:
		return invalid("group must have 1 to 255 octets")
	case len(c.Notice) > keyapi.MaxNoticeSize:
		return newProblem(http.StatusRequestEntityTooLarge, keyapi.CodeTooLarge, "a notice has at most 64 KiB")
	case len(c.Recipients) == 0 || len(c.Recipients) > keyapi.MaxRecipients:
		return invalid("a notice has 1 to 16384 recipients")
	case c.Create || len(c.Commit) > 0 || len(c.Welcome) > 0 || len(c.Joiners) > 0 || len(c.Replaces) > 0 || len(c.Token) > 0 || len(c.TokenHash) > 0:
		return invalid("a notice opens no epoch and has nothing but its recipients")
	}
	return checkPeople(c)
}

// deliverNotice passes a message on to people of a conversation's instance. It
// asks for no token: whoever lost track of the group has none of the present
// epoch. The members check who made it; what a stranger can do with one is
// bounded as with Welcomes, by the quota of each inbox for each sender, and a
// stranger does not know the group.
func (s *Server) deliverNotice(w Writer, u UserID, current *Conversation, c *keyapi.CommitSubmission, result *keyapi.TxResult) ([]keyapi.Account, error) {
	switch {
	case current == nil:
		return nil, notFound(keyapi.CodeNotFound, "the conversation has no instance")
	case !bytes.Equal(current.Group, c.Group):
		return nil, instanceConflict(current)
	case c.Epoch > current.Epoch:
		return nil, invalid("the epoch has not begun")
	}
	result.Epoch = current.Epoch
	to := unique(c.Recipients)
	d := keyapi.Delivery{
		Type: keyapi.DeliveryNotice, Conversation: c.Conversation, Kind: c.Kind, Group: c.Group,
		Epoch: c.Epoch, Sender: c.Sender, Message: c.Notice,
	}
	return to, s.deliverTo(w, u, &d, to)
}
