package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/subtle"
	"fmt"
)

// ComparisonCode gives the code that two people compare, over a channel that
// nobody can alter: face to face, or by voice. It is about the key that the key
// server names, and about the pinned one where that cannot be asked; where they
// differ, Verify accepts a code of either, and thereby that key.
func (c *Client) ComparisonCode(ctx context.Context, self, other Account) (Code, error) {
	self, other, err := c.pair(ctx, self, other)
	if err != nil {
		return Code{}, err
	}
	keys, askErr, err := c.candidates(ctx, self, other)
	if err != nil {
		return Code{}, err
	}
	if len(keys) == 0 {
		return Code{}, noCandidate(other, askErr)
	}
	return c.code(ctx, self, other, keys[0])
}

// Verify marks a contact as verified if code, the 60 digits that the other
// person reads out or sends over another channel, is the right one. Spaces and
// hyphens do not count. A code of a changed key accepts that key
// (AcceptIdentity). Otherwise ErrCodeMismatch, or ErrCodeForm where it cannot be
// a code, and nothing changes. All of the user's devices see the mark.
func (c *Client) Verify(ctx context.Context, self, other Account, code string) error {
	digits, err := parseDigits(code)
	if err != nil {
		return err
	}
	return c.verify(ctx, self, other, func(k Code) bool { return k.isDigits(digits) })
}

// VerifyScanned is Verify with what the other person's QR code holds
// (Code.Bytes).
func (c *Client) VerifyScanned(ctx context.Context, self, other Account, scanned []byte) error {
	digest, err := parseScanned(scanned)
	if err != nil {
		return err
	}
	return c.verify(ctx, self, other, func(k Code) bool {
		return k != Code{} && subtle.ConstantTimeCompare(k.digest[:], digest[:]) == 1
	})
}

// VerifyKey marks a contact as verified where people have compared the code by
// themselves; key is Code.Key of the code that they saw, so that what is marked
// is what was compared, whatever the key server says meanwhile.
func (c *Client) VerifyKey(ctx context.Context, self, other Account, key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("verify: identity key of %d octets", len(key))
	}
	return c.verify(ctx, self, other, func(k Code) bool { return bytes.Equal(k.key[:], key) })
}

// Unverify takes the mark back; the key stays pinned. ErrNoContact where
// nothing is.
func (c *Client) Unverify(ctx context.Context, self, other Account) error {
	self, other, err := c.pair(ctx, self, other)
	if err != nil {
		return err
	}
	err = c.changePin(ctx, self, other, func(p *pinEntry) error {
		if p.Key == nil {
			return ErrNoContact
		}
		p.Verified = 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("unverify %s: %w", other, err)
	}
	return nil
}

// verify looks for the key whose code fits, and marks it. With 199 bits it does
// not matter that there are a few to choose from.
func (c *Client) verify(ctx context.Context, self, other Account, fits func(Code) bool) error {
	self, other, err := c.pair(ctx, self, other)
	if err != nil {
		return err
	}
	keys, askErr, err := c.candidates(ctx, self, other)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return noCandidate(other, askErr)
	}
	for _, key := range keys {
		code, err := c.code(ctx, self, other, key)
		if err != nil {
			return err
		}
		if !fits(code) {
			continue
		}
		if err := c.markVerified(ctx, self, other, key); err != nil {
			return fmt.Errorf("verify %s: %w", other, err)
		}
		return nil
	}
	if askErr != nil {
		return fmt.Errorf("verify %s: %w (the key server could not be asked for a newer key: %w)", other, ErrCodeMismatch, askErr)
	}
	return fmt.Errorf("verify %s: %w", other, ErrCodeMismatch)
}

func (c *Client) markVerified(ctx context.Context, self, other Account, key []byte) error {
	return c.changePin(ctx, self, other, func(p *pinEntry) error {
		now := c.now()
		if !bytes.Equal(p.Key, key) {
			p.accept(key, now)
		}
		// Another key that some group showed is refuted by the comparison.
		p.Changed, p.Unconfirmed, p.Verified = nil, false, now.UnixMilli()
		return nil
	})
}

// candidates lists the keys that may be the other account's, each once: the one
// that the key server names, the pinned one, and the one seen in a group.
// askErr says why the key server's is not among them.
func (c *Client) candidates(ctx context.Context, self, other Account) (keys [][]byte, askErr, err error) {
	named, askErr := c.askIdentity(ctx, other)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	p, err := c.pin(ctx, self, other)
	if err != nil {
		return nil, nil, err
	}
	all := [][]byte{named}
	if p != nil {
		all = append(all, p.Key, p.Changed)
	}
	for _, k := range all {
		if len(k) == ed25519.PublicKeySize && !containsKey(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, askErr, nil
}

func containsKey(keys [][]byte, k []byte) bool {
	for _, x := range keys {
		if bytes.Equal(x, k) {
			return true
		}
	}
	return false
}

func noCandidate(other Account, askErr error) error {
	if askErr != nil {
		return fmt.Errorf("ask for %s: %w", other, askErr)
	}
	return fmt.Errorf("%w: %s", ErrNoContact, other)
}

// code computes the comparison code with the own key from the sealed state.
func (c *Client) code(ctx context.Context, self, other Account, key []byte) (Code, error) {
	id, err := c.identity(ctx, self)
	if err != nil {
		return Code{}, err
	}
	if id == nil {
		return Code{}, fmt.Errorf("%w: %s", ErrNoAccount, self)
	}
	return newCode(c.o.Origin, self, id.public(), other, key)
}
