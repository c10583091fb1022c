//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/mls"
)

// groups is how many groups a history has at most.
const groups = 3

// brief is the group whose messages are kept for briefDays.
const (
	brief     = 1
	briefDays = 4
)

// steps are the operations.
var steps map[string]func(w *world, f *frame)

// operations are their names, in a fixed order.
var operations []string

func init() {
	steps = map[string]func(w *world, f *frame){
		"send": (*world).send, "read": (*world).read, "sync": (*world).sync,
		"dialog": (*world).dialog, "self": (*world).selfTalk, "group": (*world).group, "remove": (*world).remove,
		"restart": (*world).restart, "open": (*world).open, "password": (*world).password, "signout": (*world).signOut,
		"revoke": (*world).revoke, "clock": (*world).setClock, "time": (*world).passTime, "late": (*world).late,
		"maintain": (*world).maintain, "rotate": (*world).rotate, "leave": (*world).leave, "update": (*world).update,
		"lie": (*world).tellLie, "truth": (*world).tellTruth, "verify": (*world).verify,
		"replace": (*world).replace, "account": (*world).account, "restore": (*world).restore,
	}
	operations = slices.Sorted(maps.Keys(steps))
}

func (w *world) sync(f *frame) {
	ctx := context.Background()
	if c := f.running(ctx); c != nil {
		_, err := c.Sync(ctx, f.d.u.self)
		if f.check("sync", err) {
			w.liar.synced(f)
			w.learn(f)
		}
	}
}

// learn takes what a device that is certainly up to date says of conversations.
func (w *world) learn(f *frame) {
	if f.troubled || len(w.delayed) > 0 {
		return
	}
	list, err := f.d.client.Conversations(context.Background(), f.d.u.self)
	if f.troubled {
		return // what it asked for did not arrive
	}
	if err != nil {
		w.fail("%s: conversations: %v", f.d.name, err)
		return
	}
	for _, s := range list {
		if t := w.talks[s.ID]; t == nil {
			w.fail("%s: knows conversation %s, which nobody made", f.d.name, s.ID)
		} else if !s.Removed {
			t.learn(s)
		}
	}
}

