package cloudmls

import (
	"context"
	"fmt"
	"time"
)

// renewWithin is how long the devices of somebody who replaced the identity key are
// waited for: they renew their leaf in each group as soon as they are online.
const renewWithin = time.Hour

// deadEnd tells whether nothing will ever be written in a dialog, as far as can be
// known: it still shows an identity key that the other one replaced more than
// renewWithin ago, or before they were first seen here, which is so long ago. It may
// have been made by whoever had stolen that key; then the owner is not in it, and
// nobody renews it. To begin anew with the present key gives nobody anything but the
// owner, who loses nothing by it: the old group is left for the new one, on whichever
// device.
func (c *Client) deadEnd(ctx context.Context, self Account, conv *conversationRecord) (bool, error) {
	if conv == nil || conv.Kind != KindDialog || conv.blocked() != nil {
		return false, nil
	}
	contacts, err := c.knownContacts(ctx, self)
	if err != nil {
		return false, fmt.Errorf("contacts of %s: %w", self, err)
	}
	for _, m := range withoutSelf(self, conv.Members) {
		p := contacts.find(m.account())
		if p == nil || contacts.check(m.account(), m.IdentityKey) == nil {
			continue
		}
		if i := p.retiredAt(m.IdentityKey); i >= 0 && c.sinceMilli(max(p.Former[i].Until, p.Since)) >= renewWithin {
			return true, nil
		}
	}
	return false, nil
}
