//go:build crashpoints && weakkdf

package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// repent ends all lies: from here on the truth is served, and every device is started
// anew, which is what people are told to do once an alarm was looked into.
func (l *liar) repent() {
	w := l.w
	w.note("no more lies")
	for _, x := range l.lies {
		l.stop(x)
	}
	l.lies = nil
	l.middle.StopAll()
	l.ended = true
	l.confess()
	for _, u := range w.users {
		for _, d := range u.devices {
			if d.client == nil {
				continue
			}
			if err := d.client.Close(); err != nil {
				w.fail("%s: close: %v", d.name, err)
			}
			d.client = nil
		}
	}
}

// mend lets the days pass in which members ask each other for help, until nobody has
// anything to tell any more, and does by hand what the documentation says is left to
// people.
func (l *liar) mend() {
	defer func() { l.mended = len(l.w.messages) }()
	w := l.w
	l.people()
	for range 3 {
		for range 4 {
			w.syncAll()
			if w.broken != nil || l.whole() && !l.doubled {
				return
			}
			// Two Commits for one epoch show by nothing but what is written.
			if read := l.life(); read && l.whole() {
				return
			}
			w.now = w.now.Add(25 * time.Hour)
			w.away += 25 * time.Hour
		}
		l.byHand()
		l.late = true
		if w.broken != nil || l.whole() && !l.doubled {
			return
		}
		w.now = w.now.Add(8 * day) // keys are renewed, and whoever was left behind finds it out
		w.away += 8 * day
	}
	w.syncAll()
}

// life is what goes on anyway: everybody writes where they can, and reads what there
// is, by which those who were left behind hear that they were. read: whoever should
// could read everything.
func (l *liar) life() (read bool) {
	w := l.w
	read = true
	l.apart = map[cloudmls.ConversationID]*user{}
	before := len(w.messages)
	for n, u := range w.users {
		w.healed(u.devices[n%len(u.devices)], func(f *frame) {
			f.troubled = true // who is in what is not certain yet
			list, err := f.d.client.Conversations(context.Background(), u.self)
			if err != nil {
				w.fail("%s: conversations: %v", f.d.name, err)
			}
			for _, s := range list {
				if s.Removed {
					continue
				}
				text := fmt.Sprintf("message %d, of these days, of %s", len(w.messages), f.d.name)
				sealed, err := f.d.client.Encrypt(context.Background(), u.self, s.ID, []byte(text), nil)
				f.note("send: %v", err)
				if err == nil {
					w.said(f, w.talks[s.ID], text, sealed, nil)
				}
			}
		})
	}
	w.each(func(f *frame, c *cloudmls.Client) {
		for _, m := range w.messages[before:] {
			p, err := c.Decrypt(context.Background(), f.d.u.self, m.sealed)
			if err == nil {
				w.readable(f, m, p, nil)
			} else if m.mayRead(f.d.u.self) {
				f.note("%s: %v", m, err)
				read = false
				var never *cloudmls.NeverError
				if errors.As(err, &never) && never.Reason == cloudmls.NeverFork {
					// The key server goes on with one of two; who is told may be in either.
					l.apart[m.id] = f.d.u
					if l.turn++; l.turn%2 == 0 {
						l.apart[m.id] = w.user(m.from)
					}
				}
			}
		}
		l.listen(f.d)
	})
	return read
}

// people: whoever has pinned one of the thief's keys, which the documentation allows
// at the first contact, is told as soon as the truth is served, and takes the true key
// when it was compared.
func (l *liar) people() {
	l.w.some(1, func(f *frame, c *cloudmls.Client) {
		ctx, self := context.Background(), f.d.u.self
		list, err := c.Contacts(ctx, self)
		if err != nil {
			l.w.fail("%s: contacts: %v", f.d.name, err)
			return
		}
		for _, k := range list {
			if !l.thief.forged[string(k.IdentityKey)] {
				continue
			}
			key := l.w.trueKey(k.Account)
			asked, err := c.Contact(ctx, self, k.Account)
			if err != nil || asked.State != cloudmls.ContactChanged || !asked.NewConfirmed || string(asked.NewKey) != string(key) {
				l.w.fail("%s: of the thief's key for %v it is said: %+v, %v", f.d.name, k.Account, asked, err)
			}
			f.check("compare", c.VerifyKey(ctx, self, k.Account, key))
			l.w.counts["pinned the thief, and was told"]++
		}
	})
}

// place is what is wrong with a conversation, for one of its members.
type place struct {
	d *device
	s *cloudmls.ConversationState
}