// others picks users by number, without the own one.
func (w *world) others(f *frame) []cloudmls.Account {
	var list []cloudmls.Account
	for _, v := range f.step.V {
		a := w.users[v%len(w.users)].self
		if a != f.d.u.self && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

func (w *world) dialog(f *frame) {
	list := w.others(f)
	if len(list) == 0 {
		list = []cloudmls.Account{w.users[(slices.Index(w.users, f.d.u)+1)%len(w.users)].self}
	}
	w.ensure(f, w.talk(dialogID(f.d.u.self, list[0]), cloudmls.KindDialog), list[:1])
}

func (w *world) selfTalk(f *frame) {
	w.ensure(f, w.talk(dialogID(f.d.u.self, f.d.u.self), cloudmls.KindSelf), nil)
}

func (w *world) group(f *frame) {
	w.ensure(f, w.talk(groupID(f.step.C%groups), cloudmls.KindGroup), w.others(f))
}

func (w *world) ensure(f *frame, t *talk, others []cloudmls.Account) {
	ctx := context.Background()
	c := f.running(ctx)
	if c == nil {
		return
	}
	all := append(slices.Clone(others), f.d.u.self)
	f.blur = func() { t.blur(all, in) }
	want := cloudmls.Conversation{ID: t.id, Kind: t.kind, Members: others, HistoryDays: t.days}
	may := w.mayFail(t, f.d.u)
	s, err := c.Ensure(ctx, f.d.u.self, want)
	if err != nil {
		f.blur()
		f.check("ensure", err, may...)
		return
	}
	f.check("ensure", nil)
	for _, a := range all {
		switch {
		case !slices.Contains(s.Members, a):
			w.fail("%s: ensure went through, and %v is not among %v", f.d.name, a, s.Members)
		case f.synced && !f.troubled:
			t.sure(a)
		case t.members[a] != in:
			t.members[a] = maybe
		}
	}
}

// mayFail lists the errors that an honest world gives.
func (w *world) mayFail(t *talk, u *user) []error {
	if t.members[u.self] == in {
		return nil
	}
	list := []error{cloudmls.ErrNoConversation, cloudmls.ErrNotMember}
	if t.kind == cloudmls.KindGroup {
		list = append(list, cloudmls.ErrConversationTaken)
	}
	return list
}

func (w *world) remove(f *frame) {
	ctx := context.Background()
	gone := w.others(f)
	t := w.talks[groupID(f.step.C%groups)]
	if t == nil || len(gone) == 0 {
		return
	}
	c := f.running(ctx)
	if c == nil {
		return
	}
	t.parted = true
	f.blur = func() { t.blur(gone, out) }
	may := w.mayFail(t, f.d.u)
	err := c.Remove(ctx, f.d.u.self, t.id, gone)
	if !f.check("remove", err, may...) || f.troubled {
		f.blur()
		return
	}
	for _, a := range gone {
		t.members[a], t.away[a] = out, true
	}
}

// pick gives a conversation that the user is in, or may be.
func (w *world) pick(f *frame) *talk {
	var list []*talk
	for _, t := range w.talks {
		if t.members[f.d.u.self] != out {
			list = append(list, t)
		}
	}
	slices.SortFunc(list, func(a, b *talk) int { return slices.Compare(a.id[:], b.id[:]) })
	if len(list) == 0 {
		return nil
	}
	return list[f.step.C%len(list)]
}

func (w *world) send(f *frame) {
	ctx := context.Background()
	t := w.pick(f)
	if t == nil {
		w.dialog(f)
		return
	}
	c := f.running(ctx)
	if c == nil {
		return
	}
	text := fmt.Sprintf("message %d of %s", len(w.messages), f.d.name)
	if f.step.N == 0 {
		text += strings.Repeat(" and so on", 1000)
	}
	sure := map[cloudmls.Account]membership{}
	maps.Copy(sure, t.members)
	may := w.mayFail(t, f.d.u)
	sealed, err := c.Encrypt(ctx, f.d.u.self, t.id, []byte(text), nil)
	if !f.check("send", err, may...) {
		return
	}
	if f.requests == 0 {
		f.troubled = true
	}
	if f.d.stale {
		if f.troubled {
			return // it may repeat a generation, and says so
		}
		f.d.stale = false
	}
	f.after = func() { w.said(f, t, text, sealed, sure) }
}

// said takes note of a message, as its sender reads it.
func (w *world) said(f *frame, t *talk, text string, sealed []byte, sure map[cloudmls.Account]membership) {
	if f.d.client == nil {
		w.fail("%s: no client after a message", f.d.name)
		return
	}
	p, err := f.d.client.Decrypt(context.Background(), f.d.u.self, sealed)
	var stolen []cloudmls.Account
	if l := w.liar; l != nil {
		stolen = l.thief.holds("a message of "+f.d.name, sealed, f.d.knows)
		if bytes.Contains(sealed, []byte(text)) {
			w.fail("%s: sends %q in clear", f.d.name, text)
		}
		if err != nil && !l.ended {
			f.note("not read yet: %v", err)
			l.unread = append(l.unread, unread{f.d, t, text, sealed, f.d.knew()})
			return
		}
	}
	if err != nil {
		w.fail("%s: its own message: %v", f.d.name, err)
		return
	}
	m := &message{
		n: len(w.messages), text: text, sealed: sealed, id: t.id, from: f.d.u.self, members: p.Members, epoch: p.Epoch, at: w.now,
		old: f.d.u.rotated && f.troubled, stolen: stolen, forked: f.d.forked,
	}
	w.messages = append(w.messages, m)
	w.note("%s: that was %s, for %v", f.d.name, m, m.members)
	w.judge(f.d, m, p, true)
	place := fmt.Sprintf("%s/%d/%v/%d", groupOf(sealed), p.Epoch, p.Sender, p.Generation)
	if l := w.liar; l != nil {
		own := f.d.life() + ": " + place
		if l.ownUse[own] {
			w.fail("%s: has generation %d of one epoch twice", f.d.name, p.Generation)
		}
		l.ownUse[own] = true
	}
	if other := w.places[place]; other != nil && (w.liar == nil || !w.liar.split) {
		w.fail("%s: %s and %s have generation %d of one epoch", f.d.name, other, m, p.Generation)
	}
	w.places[place] = m
	if f.troubled {
		return
	}
	for a, k := range sure {
		if k == in && !m.mayRead(a) {
			w.fail("%s: %s is not for %v, who is in the conversation", f.d.name, m, a)
		}
		if k == out && m.mayRead(a) {
			w.fail("%s: %s is for %v, who is not in the conversation", f.d.name, m, a)
		}
	}
	for _, a := range m.members {
		if _, known := sure[a]; !known {
			w.fail("%s: %s is for %v, whom nobody added", f.d.name, m, a)
		}
	}
}

func (w *world) read(f *frame) {
	if len(w.messages) == 0 {
		w.sync(f)
		return
	}
	ctx := context.Background()
	m := w.messages[len(w.messages)-1-f.step.N%len(w.messages)]
	c := f.running(ctx)
	if c == nil {
		return
	}
	p, err := c.Decrypt(ctx, f.d.u.self, m.sealed)
	w.readable(f, m, p, err)
}

// readable holds the outcome of reading against who may read.
func (w *world) readable(f *frame, m *message, p *cloudmls.Plaintext, err error) {
	var never *cloudmls.NeverError
	switch {
	case err == nil:
		if !m.mayRead(f.d.u.self) {
			w.fail("%s: reads %s, which is for %v", f.d.name, m, m.members)
			return
		}
		w.judge(f.d, m, p, !f.troubled && !f.ended)
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrDropped):
		f.check("read", err)
	case w.shutOut(f.d.u) && w.talks[m.id].shut[f.d.u.self], w.talks[m.id].left[f.d.u.self]:
		f.note("%s: %v", m, err)
	case errors.As(err, &never) && never.Reason == cloudmls.NeverDeleted && m.due(w):
		f.note("%s: %v", m, err)
	case w.lied() && w.liar.excused(f.d.u, m):
		f.note("%s: %v", m, err)
	case errors.As(err, &never) && w.talks[m.id].away[f.d.u.self] && f.d.u.untold():
		f.note("%s: %v", m, err) // they may have refused to enter again; asked in the end
	case errors.As(err, &never) && m.mayRead(f.d.u.self):
		w.fail("%s: %s is said never to open: %v", f.d.name, m, err)
	case m.mayRead(f.d.u.self):
		f.check("read "+m.String(), err)
	default:
		f.note("%s: %v", m, err)
	}
}

// judge compares an opened message with what was said.
func (w *world) judge(d *device, m *message, p *cloudmls.Plaintext, clean bool) {
	switch {
	case string(p.Data) != m.text:
		w.fail("%s: %s reads %q, want %q", d.name, m, p.Data, m.text)
	case p.Sender != m.from || p.Own != (m.from == d.u.self) || p.Conversation != m.id:
		w.fail("%s: %s is from %v in %s, want %v in %s", d.name, m, p.Sender, p.Conversation, m.from, m.id)
	case !slices.Equal(p.Members, m.members):
		w.fail("%s: %s is for %v, its sender says %v", d.name, m, p.Members, m.members)
	}
	for _, x := range p.Warnings {
		switch {
		case w.lied() && (x != cloudmls.WarningReplay || w.liar.split): // whoever sees it is warned of what was done
		case (x == cloudmls.WarningLate || x == cloudmls.WarningAway) && w.mayBeLate(m):
		case x == cloudmls.WarningIdentityUnknown && !clean:
		case x == cloudmls.WarningIdentityChanged && w.rotated && (!w.healthy || w.skewed || m.old || w.unsteady && w.hasRotated(m.from)):
		default:
			w.fail("%s: %s: warning: %v", d.name, m, x)
		}
	}
}

// hasRotated tells whether an account's user has replaced all keys, or tried.
func (w *world) hasRotated(a cloudmls.Account) bool {
	return slices.ContainsFunc(w.users, func(u *user) bool { return u.self == a && u.rotated })
}

// mayBeLate: somebody may see the message for the first time long after its
// epoch, or after its sender's leaf was taken out.
func (w *world) mayBeLate(m *message) bool {
	return w.skewed || w.rotated || w.away >= 14*day || w.talks[m.id].parted
}

func (w *world) restart(f *frame) {
	if c := f.d.client; c != nil && f.step.N%2 == 0 {
		if err := c.Close(); err != nil {
			w.fail("%s: close: %v", f.d.name, err)
		}
	}
	f.d.client = nil
}

func (w *world) open(f *frame) {
	u := f.d.u
	if len(u.devices) > maxDevices {
		w.sync(f)
		return
	}
	fresh := &frame{d: u.addDevice(), step: f.step, inner: f.inner}
	f.d.frame = nil // the older device does nothing
	w.do(fresh, func() { fresh.signIn(context.Background()) })
}

func (w *world) password(f *frame) {
	ctx := context.Background()
	c := f.running(ctx)
	if c == nil {
		return
	}
	u := f.d.u
	next := fmt.Sprintf("password %d", f.requests+100*len(w.messages)+f.step.N)
	before := slices.Clone(u.passwords)
	f.blur = func() { // should it crash, or the request arrive late
		if !slices.Contains(u.passwords, next) {
			u.passwords = append(slices.Clone(u.passwords), next)
		}
	}
	for _, p := range before {
		f.blur()
		err := c.ChangePassword(ctx, p, next)
		if errors.Is(err, cloudmls.ErrCredentials) && len(before) > 1 {
			continue
		}
		if f.check("change password", err) && !w.lying() {
			u.passwords = []string{next}
		}
		return
	}
	if !f.troubled {
		w.fail("%s: none of the passwords %q can be changed", f.d.name, before)
	}
}

func (w *world) signOut(f *frame) {
	ctx := context.Background()
	u := f.d.u
	c := f.running(ctx)
	if len(u.devices) == 1 || c == nil {
		return
	}
	w.shutOut(u) // what it has refused is noted on this device alone
	ok := f.check("sign out", c.SignOut(ctx))
	f.d.client = nil
	if ok {
		u.devices = slices.DeleteFunc(slices.Clone(u.devices), func(d *device) bool { return d == f.d })
	}
}

func (w *world) revoke(f *frame) {
	ctx := context.Background()
	c := f.running(ctx)
	if c == nil {
		return
	}
	list, err := c.Devices(ctx)
	if !f.check("devices", err) {
		return
	}
	list = slices.DeleteFunc(list, func(d cloudmls.Device) bool { return d.This })
	if len(list) == 0 {
		return
	}
	w.shutOut(f.d.u) // what a device has refused is noted there alone
	f.check("revoke", c.RevokeDevice(ctx, list[f.step.N%len(list)].ID))
}

func (w *world) account(f *frame) {
	ctx := context.Background()
	if c := f.running(ctx); c != nil {
		f.check("account", c.AddAccount(ctx, f.d.u.self))
	}
}

const day = 24 * time.Hour

var skews = []time.Duration{
	0, 0, 0, 0, 2 * time.Minute, -2 * time.Minute, 2 * time.Hour, -2 * time.Hour, 3 * day, -3 * day,
	35 * day, -35 * day, 100 * day, -100 * day, 400 * day, -400 * day,
}

func (w *world) setClock(f *frame) {
	f.d.skew = skews[f.step.N%len(skews)]
	w.unsteady = w.unsteady || f.d.skew != 0
	w.skewed = w.skewed || f.d.skew.Abs() > time.Hour
	f.note("its clock is off by %v", f.d.skew)
}

// aged is after how much time without anybody the last KeyPackages may have
// ended, or be too old to be taken.
const aged = 60 * day

var spans = []time.Duration{time.Minute, 11 * time.Minute, time.Hour, day, 8 * day, 15 * day, 35 * day, 60 * day}

func (w *world) passTime(f *frame) {
	w.now = w.now.Add(spans[f.step.N%len(spans)])
	w.away += spans[f.step.N%len(spans)]
	f.note("it is %v", w.now)
}

// late delivers a request that was under way for long.
func (w *world) late(f *frame) {
	if len(w.delayed) == 0 {
		w.sync(f)
		return
	}
	n := f.step.N % len(w.delayed)
	l := w.delayed[n]
	w.delayed = slices.Delete(w.delayed, n, n+1)
	f.step = &step{Op: "late"} // nothing else goes wrong
	w.arrive(l)
}

// arrive hands a delayed request to the key server.
func (w *world) arrive(l *letter) {
	w.note("%s %s of %s arrives late", l.method, l.url, l.by.name)
	if _, err := w.serve(l, l.request()); err != nil {
		w.fail("a late request: %v", err)
	}
	if l.blur != nil {
		l.blur()
	}
}

// restore copies the disk, or sets it back to its last copy.
func (w *world) restore(f *frame) {
	d := f.d
	if d.backup == nil {
		d.backup = d.disk.copy()
		return
	}
	f.note("disk set back")
	d.client, d.stale = nil, true
	d.disk.values = (&disk{values: d.backup}).copy()
}

// groupOf gives the MLS group of a sealed message.
func groupOf(sealed []byte) string {
	m, err := mls.ParseMessage(sealed)
	if err != nil {
		return err.Error()
	}
	id, _, _ := m.Group()
	return string(id)
}

func (w *world) maintain(f *frame) {
	ctx := context.Background()
	if c := f.running(ctx); c != nil {
		f.check("maintain", c.Maintain(ctx))
	}
}

// rotate replaces all keys of the user; the other devices are out then, or stay.
func (w *world) rotate(f *frame) {
	ctx := context.Background()
	if c := f.running(ctx); c != nil {
		w.rotated, f.d.u.rotated = true, true
		w.shutOut(f.d.u) // what a device has refused is noted there alone
		o := cloudmls.RotateOptions{}
		if f.step.N%2 == 1 {
			o.Devices = []string{}
		}
		f.check("rotate", c.Rotate(ctx, o))
	}
}

// leave: from here on the user is out, whenever the others notice.
func (w *world) leave(f *frame) {
	ctx := context.Background()
	t := w.pick(f)
	if t == nil || t.kind != cloudmls.KindGroup {
		return
	}
	c := f.running(ctx)
	if c == nil {
		return
	}
	self := f.d.u.self
	t.left[self], t.parted = true, true
	f.blur = func() { t.blur([]cloudmls.Account{self}, out) }
	may := w.mayFail(t, f.d.u)
	f.check("leave", c.Leave(ctx, self, t.id), may...)
	f.blur()
}

// update brings a group in line with a list.
func (w *world) update(f *frame) {
	ctx := context.Background()
	list := w.others(f)
	t := w.talks[groupID(f.step.C%groups)]
	if t == nil || len(list) == 0 {
		return
	}
	c := f.running(ctx)
	if c == nil {
		return
	}
	t.parted = true
	all := append(slices.Clone(list), f.d.u.self)
	f.blur = func() {
		t.blur(all, in)
		for _, u := range w.users {
			if !slices.Contains(all, u.self) {
				t.blur([]cloudmls.Account{u.self}, out)
			}
		}
	}
	may := w.mayFail(t, f.d.u)
	member := t.members[f.d.u.self] == in
	m, err := c.Update(ctx, f.d.u.self, cloudmls.Conversation{
		ID: t.id, Kind: t.kind, Members: list, Omitted: cloudmls.OmittedRemove, HistoryDays: t.days,
	})
	if !f.check("update", err, may...) || f.troubled || m.State == nil || !member || !f.synced {
		f.blur()
		return
	}
	if !w.skewed && !w.rotated && w.away < aged && (!m.Complete || !slices.Equal(m.State.Members, sorted(all))) {
		w.fail("%s: update to %v left %+v", f.d.name, all, m)
	}
	for _, u := range w.users {
		if t.members[u.self] = out; !slices.Contains(all, u.self) {
			t.away[u.self] = true
		}
		if slices.Contains(m.State.Members, u.self) {
			t.sure(u.self)
		}
	}
}

func sorted(list []cloudmls.Account) []cloudmls.Account {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b cloudmls.Account) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// replace puts a new group in the place of one.
func (w *world) replace(f *frame) {
	ctx := context.Background()
	t := w.pick(f)
	if t == nil || t.kind != cloudmls.KindGroup {
		return
	}
	if c := f.running(ctx); c != nil {
		t.parted, t.replaced = true, true
		may := w.mayFail(t, f.d.u)
		_, err := c.Replace(ctx, f.d.u.self, t.id)
		f.check("replace", err, may...)
	}
}
