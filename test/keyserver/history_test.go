package keyserver

import (
	"math"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// history collects what clients did and were told, by the thing it was about:
// things that share nothing are checked apart.
type history struct {
	begin time.Time
	mu    sync.Mutex
	ops   map[string][]porcupine.Operation
}

func newHistory() *history {
	return &history{begin: time.Now(), ops: map[string][]porcupine.Operation{}}
}

func (h *history) now() int64 { return int64(time.Since(h.begin)) }

// add records an operation that was begun at call and is answered now.
func (h *history) add(thing string, client int, call int64, input, output any) {
	h.record(thing, client, call, h.now(), input, output)
}

// unknown records an operation that may have its effect at any later time, or
// never.
func (h *history) unknown(thing string, client int, call int64, input, output any) {
	h.record(thing, client, call, math.MaxInt64, input, output)
}

func (h *history) record(thing string, client int, call, end int64, input, output any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[thing] = append(h.ops[thing], porcupine.Operation{ClientId: client, Input: input, Call: call, Output: output, Return: end})
}

// checkTime bounds the search for an order; it takes some milliseconds.
const checkTime = 20 * time.Second

func (h *history) check(t *testing.T, things map[string]porcupine.Model) {
	t.Helper()
	for thing, model := range things {
		ops := h.ops[thing]
		if len(ops) == 0 {
			t.Errorf("%s: nothing happened", thing)
			continue
		}
		switch porcupine.CheckOperationsTimeout(model, ops, checkTime) {
		case porcupine.Illegal:
			t.Errorf("%s: %d operations have no order in which they can have happened", thing, len(ops))
			for _, op := range ops {
				t.Logf("%12d %12d client %d: %+v → %+v", op.Call, op.Return, op.ClientId, op.Input, op.Output)
			}
		case porcupine.Unknown:
			t.Errorf("%s: no order of %d operations was found in time", thing, len(ops))
		case porcupine.Ok:
			t.Logf("%s: %d operations are linearizable", thing, len(ops))
		}
	}
}