// places lists where members do not agree: who is in a conversation, what cannot be
// written to, and who was added and never heard of it.
func (l *liar) places() (wrong []place, lost map[cloudmls.ConversationID][]cloudmls.Account) {
	all := map[cloudmls.ConversationID][]place{}
	knows := map[cloudmls.ConversationID][]cloudmls.Account{}
	l.w.each(func(f *frame, c *cloudmls.Client) {
		l.listen(f.d)
		list, err := c.Conversations(context.Background(), f.d.u.self)
		if err != nil {
			l.w.fail("%s: conversations: %v", f.d.name, err)
		}
		for _, s := range list {
			if !s.Removed {
				all[s.ID] = append(all[s.ID], place{f.d, s})
				knows[s.ID] = append(knows[s.ID], f.d.u.self)
			}
		}
	})
	lost = map[cloudmls.ConversationID][]cloudmls.Account{}
	for id, list := range all {
		if good := slices.DeleteFunc(slices.Clone(list), func(p place) bool { return p.s.Broken }); len(good) > 0 {
			// Who was removed while Commits were withheld, or is in another group with people
			// whom only these Commits add, and heard of that group first, says that it is
			// broken, and refuses to enter: nobody in it will repair that.
			list = slices.DeleteFunc(list, func(p place) bool {
				self := p.d.u.self
				out := p.s.Broken && (l.doubled || strings.Contains(fmt.Sprint(p.s.Blocked), string(cloudmls.ProblemUnknownGroup)) ||
					!slices.ContainsFunc(good, func(x place) bool { return slices.Contains(x.s.Members, self) }))
				if t := l.w.talks[id]; out && l.late {
					t.shut[self], t.left[self], t.members[self] = true, true, maybe
					l.w.counts["broken, and out"]++
				}
				return out && l.late
			})
		}
		newest := slices.MaxFunc(list, func(a, b place) int { return cmp.Compare(a.s.Epoch, b.s.Epoch) }).s
		for _, p := range list {
			if p.s.Broken || p.s.Blocked != nil && !l.w.talks[id].stuck(p.s.Blocked) || p.s.Epoch != newest.Epoch || !slices.Equal(p.s.Members, newest.Members) {
				wrong = append(wrong, p)
			}
			for _, a := range p.s.Members {
				if !slices.Contains(knows[id], a) && !l.w.talks[id].shut[a] && !slices.Contains(lost[id], a) {
					lost[id] = append(lost[id], a)
				}
			}
		}
	}
	slices.SortFunc(wrong, func(a, b place) int {
		return cmp.Or(slices.Compare(a.s.ID[:], b.s.ID[:]), cmp.Compare(a.d.name, b.d.name))
	})
	return wrong, lost
}

func (l *liar) whole() bool {
	for _, u := range l.w.users {
		l.w.shutOut(u)
	}
	wrong, lost := l.places()
	return len(wrong) == 0 && len(lost) == 0
}

// byHand is what the documentation leaves to people. Each does it once.
func (l *liar) byHand() {
	w := l.w
	wrong, lost := l.places()
	for id, u := range l.apart {
		w.healed(u.devices[0], func(f *frame) {
			t := w.talks[id]
			t.parted, t.replaced = true, true
			_, err := f.d.client.Replace(context.Background(), u.self, id)
			f.note("by hand: replace %v: %v", id, err)
		})
		w.syncAll()
	}
	for _, p := range wrong {
		w.healed(p.d, func(f *frame) { l.help(f, p.s.ID, nil) })
		w.syncAll()
	}
	for _, t := range w.talks {
		for _, u := range w.insiders(t) {
			if len(lost[t.id]) > 0 && !slices.Contains(lost[t.id], u.self) {
				w.healed(u.devices[0], func(f *frame) { l.help(f, t.id, lost[t.id]) })
				w.syncAll()
			}
		}
	}
}

// help removes and adds again whose false key a group shows, or who never heard of it,
// and replaces what is broken.
func (l *liar) help(f *frame, id cloudmls.ConversationID, lost []cloudmls.Account) {
	ctx, self, c, t := context.Background(), f.d.u.self, f.d.client, l.w.talks[id]
	s, err := c.Conversation(ctx, self, id)
	if err != nil || s.Removed {
		return
	}
	others := without(s.Members, map[cloudmls.Account]bool{self: true})
	again := cloudmls.Conversation{ID: id, Kind: t.kind, Members: others, HistoryDays: t.days}
	gone := slices.DeleteFunc(slices.Clone(others), func(a cloudmls.Account) bool { return !slices.Contains(lost, a) })
	var changed *cloudmls.IdentityChangedError
	if errors.As(s.Blocked, &changed) {
		if !l.thief.forged[string(changed.Key)] && !changed.Retired {
			f.note("by hand: %v: %v", id, s.Blocked)
			return
		}
		gone = append(gone, changed.Account)
	}
	f.note("by hand: %v: broken %v, blocked: %v; again: %v", id, s.Broken, s.Blocked, gone)
	l.w.counts["helped by hand"]++
	switch {
	case t.kind == cloudmls.KindGroup && len(gone) > 0:
		t.parted = true
		for _, a := range gone {
			t.away[a] = true
		}
		if err := c.Remove(ctx, self, id, gone); err != nil {
			f.note("remove: %v", err)
			return
		}
		_, err = c.Ensure(ctx, self, again)
		f.note("ensure: %v", err)
	case t.kind == cloudmls.KindDialog && changed != nil:
		_, err := c.Ensure(ctx, self, again)
		f.note("ensure: %v", err)
	case s.Broken, slices.ContainsFunc(others, func(a cloudmls.Account) bool { return slices.Contains(lost, a) }):
		t.parted, t.replaced = true, true
		_, err := c.Replace(ctx, self, id)
		f.note("replace: %v", err)
	}
}
