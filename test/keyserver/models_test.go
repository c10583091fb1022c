package keyserver

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// Objects: two of them, written together by every transaction.
type (
	pairState struct {
		counter uint64
		value   string
	}
	putPair  struct{ next pairState }
	readPair struct{}
	// refused is a conflict; have is the counter of both.
	refused struct{ have uint64 }
	// torn is a pair that was not written together.
	torn struct{ a, b pairState }
)

func pairModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return pairState{} },
		Step: func(state, input, output any) (bool, any) {
			s := state.(pairState)
			switch out := output.(type) {
			case nil: // accepted
				next := input.(putPair).next
				return next.counter == s.counter+1, next
			case refused:
				return out.have == s.counter && input.(putPair).next.counter != s.counter+1, s
			case pairState:
				return out == s, s
			}
			return false, s // torn
		},
	}
}

// Commits of a group: texts of those that opened epochs 1, 2 and so on.
type (
	groupState struct{ texts string } // joined by spaces
	commitOne  struct {
		epoch uint64
		text  string
	}
	commitTaken struct {
		current uint64
		winner  string // empty: not told
	}
	readEpoch struct{}
)

func (g groupState) list() []string { return strings.Fields(g.texts) }

func groupModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return groupState{} },
		Step: func(state, input, output any) (bool, any) {
			s := state.(groupState)
			opened := s.list()
			switch out := output.(type) {
			case nil:
				in := input.(commitOne)
				return in.epoch == uint64(len(opened)), groupState{s.texts + " " + in.text}
			case commitTaken:
				in := input.(commitOne)
				ok := in.epoch < uint64(len(opened)) && out.current == uint64(len(opened))
				return ok && (out.winner == "" || out.winner == opened[in.epoch]), s
			case uint64:
				return out == uint64(len(opened)), s
			}
			return false, s
		},
	}
}

// An inbox: what was ever delivered, and how much of it is acknowledged.
type (
	inboxState struct {
		texts string
		acked int
	}
	deliverOne struct{ text string }
	readInbox  struct{}
	ackUntil   struct{ seq int }
	// page is an inbox as it was read: texts by number, last the highest given.
	page struct {
		texts string // "1=a 2=b"
		last  int
	}
)

func inboxModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return inboxState{} },
		Step: func(state, input, output any) (bool, any) {
			s := state.(inboxState)
			switch in := input.(type) {
			case deliverOne:
				return true, inboxState{s.texts + " " + in.text, s.acked}
			case ackUntil:
				return in.seq <= len(strings.Fields(s.texts)), inboxState{s.texts, max(s.acked, in.seq)}
			case readInbox:
				all := strings.Fields(s.texts)
				var waiting []string
				for i := s.acked; i < len(all); i++ {
					waiting = append(waiting, fmt.Sprint(i+1, "=", all[i]))
				}
				return output.(page) == page{strings.Join(waiting, " "), len(all)}, s
			}
			return false, s
		},
	}
}

// A pool of KeyPackages 0, 1 and so on, handed out in this order.
type (
	claimOne  struct{}
	claimed   struct{ n int } // -1: the last-resort one
	claimLost struct{}        // the answer was lost: one may be gone
)

func poolModel(size int) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{0} },
		Step: func(state, _, output any) []any {
			next := state.(int)
			switch out := output.(type) {
			case claimLost:
				if next < size {
					return []any{next, next + 1}
				}
				return []any{next}
			case claimed:
				if out.n == -1 && next == size {
					return []any{next}
				}
				if out.n == next && next < size {
					return []any{next + 1}
				}
			}
			return nil
		},
	}
	return m.ToModel()
}
