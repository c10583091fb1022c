package keyserver

import (
	"context"
	"math/rand/v2"
	"time"
)

// answerStep is the grid that answers about user names are given on, measured
// from their requests.
const answerStep = 2 * time.Millisecond

// evenly makes the answers of a route leave at whole steps after the request
// came, and up to one more at random. What a store does for a user who is there,
// and need not do for one who is not, is some microseconds: the grid takes them
// away, and the random part what timers, which are not exact, leave of them.
func evenly[I, O any](handler func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		begin := time.Now()
		out, err := handler(ctx, in)
		timer := time.NewTimer(answerStep - time.Since(begin)%answerStep + rand.N(answerStep))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done(): // nobody is there to see it
		}
		return out, err
	}
}
