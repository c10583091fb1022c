//go:build crashpoints && weakkdf

package model

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// settle ends all trouble and holds the world against what was promised.
func (w *world) settle() {
	w.note("the world is healed")
	if w.lied() {
		w.liar.repent()
	}
	for _, l := range w.delayed {
		w.arrive(l)
	}
	w.delayed = nil
	w.now = w.now.Add(2 * time.Hour)
	for n, u := range w.users {
		for _, d := range u.devices {
			d.skew = 0
		}
		if n%2 == len(w.messages)%2 {
			d := u.addDevice() // with nothing but the password
			w.healed(d, func(f *frame) { f.signIn(context.Background()) })
		}
	}
	w.each(func(f *frame, c *cloudmls.Client) { w.bringUp(f, c) })
	// What a program does once an hour: it finishes what was cut off.
	w.some(1, func(f *frame, c *cloudmls.Client) { w.maintained(f, c) })
	w.syncAll()
	if w.lied() && w.broken == nil {
		w.liar.thief.speaks(w.liar.thief.epochs)
		w.liar.mend()
		w.liar.thief.speaks(w.liar.thief.epochs)
	}
	w.healthy = true
	if w.broken != nil {
		return
	}
	shut := false
	for _, u := range w.users {
		shut = w.shutOut(u) || shut
	}
	if shut { // what members wish is left to them for a while, who will never do it
		w.now = w.now.Add(time.Hour)
		w.syncAll()
	}
	views := w.views()
	w.agree(views)
	if w.broken != nil {
		return
	}
	before := w.submitted
	w.exchange(views)
	if w.submitted != before {
		w.syncAll()
	}
	w.readAll()
	w.agree(w.views())
	if !w.lied() {
		w.problems()
	}
	if w.broken == nil && w.forget {
		w.expire()
	}
	w.counts["messages"] += len(w.messages)
	w.counts["conversations"] += len(w.talks)
}

// maintained is Maintain. Where there were lies, a conversation may be broken still, or be
// in a branch that the key server does not go on with, and that is said.
func (w *world) maintained(f *frame, c *cloudmls.Client) {
	err := c.Maintain(context.Background())
	if w.lied() && err != nil && w.liar.doubled || w.lied() && errors.Is(err, cloudmls.ErrBroken) {
		f.note("maintain: %v", err)
		return
	}
	f.check("maintain", err)
}

// healed does something on a device that is up and signed in.
func (w *world) healed(d *device, fn func(f *frame)) {
	f := &frame{d: d, step: &step{Op: "settle"}}
	w.do(f, func() { fn(f) })
	if f.after != nil {
		f.after()
	}
}

// each calls fn for every device, started and signed in.
func (w *world) each(fn func(f *frame, c *cloudmls.Client)) { w.some(maxDevices+9, fn) }

// some calls fn for so many devices of each user.
func (w *world) some(n int, fn func(f *frame, c *cloudmls.Client)) {
	for _, u := range w.users {
		for _, d := range u.devices[:min(n, len(u.devices))] {
			w.healed(d, func(f *frame) {
				if c := f.running(context.Background()); c != nil {
					fn(f, c)
				} else {
					w.fail("%s: does not start", d.name)
				}
			})
			if w.broken != nil {
				return
			}
		}
	}
}

// syncAll brings all devices up to date, until there was nothing for any of them
// and none of them sent anything to others.
func (w *world) syncAll() {
	for range 12 {
		quiet, before := true, w.submitted
		w.each(func(f *frame, c *cloudmls.Client) { quiet = w.bringUp(f, c) && quiet })
		if quiet && w.submitted == before || w.broken != nil {
			return
		}
	}
	w.fail("the world does not come to rest")
}

// bringUp brings a device up to date; quiet: there was nothing for it.
func (w *world) bringUp(f *frame, c *cloudmls.Client) (quiet bool) {
	r, err := c.Sync(context.Background(), f.d.u.self)
	if !f.check("sync", err) && f.troubled && f.d.client == nil { // signed out
		if f.signIn(context.Background()) == nil {
			w.fail("%s: cannot sign in again", f.d.name)
		}
		return false
	}
	if err == nil {
		w.liar.synced(f)
	}
	return r.Processed == 0
}

// view is what a device shows of its conversations.
type view map[cloudmls.ConversationID]*cloudmls.ConversationState

func (w *world) views() map[*device]view {
	views := map[*device]view{}
	w.each(func(f *frame, c *cloudmls.Client) {
		list, err := c.Conversations(context.Background(), f.d.u.self)
		if err != nil {
			w.fail("%s: conversations: %v", f.d.name, err)
		}
		views[f.d] = view{}
		for _, s := range list {
			views[f.d][s.ID] = s
			if s.Broken && w.lied() && w.talks[s.ID].shut[f.d.u.self] {
				continue // out of it, and told
			}
			if s.Broken || !s.Removed && s.Blocked != nil && !w.talks[s.ID].stuck(s.Blocked) {
				w.fail("%s: conversation %s: broken %v, blocked: %v", f.d.name, s.ID, s.Broken, s.Blocked)
			}
		}
	})
	return views
}

