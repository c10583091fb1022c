package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxNoted is how many refused messages are remembered per account.
const maxNoted = 32

// Status is how an account fares on this device. The zero time means "not since
// this Client was made".
type Status struct {
	LastSync  time.Time // the last one that went through
	SyncError error     // why the last one did not; nil if it did
	// KeyPackages are those that the key server had left for others when they
	// were last Counted: with none left, and no LastResort, nobody can open a
	// conversation with the account.
	KeyPackages int
	LastResort  bool
	Counted     time.Time
	// Notices are what was told lately of conversations on this device, newest
	// first: those that broke, were repaired or replaced, members who ask for
	// something. They outlive the Client.
	Notices []Notice
	// Problems are the last messages that a Sync on this device refused, newest
	// first; of those that differ in nothing but the time, the last one. They
	// outlive the Client.
	Problems []NotedProblem
}

// NotedProblem is a Problem of an earlier Sync.
type NotedProblem struct {
	At           time.Time
	Conversation ConversationID
	Sender       Account // as the key server names it
	Kind         ProblemKind
	Reason       string // for people
}

// problemsRecord is a local record, per account.
type problemsRecord struct {
	Version  int             `json:"v"`
	Problems []problemRecord `json:"problems"` // newest first
}

type problemRecord struct {
	At           int64          `json:"at"`
	Conversation ConversationID `json:"conversation,omitzero"` // zero: what came named none
	Sender       Account        `json:"sender"`
	Kind         ProblemKind    `json:"kind"`
	Reason       string         `json:"reason"`
}

// Status tells how the account fares, without the network.
func (c *Client) Status(ctx context.Context, self Account) (Status, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return Status{}, err
	}
	c.mu.Lock()
	s := c.health[self]
	c.mu.Unlock()
	r, err := c.notedProblems(self)
	if err != nil {
		return Status{}, err
	}
	for _, p := range r.Problems {
		s.Problems = append(s.Problems, NotedProblem{
			At: time.UnixMilli(p.At), Conversation: p.Conversation, Sender: p.Sender, Kind: p.Kind, Reason: p.Reason,
		})
	}
	told, err := c.notedNotices(self)
	if err != nil {
		return Status{}, err
	}
	for _, n := range told.Notices {
		s.Notices = append(s.Notices, Notice{
			At: time.UnixMilli(n.At), Conversation: n.Conversation, Kind: n.Kind, Account: n.Account, Text: n.Text,
		})
	}
	return s, nil
}

func (c *Client) notedProblems(self Account) (*problemsRecord, error) {
	r := &problemsRecord{Version: recordVersion}
	b, err := c.store.Cache("sdk/problems").Get(self.String())
	if err != nil {
		return nil, fmt.Errorf("noted problems: %w", err)
	}
	if b == nil {
		return r, nil
	}
	if err := decodeRecord(b, r); err != nil {
		return nil, fmt.Errorf("noted problems: %w", err)
	}
	return r, nil
}

// noteSync remembers how a Sync went.
func (c *Client) noteSync(ctx context.Context, self Account, err error) {
	if err != nil && ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.health[self]
	if s.SyncError = err; err == nil {
		s.LastSync = c.now()
	}
	c.health[self] = s
}

// problemRecords gives problems as they are remembered, newest first.
func (c *Client) problemRecords(list []Problem) []problemRecord {
	fresh := make([]problemRecord, 0, min(len(list), maxNoted))
	for i := len(list) - 1; i >= 0 && len(fresh) < maxNoted; i-- {
		p := list[i]
		fresh = append(fresh, problemRecord{
			At: c.now().UnixMilli(), Conversation: p.Conversation, Sender: p.Sender, Kind: p.Kind, Reason: shorten(p.Err.Error()),
		})
	}
	return fresh
}

// keepProblems remembers problems on the disk of this device, for Status: they are
// rare and reported once.
func (c *Client) keepProblems(ctx context.Context, self Account, list []problemRecord) error {
	if len(list) == 0 {
		return nil
	}
	unlock, err := c.locks.lock(context.WithoutCancel(ctx), "problems\x00"+self.String())
	if err != nil {
		return err
	}
	defer unlock()
	r, err := c.notedProblems(self)
	if err != nil { // what cannot be read must keep nothing from being received
		c.warn(ctx, "the problems noted before are lost", err)
		r = &problemsRecord{Version: recordVersion}
	}
	r.Problems = newestOfEach(slices.Concat(list, r.Problems))
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	return c.store.Cache("sdk/problems").Put(self.String(), b)
}

// newestOfEach keeps what is refused again and again, such as the Commits of a
// group that this account does not enter, from taking the place of all else.
func newestOfEach(list []problemRecord) []problemRecord {
	known := make(map[problemRecord]bool, len(list))
	list = slices.DeleteFunc(list, func(p problemRecord) bool {
		p.At = 0
		seen := known[p]
		known[p] = true
		return seen
	})
	return list[:min(len(list), maxNoted)]
}

// shorten keeps what others sent, and errors quote, from filling the record.
func shorten(s string) string {
	const limit = 500
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

func (c *Client) notePool(self Account, count keyapi.KeyPackageCount) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.health[self]
	s.KeyPackages, s.LastResort, s.Counted = count.Available, count.LastResort, c.now()
	c.health[self] = s
}
