package cloudmls

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// maxHandshakes bounds the handshake generations of one epoch. Receivers follow
// jumps of up to 1,024.
const maxHandshakes = 1000

// reserveHandshake takes the next handshake generation of the own leaf, for
// good: devices share the leaf, and a generation is never used for two
// different Commits.
func (c *Client) reserveHandshake(ctx context.Context, self Account, conv *conversationRecord) (uint32, error) {
	var generation uint32
	err := c.swapSender(ctx, self, conv, func(r *senderRecord) error {
		if r.NextHandshake >= maxHandshakes {
			return ErrExhausted
		}
		generation = r.NextHandshake
		r.NextHandshake++
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("reserve handshake generation: %w", err)
	}
	return generation, nil
}

// swapSender changes the sender object of the conversation's current epoch; a
// movedError if it is of another. The store may offer what this device saw
// last, so an epoch that does not fit is looked up at the key server before it
// is believed.
func (c *Client) swapSender(ctx context.Context, self Account, conv *conversationRecord, fn func(*senderRecord) error) error {
	k := senderKey(self, conv.Group)
	swap := func() error {
		return c.store.Swap(ctx, k, func(old []byte) ([]byte, error) {
			r, err := decodeSender(old, conv.Epoch)
			if err != nil {
				return nil, err
			}
			if err := fn(r); err != nil {
				return nil, err
			}
			return encodeRecord(r)
		})
	}
	err := swap()
	var moved *movedError
	if !errors.As(err, &moved) {
		return err
	}
	switch _, getErr := c.store.Get(ctx, k); {
	case errors.Is(getErr, state.ErrNotFound):
		return err
	case getErr != nil:
		return getErr
	}
	return swap()
}

func decodeSender(b []byte, epoch uint64) (*senderRecord, error) {
	if b == nil {
		return nil, &movedError{} // the group was left or replaced
	}
	r := &senderRecord{}
	if err := decodeRecord(b, r); err != nil {
		return nil, err
	}
	if !r.of(epoch) {
		return nil, &movedError{}
	}
	return r, nil
}