// agree: all devices of a user show the same, all members of a conversation
// are in the same epoch with the same people, and these are whom they asked for.
func (w *world) agree(views map[*device]view) {
	if w.broken != nil {
		return
	}
	for _, u := range w.users {
		first := u.devices[0]
		for _, d := range u.devices[1:] {
			if !same(views[first], views[d]) {
				w.fail("%s and %s show different conversations:\n%s\n%s", first.name, d.name, views[first], views[d])
			}
		}
	}
	for _, t := range w.talks {
		var members []cloudmls.Account
		var example *cloudmls.ConversationState
		for _, u := range w.users {
			s := views[u.devices[0]][t.id]
			if s == nil || s.Removed || s.Broken && w.lied() && t.shut[u.self] {
				continue
			}
			members = append(members, u.self)
			if example == nil {
				example = s
			}
			if s.Epoch != example.Epoch || !slices.Equal(s.Members, example.Members) {
				w.fail("%s is in epoch %d of %s with %v, others in %d with %v", u.name, s.Epoch, t.id, s.Members, example.Epoch, example.Members)
			}
		}
		if example != nil && !slices.Equal(without(example.Members, t.shut), without(members, t.shut)) {
			w.fail("conversation %s has the members %v, of whom %v know", t.id, example.Members, members)
		}
		for a, m := range t.members {
			if m == in && !slices.Contains(members, a) || m == out && slices.Contains(members, a) {
				w.fail("conversation %s: %v should be %v; in it are %v", t.id, a, m, members)
			}
		}
	}
}

func without(list []cloudmls.Account, gone map[cloudmls.Account]bool) []cloudmls.Account {
	return slices.DeleteFunc(slices.Clone(list), func(a cloudmls.Account) bool { return gone[a] })
}

func same(a, b view) bool {
	if len(a) != len(b) {
		return false
	}
	for id, s := range a {
		if !reflect.DeepEqual(s, b[id]) && fmt.Sprint(*s) != fmt.Sprint(*b[id]) {
			return false
		}
	}
	return true
}

func (v view) String() string {
	s := ""
	for _, x := range v {
		s += fmt.Sprintf("\t%+v\n", *x)
	}
	return s
}

// exchange has everybody say something wherever they are: who can read it is in
// the same epoch, whatever else they show.
func (w *world) exchange(views map[*device]view) {
	for n, u := range w.users {
		d := u.devices[n%len(u.devices)]
		ids := make([]cloudmls.ConversationID, 0, len(views[d]))
		for id, s := range views[d] {
			if !s.Removed && s.Blocked == nil {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, func(a, b cloudmls.ConversationID) int { return slices.Compare(a[:], b[:]) })
		for _, id := range ids {
			t := w.talks[id]
			text := fmt.Sprintf("message %d, at last, of %s", len(w.messages), d.name)
			w.healed(d, func(f *frame) {
				c := f.running(context.Background())
				sealed, err := c.Encrypt(context.Background(), u.self, id, []byte(text), nil)
				if !f.check("send at last", err) && w.lied() && f.d.client == nil { // it was made anew
					if c = f.signIn(context.Background()); c != nil {
						sealed, err = c.Encrypt(context.Background(), u.self, id, []byte(text), nil)
						f.check("send at last", err)
					}
				}
				if err != nil {
					w.fail("%s: cannot send in %s: %v", d.name, id, err)
					return
				}
				f.after = func() { w.said(f, t, text, sealed, t.members) }
			})
		}
	}
}

// readAll: everybody reads, on every device, what was said while they were
// members, and nothing else.
func (w *world) readAll() {
	w.each(func(f *frame, c *cloudmls.Client) {
		for _, m := range w.messages {
			if !m.mayRead(f.d.u.self) && f.d != f.d.u.devices[0] {
				continue // one device of those who may not is enough
			}
			p, err := c.Decrypt(context.Background(), f.d.u.self, m.sealed)
			w.readable(f, m, p, err)
			if err != nil && m.mayRead(f.d.u.self) && !w.talks[m.id].left[f.d.u.self] && !m.due(w) && !w.liar.excused(f.d.u, m) {
				w.fail("%s: %s is lost: %v", f.d.name, m, err)
			}
		}
	})
}

// problems: in an honest world no handshake is refused, but by those who do not
// enter a group again, whom its members go on sending Commits to.
func (w *world) problems() {
	w.each(func(f *frame, c *cloudmls.Client) {
		w.shutOut(f.d.u)
		s, err := c.Status(context.Background(), f.d.u.self)
		if err != nil {
			w.fail("%s: status: %v", f.d.name, err)
			return
		}
		for _, p := range s.Problems {
			if w.refuses(f.d.u, p) {
				continue
			}
			if t := w.talks[p.Conversation]; p.Kind == cloudmls.ProblemUnknownGroup && t != nil && t.shut[f.d.u.self] {
				continue
			}
			w.fail("%s: refused a handshake: %s: %s", f.d.name, p.Kind, p.Reason)
		}
	})
}
