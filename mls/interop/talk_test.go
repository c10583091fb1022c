package interop

import (
	"bytes"
	"fmt"
	"slices"
)

// talk lets a member of each side send messages in the current epoch,
// and all others read them in an order of their own, some only in a later
// epoch. Those who were removed read nothing.
func (w *world) talk() {
	w.t.Helper()
	senders := []member{w.pick(side(true)), w.pick(side(false))}
	var sent []message
	for _, m := range senders {
		for range 1 + w.rand.IntN(2) {
			text := fmt.Appendf(nil, "message %d of epoch %d by %s", len(sent), w.epoch, m.name())
			text = append(text, make([]byte, w.rand.IntN(100))...)
			sealed, err := m.protect(text)
			w.check(err, "%s sends", m.name())
			sent = append(sent, message{from: m.name(), epoch: w.epoch, sealed: sealed, plaintext: text})
		}
	}
	for _, m := range w.members {
		list := w.late[m]
		for _, x := range sent {
			if x.from != m.name() {
				list = append(list, x)
			}
		}
		w.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		keep := w.rand.IntN(1 + len(list)/4)
		w.late[m] = slices.Clone(list[:keep])
		w.read(m, list[keep:])
	}
	if len(w.removed) > 0 {
		m := w.removed[w.rand.IntN(len(w.removed))]
		if _, err := m.open(sent[0].sealed); err == nil {
			w.t.Fatalf("epoch %d: %s was removed and reads on", w.epoch, m.name())
		}
	}
}

func (w *world) read(m member, list []message) {
	w.t.Helper()
	for _, x := range list {
		text, err := m.open(x.sealed)
		w.check(err, "%s reads a message of %s in epoch %d", m.name(), x.from, x.epoch)
		if !bytes.Equal(text, x.plaintext) {
			w.t.Fatalf("epoch %d: %s reads %q, %s sent %q", w.epoch, m.name(), text, x.from, x.plaintext)
		}
		w.opened++
	}
}

// readAll delivers everything that is late.
func (w *world) readAll() {
	w.t.Helper()
	for _, m := range w.members {
		w.read(m, w.late[m])
		delete(w.late, m)
	}
}
