package cloudmls

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// errUnsigned: no key that is known here as the member's has signed the request.
var errUnsigned = errors.New("repair request that the member did not sign")

// followRequests asks the key server for the present keys of members who ask to be
// let in again, or out, with a signature that no key known here has made. A member who
// lost track of a group and replaced the identity key meanwhile cannot show the next
// one there, and would wait a day for whoever has not heard of it by other ways. Where
// signed rotations lead from the pinned key to the one that the key server names, the
// pin follows, and the request counts when the page is processed, which is next. Where
// the key server does not answer, it is refused, and made again a day later.
//
// Nobody can make this account ask without end. It asks about members of the
// conversation only, and only where the key server says that the request came from the
// account that it speaks for, which another member or a stranger cannot bring about; and
// whoever can, the key server and who has a session of the account's user, has one
// question an hour for the account and sixteen for all of them (forRequest). No other
// question is taken from those, and the answer is worth what it is worth elsewhere:
// it must be signed by the pinned key, and is told.
func (c *Client) followRequests(ctx context.Context, self Account, page []keyapi.Delivery) error {
	var list []*pinEntry
	for i := range page {
		p, err := c.unknownSigner(ctx, self, &page[i])
		if err != nil {
			return err
		}
		if p != nil && !slices.ContainsFunc(list, func(have *pinEntry) bool { return have.account() == p.account() }) {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return c.askPins(ctx, self, c.asked.due(self, list, c.now()), c.asked.forRequest)
}

// unknownSigner gives the pin of the member who sends a repair request that would
// count if the member's key were another one; nil for whatever else is delivered.
func (c *Client) unknownSigner(ctx context.Context, self Account, d *keyapi.Delivery) (*pinEntry, error) {
	if d.Type != keyapi.DeliveryNotice || len(d.Conversation) != len(ConversationID{}) {
		return nil, nil
	}
	r, signature, err := parseRepairRequest(d.Message)
	if err != nil || d.Sender != r.account {
		return nil, nil // what is wrong with it, if it is one, is told when it is processed
	}
	conv, err := c.knownConversation(ctx, self, ConversationID(d.Conversation))
	if err != nil || conv == nil || conv.Removed != 0 || conv.Broken != "" {
		return nil, err
	}
	contacts, err := c.knownContacts(ctx, self)
	if err != nil {
		return nil, err
	}
	entry, no := c.checkRequest(self, conv, contacts, r, signature)
	if no == nil || !errors.Is(no.err, errUnsigned) || r.void(conv, entry) {
		return nil, nil
	}
	return contacts.find(r.account), nil
}
