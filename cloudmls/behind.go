package cloudmls

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// A delivery service that withholds a Commit from a member shows it only where the
// member makes one of its own, which finds the epoch taken: a member who sends
// would go on sending to people who were removed until its keys are due. What others
// send in the epoch that it does not know tells sooner. Whoever sees a ciphertext
// can write another epoch on it, so that alone breaks nothing: it is told, and the
// next message is preceded by a Commit, which brings the truth out. A member to whom
// neither the Commit nor any message of the epoch comes cannot know of it before its
// own keys are due.

// behindAgain is how long after a Commit was made for such a message another one
// is: forged ones cost the group one epoch a day.
const behindAgain = 24 * time.Hour

// behindMark is what messages that could not be opened say of a group.
type behindMark struct {
	epoch uint64    // the latest one
	tried time.Time // when a Commit was made for it last
}

// noteBehind notes a message of an epoch after the one that a Sync, which has just
// gone through, has led to.
func (c *Client) noteBehind(ctx context.Context, self Account, group []byte, epoch uint64) error {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return err
	}
	for _, conv := range records {
		if !bytes.Equal(conv.Group, group) || conv.blocked() != nil || epoch <= conv.Epoch {
			continue
		}
		c.mu.Lock()
		if len(c.behind) >= maxTodo {
			clear(c.behind)
		}
		m := c.behind[conversationLock(self, conv.ID)]
		m.epoch = max(m.epoch, epoch)
		c.behind[conversationLock(self, conv.ID)] = m
		c.mu.Unlock()
		return c.keepHearsay(ctx, self, Notice{
			At: c.now(), Conversation: conv.ID, Kind: NoticeStalled,
			Text: fmt.Sprintf("a message says that the group went on, and the key server has delivered nothing after epoch %d", conv.Epoch),
		})
	}
	return nil
}

// isBehind tells whether a Commit is to show if the group is in a later epoch than
// this account knows of. It is asked once per Commit.
func (c *Client) isBehind(self Account, conv *conversationRecord) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.behind[conversationLock(self, conv.ID)]
	since := c.now().Sub(m.tried)
	if !ok || m.epoch <= conv.Epoch || since >= 0 && since < behindAgain {
		return false
	}
	m.tried = c.now()
	c.behind[conversationLock(self, conv.ID)] = m
	return true
}
