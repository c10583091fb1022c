package cloudmls

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/mls"
)

// blockSize is how many generations are reserved at once: one write to the key
// server per so many messages.
const blockSize = 32

// stride is how many generations are used up on the disk at once: one fsync per
// so many messages. A crash wastes at most so many of the block.
const stride = 8

// generationBlock is what this device reserved of an epoch's generations. It
// lives in the local cache: losing it wastes the rest of the block.
type generationBlock struct {
	Version      int    `json:"v"`
	Group        []byte `json:"group"`
	Epoch        uint64 `json:"epoch"`
	Next         uint32 `json:"next"`
	End          uint32 `json:"end"` // first generation that is not ours
	SignatureKey []byte `json:"signature_key"`
}

// blockID tells the blocks of a group apart.
type blockID struct {
	epoch uint64
	end   uint32
}

func blockName(self Account, group []byte) string {
	return self.Platform + "\x00" + self.ID + "\x00" + hex.EncodeToString(group)
}

// block gives this device's block of the conversation's current epoch, or nil.
func (c *Client) block(self Account, conv *conversationRecord) (*generationBlock, error) {
	r, err := c.storedBlock(blockName(self, conv.Group))
	if err != nil {
		return nil, fmt.Errorf("reserved generations: %w", err)
	}
	if r == nil {
		return nil, nil
	}
	if string(r.Group) != string(conv.Group) || r.Epoch != conv.Epoch {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.taken[blockName(self, r.Group)]; t.blockID == (blockID{r.Epoch, r.End}) && t.until == r.Next {
		r.Next = t.next // the rest of a stride is used up on the disk only
	}
	return r, nil
}

// storedBlock gives the block as it is on the disk, which is read once: nobody
// but take writes it. The caller owns it, but not its slices.
func (c *Client) storedBlock(name string) (*generationBlock, error) {
	c.mu.Lock()
	r, ok := c.blocks[name]
	c.mu.Unlock()
	if ok {
		return &r, nil
	}
	b, err := c.store.Cache("sdk/block").Get(name)
	if err != nil || b == nil {
		return nil, err
	}
	if err := decodeRecord(b, &r); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocks[name] = r
	return &r, nil
}

// isFresh tells whether this Client reserved the block. One that it found on the
// disk may be older than the device's last message: the disk may be a copy that
// was restored. Its generations, used twice, would leave two messages under one
// key to the random octets of the reuse guard.
func (c *Client) isFresh(self Account, b *generationBlock) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reserved[blockName(self, b.Group)] == blockID{b.Epoch, b.End}
}

func (c *Client) markFresh(self Account, b *generationBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reserved[blockName(self, b.Group)] = blockID{b.Epoch, b.End}
}

// nextGeneration uses up a generation of this device's block, or of a new one
// that is reserved with the key server. It is durable before it returns. online
// says that the key server can be reached, so that what is left of an earlier
// Client's block is dropped.
func (c *Client) nextGeneration(ctx context.Context, self Account, conv *conversationRecord, online bool) (uint32, mls.SignaturePrivateKey, error) {
	r, err := c.block(self, conv)
	if err != nil {
		return 0, nil, err
	}
	left := r != nil && r.Next < r.End
	if !left || online && !c.isFresh(self, r) {
		next, err := c.reserveBlock(ctx, self, conv)
		switch {
		case err == nil:
			r = next
			c.markFresh(self, r)
		case !left || !unreachable(ctx, err): // else it went away a moment ago
			return 0, nil, err
		}
	}
	generation := r.Next
	if err := c.take(self, r); err != nil {
		return 0, nil, fmt.Errorf("reserved generations: %w", err)
	}
	crashpoint.Here("generation-taken")
	return generation, r.SignatureKey, nil
}

// taken is where this Client is in a block: generations from next up to until
// are used up on the disk, and not yet given out.
type taken struct {
	blockID
	next, until uint32
}

// take uses up r.Next. On the disk it is used up with those after it, so that
// most messages write nothing; a Client that finds the block begins behind them.
// The caller holds the conversation's lock.
func (c *Client) take(self Account, r *generationBlock) error {
	name, now := blockName(self, r.Group), taken{blockID{r.Epoch, r.End}, r.Next + 1, min(r.Next+stride, r.End)}
	c.mu.Lock()
	before := c.taken[name]
	c.mu.Unlock()
	if before.blockID == now.blockID && before.next == r.Next && before.next < before.until {
		now.until = before.until
	} else {
		stored := *r
		stored.Next = now.until
		b, err := encodeRecord(stored)
		if err != nil {
			return err
		}
		c.mu.Lock()
		delete(c.blocks, name) // what a write that fails leaves, the disk tells
		c.mu.Unlock()
		if err := c.store.Cache("sdk/block").Put(name, b); err != nil {
			return err
		}
		c.mu.Lock()
		c.blocks[name] = stored
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taken[name] = now
	return nil
}

func (c *Client) reserveBlock(ctx context.Context, self Account, conv *conversationRecord) (*generationBlock, error) {
	var block *generationBlock
	err := c.swapSender(ctx, self, conv, func(r *senderRecord) error {
		if r.NextApp+blockSize > mls.MaxGeneration {
			return ErrExhausted
		}
		block = &generationBlock{
			Version: recordVersion, Group: conv.Group, Epoch: conv.Epoch,
			Next: r.NextApp, End: r.NextApp + blockSize, SignatureKey: r.SignatureKey,
		}
		r.NextApp = block.End
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reserve generations: %w", err)
	}
	return block, nil
}
