//go:build crashpoints && weakkdf

package model

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// headType is the first octet of the id of a user's head (docs/spec/cms1.md).
const headType = 2

// headSeen is the head of a user's state as a device was shown it.
type headSeen struct {
	counter uint64
	data    string // its hash; "": not known
}

// hears notes which heads a device is shown, and whether one is older than, or another
// than, what it has once brought itself up to date with.
func (l *liar) hears(d *device, e *evil.Exchange) {
	f := d.frame
	if f == nil || e.Status != http.StatusOK || e.Method == http.MethodPost && e.Path != "/v1/objects" {
		return
	}
	var heads []headSeen
	switch {
	case evil.ToIndex(e):
		var x keyapi.ObjectIndex
		if json.Unmarshal(e.Answered, &x) != nil {
			return
		}
		for _, o := range x.Objects {
			if o.ID[0] == headType {
				heads = append(heads, headSeen{o.Counter, string(o.Hash)})
			}
		}
	case evil.ToObjects(e):
		var x keyapi.ObjectList
		if json.Unmarshal(e.Answered, &x) != nil {
			return
		}
		for _, o := range x.Objects {
			if o.ID[0] == headType {
				heads = append(heads, headSeen{counter: o.Counter})
			}
		}
	}
	for _, h := range heads {
		if h.counter < d.head.counter || h.counter == d.head.counter && h.data != "" && d.head.data != "" && h.data != d.head.data {
			f.rolled = true
		}
		if h.counter > f.head.counter || h.counter == f.head.counter && h.data != "" {
			f.head = h
		}
	}
}

// synced notes that a device says that it is up to date.
func (l *liar) synced(f *frame) {
	if l == nil || f.crashed {
		return
	}
	if f.rolled {
		l.w.fail("%s: was shown an older state, or another one, than it had seen, and says that it is up to date", f.d.name)
	}
	if slices.ContainsFunc(l.lies, func(x *lie) bool { return x.to(f.d.name) }) {
		if f.head.counter >= f.d.head.counter {
			f.d.head = f.head
		}
		return
	}
	for id, o := range l.now(f.d.u.name) { // it is not told the head that it knows
		if sum := sha256.Sum256(o.Data); id[0] == headType {
			f.d.head = headSeen{o.Counter, string(sum[:])}
		}
	}
}

// shown is where a device has shown a conversation to be.
type shown struct {
	epochs map[string]uint64 // by group
	group  string
	gone   map[string]bool // groups that served it before
}

// remembers: what a device has shown of conversations it does not forget, nor go back
// behind.
func (l *liar) remembers(d *device) {
	list, err := d.client.Conversations(context.Background(), d.u.self)
	if err != nil {
		return // it reads nothing now
	}
	here := map[cloudmls.ConversationID]bool{}
	for _, s := range list {
		here[s.ID] = true
		x := d.shown[s.ID]
		if x == nil {
			x = &shown{epochs: map[string]uint64{}, gone: map[string]bool{}}
			d.shown[s.ID] = x
		}
		group := string(s.Group)
		switch {
		case x.gone[group]:
			l.w.fail("%s: is back in a group of %s that another one had taken the place of", d.name, s.ID)
		case x.group != "" && x.group != group:
			x.gone[x.group] = true
		case s.Epoch < x.epochs[group]:
			l.w.fail("%s: is back in epoch %d of %s, after %d", d.name, s.Epoch, s.ID, x.epochs[group])
		}
		x.group, x.epochs[group] = group, max(x.epochs[group], s.Epoch)
	}
	for id := range d.shown {
		if !here[id] {
			l.w.fail("%s: has forgotten conversation %s", d.name, id)
		}
	}
}
