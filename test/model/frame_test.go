//go:build crashpoints && weakkdf

package model

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// frame is one operation of a device under way.
type frame struct {
	d        *device
	step     *step
	requests int  // so far
	synced   bool // it asked what there is for it; what it says is not of old
	ended    bool // the key server said that its session is over
	writes   int
	passes   int
	// troubled: something went wrong, or something else happened meanwhile.
	troubled bool
	crashed  bool
	head     headSeen // the newest head that it was shown
	rolled   bool     // it was shown one that is older, or another, than the device had seen
	// blur notes what the operation may bring about later than it ends.
	blur  func()
	inner bool
	// after runs when the operation is over and nothing can go wrong any more.
	after func()
}

// crashed begins the name of the count of crashes at a place.
const crashed = "crash "

// crash unwinds the operation of a device that crashed.
type crash struct{ f *frame }

var errDiskFull = errors.New("model: the disk is full")

func (f *frame) note(format string, args ...any) {
	f.d.w.note(f.d.name+": "+format, args...)
}

func (f *frame) crash(where string) {
	f.note("crash: %s", where)
	f.d.w.counts[crashed+where]++
	f.crashed, f.troubled = true, true
	f.d.disk.dead = true // whatever is deferred stores nothing
	panic(crash{f})
}

// point is called at every crash point that anybody passes.
func (w *world) point(name string) {
	if len(w.busy) == 0 {
		return
	}
	f := w.busy[len(w.busy)-1]
	if f.step.Crash != name {
		return
	}
	f.passes++
	if f.passes != f.step.Passes+1 {
		return
	}
	if strings.HasPrefix(name, "tx-") || name == "keypackage-taken" {
		f.note("crash of the key server: %s", name)
		w.counts[crashed+name]++
		panic(http.ErrAbortHandler)
	}
	f.crash(name)
}

// write is called before and after each write of the device.
func (f *frame) write(done bool) error {
	at := f.writes
	if done {
		f.writes++
	}
	for _, x := range f.step.Faults {
		switch {
		case x.At != at:
		case x.Kind == crashBefore && !done, x.Kind == crashAfter && done:
			f.crash(x.Kind)
		case x.Kind == diskFull && !done:
			f.note("disk full")
			f.d.w.counts[diskFull]++
			f.troubled = true
			f.writes++
			return errDiskFull
		}
	}
	return nil
}

// inside has another device do something while an operation waits.
func (w *world) inside(f *frame) {
	if f.step.Meanwhile == nil || f.inner {
		return
	}
	f.troubled = true
	if f.blur != nil {
		f.blur() // what it brings about may be there before its answer is
	}
	s := *f.step.Meanwhile
	w.perform(&s)
}

// perform does one step.
func (w *world) perform(s *step) {
	op := steps[s.Op]
	if op == nil {
		w.fail("history: no operation %q", s.Op)
		return
	}
	u := w.actor(s)
	d := u.devices[s.D%len(u.devices)]
	if d.frame != nil {
		return // it is in the middle of something
	}
	f := &frame{d: d, step: s, inner: len(w.busy) > 0}
	f.note("%s", s)
	w.counts[s.Op]++
	w.do(f, func() { op(w, f) })
	if f.after != nil {
		f.after()
	}
	if w.liar != nil && !f.inner {
		w.do(&frame{d: d, step: &step{Op: "watch"}}, func() { w.liar.watch(d) })
	}
}

// do runs an operation with everything that its step says.
func (w *world) do(f *frame, op func()) {
	d := f.d
	d.frame, d.disk.update = f, f.write
	f.troubled = f.troubled || w.lying()
	w.busy = append(w.busy, f)
	defer func() {
		w.busy = w.busy[:len(w.busy)-1]
		d.frame, d.disk.update, d.disk.dead = nil, nil, false
		if v := recover(); v != nil {
			if c, ok := v.(crash); !ok || c.f != f {
				panic(v)
			}
			d.client = nil // what it held in memory is gone
			if f.blur != nil {
				f.blur()
			}
		}
	}()
	op()
}

// actor is who does a step: of groups, somebody who is in it, mostly.
func (w *world) actor(s *step) *user {
	if s.Op == "group" || s.Op == "remove" {
		if t := w.talks[groupID(s.C%groups)]; t != nil && s.N > 0 {
			if list := w.insiders(t); len(list) > 0 {
				return list[s.U%len(list)]
			}
		}
	}
	return w.users[s.U%len(w.users)]
}

