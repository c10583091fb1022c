package cloudmls

import (
	"bytes"
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
//
// So it is where the dialog shows a key that people here have settled is not the other
// one's (settledAgainst), such as one that a lying key server had handed out: whoever
// holds it will not make room for the other one. Nobody is waited for then.
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
		if p.settledAgainst(m.IdentityKey) {
			return true, nil
		}
		if i := p.retiredAt(m.IdentityKey); i >= 0 && c.sinceMilli(max(p.Former[i].Until, p.Since)) >= renewWithin {
			return true, nil
		}
	}
	return false, nil
}

// settledAgainst tells whether a person has compared or accepted another key of the
// account than this one, which no signed rotation makes its owner's either, and which
// nobody is to decide about any more.
func (p *pinEntry) settledAgainst(key []byte) bool {
	return (p.Verified != 0 || p.Accepted != 0) && !bytes.Equal(p.Key, key) && !bytes.Equal(p.Next, key) &&
		!bytes.Equal(p.Changed, key) && !p.retired(key)
}
