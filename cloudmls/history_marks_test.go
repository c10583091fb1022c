package cloudmls

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// TestHistoryMarks: when epochs were over is noted at intervals, never later than it
// was, and what is due is what was over for as long as the policy says.
func TestHistoryMarks(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(days int) time.Time { return start.Add(time.Duration(days) * day) }
	mark := func(epoch uint64, days int) historyMark { return historyMark{epoch, at(days).UnixMilli()} }
	open := func(days uint32, first, last uint64) *instance {
		return &instance{days: days, spans: []epochSpan{{first, last}}, open: true}
	}
	closed := open(32, 2, 5)
	closed.open = false
	for name, c := range map[string]struct {
		before  historyRecord
		i       *instance
		at      int
		want    []historyMark
		changed bool
	}{
		"nothing is over":         {historyRecord{}, open(32, 5, 5), 0, nil, false},
		"the first":               {historyRecord{}, open(32, 2, 5), 0, []historyMark{mark(4, 0)}, true},
		"of a group that ended":   {historyRecord{}, closed, 0, []historyMark{mark(5, 0)}, true},
		"known already":           {historyRecord{Marks: []historyMark{mark(4, 0)}}, open(32, 2, 5), 9, []historyMark{mark(4, 0)}, false},
		"too soon after":          {historyRecord{Marks: []historyMark{mark(3, 0)}}, open(32, 2, 5), 1, []historyMark{mark(3, 0)}, false},
		"a sixteenth after":       {historyRecord{Marks: []historyMark{mark(3, 0)}}, open(32, 2, 5), 2, []historyMark{mark(3, 0), mark(4, 2)}, true},
		"a day after, of few":     {historyRecord{Marks: []historyMark{mark(3, 0)}}, open(1, 2, 5), 1, []historyMark{mark(3, 0), mark(4, 1)}, true},
		"all of it deleted":       {historyRecord{From: 5}, open(32, 2, 5), 9, nil, false},
		"of the future":           {historyRecord{Marks: []historyMark{mark(4, 90)}}, open(32, 2, 5), 3, []historyMark{mark(4, 3)}, true},
		"of clocks a day apart":   {historyRecord{Marks: []historyMark{mark(4, 4)}}, open(32, 2, 5), 3, []historyMark{mark(4, 4)}, false},
		"of the future, and more": {historyRecord{Marks: []historyMark{mark(3, 90)}}, open(32, 2, 5), 3, []historyMark{mark(3, 3)}, true},
	} {
		h := c.before
		if changed := h.mark(c.i, at(c.at)); changed != c.changed || !slices.Equal(h.Marks, c.want) {
			t.Errorf("%s: %v, %v; want %v", name, changed, h.Marks, c.want)
		}
	}
	h := &historyRecord{From: 2, Marks: []historyMark{mark(3, 0), mark(7, 4), mark(9, 8)}}
	for days, want := range map[int]uint64{9: 2, 10: 4, 13: 4, 14: 8, 17: 8, 18: 10, 90: 10} {
		if got := h.due(open(10, 0, 12), at(days)); got != want {
			t.Errorf("after %d days: due up to %d, want %d", days, got, want)
		}
	}
}

// TestDeleteEpochs: exactly what is due goes, records and bundles, in steps; a bundle
// stays as long as one of its epochs does, and marks of what is gone go, too.
func TestDeleteEpochs(t *testing.T) {
	t.Parallel()
	self := account("alice")
	deleted := func(i *instance, h *historyRecord, from uint64) (names map[string]bool, more bool) {
		t.Helper()
		v := &view{self: self, source: func(state.Key) ([]byte, error) { return nil, state.ErrNotFound }, puts: map[state.Key][]byte{}}
		more, err := deleteEpochs(v, i, h, from)
		if err != nil {
			t.Fatal(err)
		}
		names = map[string]bool{}
		for k, b := range v.puts {
			if b != nil || k.Account != self {
				t.Fatalf("%+v is put", k)
			}
			names[k.Name] = true
		}
		return names, more
	}
	group := []byte{1}
	i := &instance{group: group, days: 1, spans: []epochSpan{{3, 20}}}
	h := &historyRecord{From: 5, Bundles: []epochSpan{{3, 6}, {7, 8}, {9, 12}}, Marks: []historyMark{{8, 1}, {10, 2}, {11, 3}}}
	names, more := deleted(i, h, 11)
	if more || len(names) != 8 || !names["01/5"] || !names["01/10"] || names["01/11"] || !names["01/3+"] || !names["01/7+"] || names["01/9+"] {
		t.Errorf("%v, more %v", names, more)
	}
	if h.From != 11 || !slices.Equal(h.Bundles, []epochSpan{{9, 12}}) || !slices.Equal(h.Marks, []historyMark{{11, 3}}) {
		t.Errorf("%+v", h)
	}
	i = &instance{group: group, days: 1, spans: []epochSpan{{0, 3 * purgeStep}}}
	h = &historyRecord{Bundles: []epochSpan{{purgeStep - 2, purgeStep}}, Marks: []historyMark{{2 * purgeStep, 1}}}
	all := map[string]bool{}
	for n := range 3 {
		names, more := deleted(i, h, 2*purgeStep+1)
		if more != (n < 2) || len(names) > purgeStep+1 || n == 0 && (h.From != purgeStep || len(h.Bundles) != 1 || len(h.Marks) != 1) {
			t.Fatalf("step %d: %d deleted, more %v, %+v", n, len(names), more, h)
		}
		for name := range names {
			if all[name] {
				t.Errorf("%s is deleted twice", name)
			}
			all[name] = true
		}
	}
	if h.From != 2*purgeStep+1 || len(all) != 2*purgeStep+2 || len(h.Bundles) != 0 {
		t.Errorf("%d deleted, %+v", len(all), h)
	}
}

// TestStuckGroup: only a group that broke, that serves the conversation and whose
// epoch is idle is over without an end.
func TestStuckGroup(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		change func(*conversationRecord)
		want   bool
	}{
		"as it is":          {func(*conversationRecord) {}, true},
		"not broken":        {func(r *conversationRecord) { r.Broken = "" }, false},
		"removed":           {func(r *conversationRecord) { r.Removed = 1 }, false},
		"another group":     {func(r *conversationRecord) { r.Group = []byte{2} }, false},
		"of a week":         {func(r *conversationRecord) { r.Updated = now.Add(-7 * day).UnixMilli() }, true},
		"of less":           {func(r *conversationRecord) { r.Updated = now.Add(-7*day + time.Second).UnixMilli() }, false},
		"kept for ten days": {func(r *conversationRecord) { r.Days, r.Updated = 10, now.Add(-9*day).UnixMilli() }, false},
		"of the next year":  {func(r *conversationRecord) { r.Updated = now.Add(300 * day).UnixMilli() }, true},
		"of clocks an hour": {func(r *conversationRecord) { r.Updated = now.Add(time.Hour).UnixMilli() }, false},
	} {
		r := &conversationRecord{Broken: "x", Group: []byte{1}, Days: 4, Updated: now.Add(-12 * day).UnixMilli()}
		c.change(r)
		if got := r.stuck(&instance{group: []byte{1}}, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
