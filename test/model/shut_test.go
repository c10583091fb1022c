//go:build crashpoints && weakkdf

package model

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// Why somebody refuses to be added again: docs/spec/sdk.md, "Who lost track of a
// group" and "Another group for a conversation".
const (
	shutReason    = "entered by people unknown here"
	anotherReason = "a new group for a known conversation must not add anybody"
)

// refuses tells whether a noted problem is that the user would not be added again
// to a conversation, which only those do who were out of it.
func (w *world) refuses(u *user, p cloudmls.NotedProblem) bool {
	t := w.talks[p.Conversation]
	if t == nil || p.Kind != cloudmls.ProblemForbidden || !t.away[u.self] {
		return false
	}
	return strings.Contains(p.Reason, shutReason) || t.replaced && strings.Contains(p.Reason, anotherReason)
}

// shutOut notes which conversations the user of a device refuses to enter again,
// and tells whether there are any. The others count the user in.
func (w *world) shutOut(u *user) (any bool) {
	for _, d := range u.devices {
		if d.client == nil {
			continue
		}
		s, err := d.status()
		if err != nil {
			continue // it is signed out, or its disk fails, or is waiting; others tell
		}
		for _, p := range s.Problems {
			if !w.refuses(u, p) {
				continue
			}
			t := w.talks[p.Conversation]
			if any = true; !t.shut[u.self] {
				w.counts["shut out"]++
			}
			t.shut[u.self], t.left[u.self], t.members[u.self] = true, true, maybe
		}
	}
	return any
}

// untold tells whether a device of the user is down, which may be the one that knows
// what the user refuses to enter again.
func (u *user) untold() bool {
	return slices.ContainsFunc(u.devices, func(d *device) bool { return d.client == nil })
}

// status asks a device how it fares. One that waits for the answer to a request, in
// the midst of which this happens, has nobody to answer as long as it is asked: what
// it needs may be held by the very operation that waits.
func (d *device) status() (cloudmls.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return d.client.Status(ctx, d.u.self)
}

// stuck tells whether nothing can be written because somebody who does not enter
// the group again, and so renews no leaf in it, has replaced the identity key: the
// others have to remove them.
func (t *talk) stuck(blocked error) bool {
	var changed *cloudmls.IdentityChangedError
	return errors.As(blocked, &changed) && changed.Retired && t.shut[changed.Account]
}
