//go:build crashpoints && weakkdf

package model

import (
	"context"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// expireDays is after how many days of Maintain a message is gone: a day until
// clocks are trusted, those for which the policy keeps it, a week or the policy's
// days until an idle epoch is ended, and a day for each of the two marks.
const expireDays = 1 + briefDays + 7 + 3

// expire lets time pass day by day, and demands that what is kept for a while
// is gone then, for everybody, and all else is not.
func (w *world) expire() {
	kept := 0
	for _, m := range w.messages {
		if w.talks[m.id].days != 0 {
			kept++
		}
	}
	if kept == 0 {
		return
	}
	w.note("days pass")
	for range expireDays {
		w.now = w.now.Add(day + time.Minute)
		w.away += day
		w.some(1, func(f *frame, c *cloudmls.Client) {
			_, err := c.Sync(context.Background(), f.d.u.self)
			f.check("sync", err)
			f.check("maintain", c.Maintain(context.Background()))
		})
		if w.broken != nil {
			return
		}
	}
	w.each(func(f *frame, c *cloudmls.Client) { f.check("maintain", c.Maintain(context.Background())) })
	w.syncAll()
	w.readAll()
	w.each(func(f *frame, c *cloudmls.Client) {
		for _, m := range w.messages {
			if w.talks[m.id].days == 0 {
				continue
			}
			if _, err := c.Decrypt(context.Background(), f.d.u.self, m.sealed); err == nil {
				w.fail("%s: %s of %v opens on %v, though it is kept for %d days", f.d.name, m, m.at, w.now, w.talks[m.id].days)
			}
		}
	})
	w.counts["messages deleted"] += kept
}
