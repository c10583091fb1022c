//go:build crashpoints && weakkdf

package model

import (
	"context"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
)

// shutReason is why somebody refuses to be added again: docs/spec/sdk.md, repair
// requests.
const shutReason = "entered by people unknown here"

// shutOut notes which conversations the user of a device refuses to enter again,
// and tells whether there are any. The others count the user in.
func (w *world) shutOut(u *user) (any bool) {
	for _, d := range u.devices {
		if d.client == nil {
			continue
		}
		s, err := d.client.Status(context.Background(), u.self)
		if err != nil {
			continue // it is signed out, or its disk fails; others tell
		}
		for _, p := range s.Problems {
			t := w.talks[p.Conversation]
			if p.Kind != cloudmls.ProblemForbidden || !strings.Contains(p.Reason, shutReason) || t == nil {
				continue
			}
			if any = true; !t.shut[u.self] {
				w.counts["shut out"]++
			}
			t.shut[u.self], t.left[u.self], t.members[u.self] = true, true, maybe
		}
	}
	return any
}
