package cloudmls

import (
	"fmt"
	"slices"
	"time"
)

// A message that is first seen long after its epoch closed may be from whoever
// stole that epoch's keys since. A device that was there all the time would have seen
// an honest one before, so the message is late. One that was away would not: the
// message may have lain in the mailbox for weeks, and been read on another device. It
// cannot find out. Telling each other what they have read would cost the devices a
// write to the key server per message; when the message arrived, the mail provider
// says alone, who may be the thief's helper. So the message is marked as what it is,
// and not verified.

const (
	// touchEvery is how exactly it is known when the device was last in touch, and
	// awayAfter how long it has to be out of touch to have been away.
	touchEvery = time.Hour
	awayAfter  = 24 * time.Hour
	// catchUp is how long after it came back a device may find what came meanwhile.
	catchUp = 7 * 24 * time.Hour
)

// presenceRecord is a local record, per account: when this device was in touch with
// the key server. Times are milliseconds since 1970.
type presenceRecord struct {
	Version int       `json:"v"`
	Last    int64     `json:"last"`
	Away    []absence `json:"away,omitempty"` // those that ended lately
}

// absence is the time between two Syncs, or answers to Wait.
type absence struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// covers tells whether a device that was away so may find at time now what came
// before a deadline.
func (a absence) covers(deadline, now int64) bool {
	return a.From < deadline && deadline <= a.To && now <= a.To+catchUp.Milliseconds()
}

func (c *Client) presence(self Account) (*presenceRecord, error) {
	r := &presenceRecord{Version: recordVersion}
	b, err := c.store.Cache("sdk/presence").Get(self.String())
	if err == nil && b != nil {
		err = decodeRecord(b, r)
	}
	if err != nil {
		return nil, fmt.Errorf("when this device was in touch: %w", err)
	}
	return r, nil
}

// inTouch notes that the key server answered for an account. Of calls at the same time
// the last counts: what it may have undone, the next one notes again.
func (c *Client) inTouch(self Account) error {
	r, err := c.presence(self)
	if err != nil || !r.touch(c.now().UnixMilli()) {
		return err
	}
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if err := c.store.Cache("sdk/presence").Put(self.String(), b); err != nil {
		return fmt.Errorf("when this device was in touch: %w", err)
	}
	return nil
}

// touch notes an answer of the key server's at a time, and tells whether that is worth
// a write to the disk.
func (r *presenceRecord) touch(now int64) bool {
	gone := now - r.Last
	if gone >= 0 && gone < touchEvery.Milliseconds() {
		return false
	}
	if r.Last != 0 && gone >= awayAfter.Milliseconds() {
		r.Away = append(r.Away, absence{r.Last, now})
	}
	r.Away = slices.DeleteFunc(r.Away, func(a absence) bool {
		return now > a.To+catchUp.Milliseconds() || a.To > now // of no use any more; by a clock that was set back since
	})
	r.Last = now
	return true
}

// wasAway tells whether this device was out of touch when a deadline passed, and had
// no time since to see what had come before it.
func (c *Client) wasAway(self Account, deadline time.Time) (bool, error) {
	r, err := c.presence(self)
	if err != nil {
		return false, err
	}
	return r.awayAt(deadline.UnixMilli(), c.now().UnixMilli()), nil
}

// awayAt is wasAway for milliseconds since 1970.
func (r *presenceRecord) awayAt(deadline, now int64) bool {
	if r.Last != 0 && now-r.Last >= awayAfter.Milliseconds() && (absence{r.Last, now}).covers(deadline, now) {
		return true // it still is
	}
	return slices.ContainsFunc(r.Away, func(a absence) bool { return a.covers(deadline, now) })
}
