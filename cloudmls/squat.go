package cloudmls

import (
	"context"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// The id of a dialog, or of a self conversation, is the hash of its people, which
// everybody can compute. That of a group is random, so that a group under such an
// id is one whose maker wants to be taken for the dialog, or to be in its way:
// the key server cannot tell. It gives way.

// usurps tells whether the record is of a group that has taken the id of a
// conversation of this kind.
func (r *conversationRecord) usurps(kind Kind) bool {
	return r != nil && r.Kind == KindGroup && kind != KindGroup
}

// of gives the record unless it only usurps the id of a conversation of this kind.
func (r *conversationRecord) of(kind Kind) *conversationRecord {
	if r.usurps(kind) {
		return nil
	}
	return r
}

// evict ends a group that usurps the id of a conversation of this kind: the record
// becomes that of a conversation of this kind which no group serves. What was
// written in the group can be read as before.
func (c *Client) evict(ctx context.Context, self Account, id ConversationID, kind Kind) error {
	if conv, err := c.reader(ctx, self).conversation(id); err != nil || !conv.usurps(kind) {
		return err
	}
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(id)
		if err != nil || !conv.usurps(kind) {
			return err
		}
		if err := v.evict(conv, kind, c.now().UnixMilli()); err != nil {
			return err
		}
		return v.put(conversationKey(self, id), conv)
	})
}

// evict changes the record only; the caller stores it.
func (v *view) evict(conv *conversationRecord, kind Kind, now int64) error {
	if err := v.retire(conv, 0, now); err != nil {
		return err
	}
	conv.Kind, conv.Group, conv.Epoch, conv.Removed = kind, nil, 0, now
	conv.Days, conv.PostQuantum, conv.Renew = 0, false, false
	return nil
}