// running gives the device's client, started or signed in where it is not.
func (f *frame) running(ctx context.Context) *cloudmls.Client {
	d := f.d
	if d.client != nil {
		return d.client
	}
	o, err := d.options()
	if err != nil {
		f.d.w.fail("options: %v", err)
		return nil
	}
	c, err := cloudmls.Resume(ctx, o)
	if errors.Is(err, cloudmls.ErrNewDevice) || errors.Is(err, cloudmls.ErrSignedOut) || errors.Is(err, cloudmls.ErrDropped) {
		return f.signIn(ctx)
	}
	switch {
	case f.check("resume", err):
		d.client = c
	case f.d.w.liar != nil && f.d.w.liar.ended && f.troubled:
		return f.signIn(ctx) // it was made anew
	}
	return d.client
}

// signIn uses the password.
func (f *frame) signIn(ctx context.Context) *cloudmls.Client { return f.signInOnce(ctx, true) }

func (f *frame) signInOnce(ctx context.Context, again bool) *cloudmls.Client {
	d := f.d
	if d.client != nil {
		if err := d.client.Close(); err != nil {
			d.w.fail("%s: close: %v", d.name, err)
		}
		d.client = nil
	}
	o, err := d.options()
	if err != nil {
		d.w.fail("options: %v", err)
		return nil
	}
	for _, p := range d.u.passwords {
		c, err := cloudmls.Open(ctx, d.u.name, p, o)
		if errors.Is(err, cloudmls.ErrCredentials) {
			f.note("%q is not the password", p)
			continue
		}
		if !f.check("sign in", err) {
			if d.w.liar != nil && d.w.liar.ended && len(d.disk.values) == 0 && again {
				return f.signInOnce(ctx, false) // it was made anew
			}
			return nil
		}
		d.u.passwords = []string{p}
		d.client = c
		return c
	}
	if !f.troubled {
		d.w.fail("%s: none of the passwords %q signs in", d.name, d.u.passwords)
	}
	return nil
}

// check judges the error of an operation; false where there is one. Some are
// never right; where nothing went wrong, there is none but those allowed.
func (f *frame) check(what string, err error, allowed ...error) bool {
	if err == nil {
		f.note("%s: ok (%d requests)", what, f.requests)
		f.d.w.counts[what+" ok"]++
		return true
	}
	f.note("%s: %v", what, err)
	w := f.d.w
	var rollback *cloudmls.RollbackError
	var changed *cloudmls.IdentityChangedError
	var bad *cloudmls.BadKeyPackageError
	switch {
	case w.liar.wayOut(f, err):
		return false
	case w.lying() && !errors.Is(err, cloudmls.ErrSignedOut) && !errors.Is(err, cloudmls.ErrDropped):
		return false // it says that something is wrong, and something is
	case errors.As(err, &rollback), errors.Is(err, cloudmls.ErrBroken), errors.Is(err, cloudmls.ErrSignInChanged),
		errors.As(err, &changed) && (!w.rotated || w.healthy), errors.As(err, &bad) && !w.skewed:
		w.fail("%s: %s: %v", f.d.name, what, err)
		return false
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrDropped):
		if f.d.client != nil {
			if err := f.d.client.Close(); err != nil {
				w.fail("%s: close: %v", f.d.name, err)
			}
			f.d.client = nil
		}
		f.troubled = true
		return false
	}
	var none *cloudmls.MissingKeyPackagesError
	if errors.As(err, &changed) {
		return false // a rotation is under way, or cut off
	}
	if (errors.As(err, &none) || errors.As(err, &bad)) && (w.skewed || w.away >= aged) {
		return false // KeyPackages end, and some devices' calendars are wrong
	}
	if errors.As(err, &none) && w.rotated && !w.healthy {
		return false // whose rotation was cut off has none until it is finished
	}
	if f.d.skew.Abs() > time.Hour && knowsNoTime(err) {
		return false
	}
	for _, a := range allowed {
		if errors.Is(err, a) {
			return false
		}
	}
	if (errors.Is(err, cloudmls.ErrNotMember) || errors.Is(err, cloudmls.ErrNoConversation)) && w.shutOut(f.d.u) {
		return false
	}
	if !f.troubled {
		w.fail("%s: %s, though nothing went wrong: %v", f.d.name, what, err)
	}
	return false
}

// knowsNoTime: what a device with a wrong clock cannot do. It makes no
// KeyPackages that count, and does not delete by time.
func knowsNoTime(err error) bool {
	var clocks *cloudmls.ClockError
	var p *keyapi.Problem
	return errors.As(err, &clocks) || errors.As(err, &p) && p.Code == keyapi.CodeInvalid && strings.Contains(p.Detail, "lifetime")
}
