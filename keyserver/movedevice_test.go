package keyserver_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

var (
	errLate = errors.New("no answer came")
	errOver = errors.New("the run is over")
)

// moveDevice is one device; between its requests others are served.
type moveDevice struct {
	*moveModel
	yield func(struct{}) bool
	known int // the store that it met last
}

// send is one request. It is served at once, or late, or both, and the answer may
// get lost. One that only reads is never late for the store.
func (d *moveDevice) send(what string, reads bool, f func() error) error {
	if !d.yield(struct{}{}) {
		panic(errOver)
	}
	once := func() error {
		err := f()
		if reads {
			return err
		}
		if err == nil {
			d.counts[what]++
		} else {
			d.counts[what+" refused"]++
		}
		d.check()
		return err
	}
	if d.calm || reads {
		return once()
	}
	sides := 8
	if what == keyapi.MoveGo { // of which most depends
		sides = 4
	}
	switch d.r.IntN(sides) {
	case 0, 1:
		d.late = append(d.late, func() { _ = once() })
		return errLate
	case 2:
		d.late = append(d.late, func() { _ = once() })
		return once()
	case 3:
		_ = once()
		return errLate
	}
	return once()
}

func (d *moveDevice) step(at int, s keyapi.StoreMove) error {
	return d.send(s.Change, false, func() error {
		err := d.shelf[at].step(s)
		d.log = append(d.log, event{at, s, err})
		return err
	})
}

func (d *moveDevice) placeAt(i int) (p keyapi.StorePlace) {
	_ = d.send("place", true, func() error { p = d.shelf[i].place(); return nil })
	return p
}

func (d *moveDevice) directions() (to heading) {
	_ = d.send("directions", true, func() error { to = d.to; return nil })
	return to
}

// redirect replaces the directions unless others were faster.
func (d *moveDevice) redirect(seen uint64, at, next int) bool {
	if d.to.counter != seen {
		return false
	}
	d.to.counter, d.to.at, d.to.next = seen+1, at, next
	if next >= 0 {
		d.to.move = seen + 1
	}
	d.log = append(d.log, event{at, keyapi.StoreMove{Change: fmt.Sprint("directions to ", next), Move: d.to.counter}, nil})
	return true
}

// name begins a move.
func (d *moveDevice) name(target int) {
	to := d.directions()
	if to.next >= 0 || to.at == target {
		return
	}
	if p := d.placeAt(to.at); p.Place == keyapi.PlaceHere {
		d.redirect(to.counter, to.at, target)
	}
}

// giveUp ends the move that is under way, unless it is decided.
func (d *moveDevice) giveUp() {
	to := d.directions()
	if to.next < 0 || !d.redirect(to.counter, to.at, -1) {
		return
	}
	for range 3 {
		err := d.step(to.at, keyapi.StoreMove{Change: keyapi.MoveStay, Move: to.move})
		if err == nil {
			_ = d.step(to.next, keyapi.StoreMove{Change: keyapi.MoveAbandon, Move: to.move})
		}
		if err == nil || !errors.Is(err, errLate) || d.r.IntN(3) == 0 { // or it dies
			return
		}
	}
}

// resume looks where the state is, and takes the next steps.
func (d *moveDevice) resume() {
	to := d.directions()
	at := d.placeAt(to.at)
	if to.next < 0 {
		switch at.Place {
		case keyapi.PlaceLeaving: // who gave it up has died, or is about to say so
			_ = d.step(to.at, keyapi.StoreMove{Change: keyapi.MoveStay, Move: at.Move})
		case keyapi.PlaceGone:
			d.settle(to, at)
		}
		return
	}
	switch {
	case at.Place == keyapi.PlaceHere:
		if d.r.IntN(2) == 0 { // whether there is room, before anybody waits
			_ = d.step(to.next, keyapi.StoreMove{Change: keyapi.MoveArrive, Move: to.move})
		}
		err := d.step(to.at, keyapi.StoreMove{Change: keyapi.MoveLeave, Move: to.move, To: storeURL(to.next)})
		if err != nil && !errors.Is(err, errLate) && d.placeAt(to.at).Place == keyapi.PlaceHere {
			d.giveUp() // it was ended before it began
		}
	case at.Place == keyapi.PlaceLeaving && at.Move == to.move:
		d.copyOver(to.at, to.next, to.move)
	case at.Place == keyapi.PlaceLeaving && at.Move < to.move:
		_ = d.step(to.at, keyapi.StoreMove{Change: keyapi.MoveStay, Move: at.Move})
	case at.Place == keyapi.PlaceGone: // if by another move, it was seen through while others gave it up
		d.settle(to, at)
	}
}

// settle goes over to the store that a move went to.
func (d *moveDevice) settle(to heading, at keyapi.StorePlace) {
	next := d.indexOf(at.To)
	if d.step(next, keyapi.StoreMove{Change: keyapi.MoveUse, Move: at.Move}) == nil {
		d.redirect(to.counter, next, -1)
	}
}

func (d *moveDevice) readAt(i int) (o []keyapi.Object, err error) {
	err = d.send("read", true, func() (err error) { o, err = d.shelf[i].read(); return err })
	return o, err
}

func (d *moveDevice) copyOver(from, target int, n uint64) {
	objects, err := d.readAt(from)
	if err != nil {
		return
	}
	hash := indexHash(objects)
	there := d.placeAt(target)
	opened := there.Place == keyapi.PlaceHere && there.Move == n
	if there.Place == keyapi.PlaceHere && there.Objects > 0 && !opened {
		if there.Move != 0 && there.Move < n { // of a move that was given up
			_ = d.step(target, keyapi.StoreMove{Change: keyapi.MoveAbandon, Move: there.Move})
		}
		return
	}
	if !opened {
		size := int64(0)
		for _, o := range objects {
			size += int64(len(o.Data))
		}
		if d.step(target, keyapi.StoreMove{Change: keyapi.MoveArrive, Move: n, Objects: len(objects), Bytes: size}) != nil {
			return
		}
		for _, o := range objects {
			bring := func() error { return d.shelf[target].bring(keyapi.StoreImport{Move: n, Objects: []keyapi.Object{o}}) }
			if d.send("import", false, bring) != nil {
				return
			}
		}
		if d.step(target, keyapi.StoreMove{Change: keyapi.MoveOpen, Move: n, IndexHash: hash}) != nil {
			return
		}
	}
	if copied, err := d.readAt(target); err != nil || !slices.Equal(indexHash(copied), hash) {
		return
	}
	if to := d.directions(); to.next < 0 || to.move != n {
		return
	}
	_ = d.step(from, keyapi.StoreMove{Change: keyapi.MoveGo, Move: n, IndexHash: hash})
}

// write changes the state where the device met it last, or where that store sends
// it; it was away meanwhile.
func (d *moveDevice) write() {
	if d.r.IntN(6) == 0 {
		d.known = d.directions().at
	}
	_ = d.send("write", true, func() error {
		if p := d.shelf[d.known].place(); p.Place == keyapi.PlaceGone {
			d.known = d.indexOf(p.To)
		}
		at := d.known
		id := objectID(fmt.Sprint(d.r.IntN(4)))
		o := keyapi.Object{ID: id, Counter: d.latest[id].Counter + 1, Data: fmt.Append(nil, d.r.Uint64())}
		err := d.shelf[at].write(o)
		if err == nil {
			d.latest[id], d.hash = o, nil
			d.counts["written"]++
			d.log = append(d.log, event{at, keyapi.StoreMove{Change: "written"}, nil})
		}
		return err
	})
}
