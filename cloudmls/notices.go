package cloudmls

import (
	"context"
	"fmt"
	"time"
)

// maxNotices is how many notices are remembered per account.
const maxNotices = 64

// Notice is something about a conversation, or about a contact, that people
// should be told.
type Notice struct {
	At           time.Time
	Conversation ConversationID // the zero value: it is about no conversation
	Kind         NoticeKind
	Account      Account // whom it is about; the zero value: this account
	Text         string  // for people
}

// NoticeKind classifies a Notice.
type NoticeKind string

// Kinds of notices.
const (
	NoticeBroken   NoticeKind = "broken"   // its group took a turn that this account cannot follow; the others are asked for help
	NoticeStalled  NoticeKind = "stalled"  // the key server says that the group moved on, and withholds how
	NoticeFork     NoticeKind = "fork"     // a message came from another state of the group
	NoticeRepaired NoticeKind = "repaired" // the account was let in again
	NoticeReplaced NoticeKind = "replaced" // another group serves it now
	NoticeAsks     NoticeKind = "asks"     // a member lost track of the group and asks to be let in again
	NoticeLeaves   NoticeKind = "leaves"   // a member asked to be removed
	NoticeRotated  NoticeKind = "rotated"  // a contact's identity key was replaced by one that the key before has signed; Conversation is zero
)

// noticesRecord is a local record, per account.
type noticesRecord struct {
	Version int            `json:"v"`
	Notices []noticeRecord `json:"notices"` // newest first
}

type noticeRecord struct {
	At           int64          `json:"at"`
	Conversation ConversationID `json:"conversation,omitzero"`
	Kind         NoticeKind     `json:"kind"`
	Account      Account        `json:"account"`
	Text         string         `json:"text"`
}

func (c *Client) notedNotices(self Account) (*noticesRecord, error) {
	r := &noticesRecord{Version: recordVersion}
	b, err := c.store.Cache("sdk/notices").Get(self.String())
	if err != nil {
		return nil, fmt.Errorf("notices: %w", err)
	}
	if b == nil {
		return r, nil
	}
	if err := decodeRecord(b, r); err != nil {
		return nil, fmt.Errorf("notices: %w", err)
	}
	return r, nil
}

// keepNotices remembers notices on the disk of this device, for Status: they are
// rare and reported once.
func (c *Client) keepNotices(ctx context.Context, self Account, list []Notice) error {
	if len(list) == 0 {
		return nil
	}
	unlock, err := c.locks.lock(context.WithoutCancel(ctx), "notices\x00"+self.String())
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.notedNotices(self)
	if err != nil {
		return err
	}
	fresh := make([]noticeRecord, 0, maxNotices)
	for i := len(list) - 1; i >= 0 && len(fresh) < maxNotices; i-- {
		n := list[i]
		fresh = append(fresh, noticeRecord{
			At: n.At.UnixMilli(), Conversation: n.Conversation, Kind: n.Kind, Account: n.Account, Text: shorten(n.Text),
		})
	}
	r.Notices = append(fresh, r.Notices[:min(len(r.Notices), maxNotices-len(fresh))]...)
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return c.store.Cache("sdk/notices").Put(self.String(), b)
}

// noteFork remembers that a message came from another state of the group, once
// per epoch. What says so is not authenticated, since it cannot be opened: it is
// a reason to tell people, and none to give the group up.
func (c *Client) noteFork(ctx context.Context, self Account, id ConversationID, epoch uint64) error {
	r, err := c.notedNotices(self)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("a message of epoch %d was made in another state of the group than ours", epoch)
	for _, n := range r.Notices {
		if n.Kind == NoticeFork && n.Conversation == id && n.Text == text {
			return nil
		}
	}
	return c.keepNotices(ctx, self, []Notice{{At: c.now(), Conversation: id, Kind: NoticeFork, Text: text}})
}
