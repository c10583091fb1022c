package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// maxNotices is how many notices are remembered per account.
	maxNotices = 64
	// maxHearsay is how many of them may say what a message said that could not be
	// opened.
	maxHearsay = 16
)

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

// Kinds of notices. Those of conversations are told by the device that processed
// the delivery; NoticeRotated by each device of the user.
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
	Hearsay      bool           `json:"hearsay,omitempty"`
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
	return c.keepNoticeRecords(ctx, self, noticeRecords(list))
}

// noticeRecords gives notices as they are remembered, newest first.
func noticeRecords(list []Notice) []noticeRecord {
	fresh := make([]noticeRecord, 0, min(len(list), maxNotices))
	for i := len(list) - 1; i >= 0 && len(fresh) < maxNotices; i-- {
		n := list[i]
		fresh = append(fresh, noticeRecord{
			At: n.At.UnixMilli(), Conversation: n.Conversation, Kind: n.Kind, Account: n.Account, Text: shorten(n.Text),
		})
	}
	return fresh
}

// keepNoticeRecords remembers at most maxNotices of them, and none twice.
func (c *Client) keepNoticeRecords(ctx context.Context, self Account, list []noticeRecord) error {
	if len(list) == 0 {
		return nil
	}
	unlock, err := c.locks.lock(context.WithoutCancel(ctx), "notices\x00"+self.String())
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.notedNotices(self)
	if err != nil { // what cannot be read must keep nothing from being received
		c.warn(ctx, "the notices noted before are lost", err)
		r = &noticesRecord{Version: recordVersion}
	}
	fresh := slices.DeleteFunc(slices.Clone(list), func(n noticeRecord) bool { return slices.Contains(r.Notices, n) })
	return c.putNotices(self, r, fresh)
}

// putNotices remembers notices before those that there are. The caller holds their
// lock.
func (c *Client) putNotices(self Account, r *noticesRecord, fresh []noticeRecord) error {
	r.Notices = append(fresh, r.Notices[:min(len(r.Notices), maxNotices-len(fresh))]...)
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return c.store.Cache("sdk/notices").Put(self.String(), b)
}

// keepHearsay remembers what a message said that could not be opened, and so may
// say what anybody likes who has seen one: it is a reason to tell people, and none
// to give the group up. There is one of a kind per conversation, the last, and few
// altogether, so that nobody can push out what is known.
func (c *Client) keepHearsay(ctx context.Context, self Account, n Notice) error {
	unlock, err := c.locks.lock(context.WithoutCancel(ctx), "notices\x00"+self.String())
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.notedNotices(self)
	if err != nil {
		return err
	}
	fresh := noticeRecord{At: n.At.UnixMilli(), Conversation: n.Conversation, Kind: n.Kind, Text: shorten(n.Text), Hearsay: true}
	rest, count := r.Notices[:0], 0
	for _, have := range r.Notices {
		switch {
		case !have.Hearsay:
		case have.Kind == fresh.Kind && have.Conversation == fresh.Conversation:
			if have.Text == fresh.Text {
				return nil
			}
			continue
		default:
			if count++; count >= maxHearsay {
				continue
			}
		}
		rest = append(rest, have)
	}
	r.Notices = rest
	return c.putNotices(self, r, []noticeRecord{fresh})
}

// noteFork remembers that a message came from another state of the group.
func (c *Client) noteFork(ctx context.Context, self Account, id ConversationID, epoch uint64) error {
	return c.keepHearsay(ctx, self, Notice{
		At: c.now(), Conversation: id, Kind: NoticeFork,
		Text: fmt.Sprintf("a message of epoch %d was made in another state of the group than ours", epoch),
	})
}
