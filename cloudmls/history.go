package cloudmls

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// historyRecord is the object history/instance: what is kept of a group's past
// epochs, and where. A group without one keeps everything, each epoch in an
// object of its own.
type historyRecord struct {
	Version int `json:"v"`
	// From is the first epoch that was not deleted.
	From uint64 `json:"from,omitempty"`
	// Dropped counts the archive keys that were destroyed.
	Dropped uint64 `json:"dropped,omitempty"`
	// Marks say when epochs were known to be over, oldest first. Epochs that
	// count from a mark on are deleted when it is as old as the policy says.
	Marks []historyMark `json:"marks,omitempty"`
	// Bundles hold several epochs each, ascending.
	Bundles []epochSpan `json:"bundles,omitempty"`
}

// historyMark: at At, milliseconds since 1970 by a clock that can be trusted
// (trustedTime), all epochs up to Epoch were over.
type historyMark struct {
	Epoch uint64 `json:"e"`
	At    int64  `json:"t"`
}

// epochSpan is a first and a last epoch.
type epochSpan [2]uint64

// bundleOf gives the first epoch of the bundle that holds an epoch.
func (h *historyRecord) bundleOf(n uint64) (first uint64, ok bool) {
	i, found := slices.BinarySearchFunc(h.Bundles, n, func(b epochSpan, n uint64) int { return cmp.Compare(b[0], n) })
	if !found {
		i--
	}
	if i < 0 || n > h.Bundles[i][1] {
		return 0, false
	}
	return h.Bundles[i][0], true
}

func (h *historyRecord) addBundle(s epochSpan) {
	i, _ := slices.BinarySearchFunc(h.Bundles, s[0], func(b epochSpan, n uint64) int { return cmp.Compare(b[0], n) })
	h.Bundles = slices.Insert(h.Bundles, i, s)
}

func (v *view) history(group []byte) (*historyRecord, error) {
	h := &historyRecord{Version: recordVersion}
	if _, err := v.read(historyKey(v.self, group), h); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return h, nil
}

// instance is one of the groups that serve or served a conversation.
type instance struct {
	conversation ConversationID
	group        []byte
	days         uint32      // 0: kept for ever
	spans        []epochSpan // of the epochs that this account was in, ascending
	open         bool        // the last epoch is still going on
}

// last is the newest epoch.
func (i *instance) last() uint64 { return i.spans[len(i.spans)-1][1] }

// over is the newest epoch that has ended, and false where there is none.
func (i *instance) over() (uint64, bool) {
	n := i.last()
	if !i.open {
		return n, true
	}
	return n - 1, n > i.spans[0][0]
}

// epochs calls fn for each epoch from one on up to another, until fn fails.
func (i *instance) epochs(from, to uint64, fn func(n uint64) error) error {
	for _, s := range i.spans {
		for n := max(from, s[0]); n <= min(to, s[1]); n++ {
			if err := fn(n); err != nil {
				return err
			}
			if n == ^uint64(0) {
				break
			}
		}
	}
	return nil
}

// instances lists the groups of a conversation, the present one last. A group
// that the account left and entered again is one instance.
func (r *conversationRecord) instances() []*instance {
	var all []*instance
	add := func(group []byte, days uint32, s epochSpan, open bool) {
		for _, i := range all {
			if string(i.group) == string(group) {
				i.spans, i.open = append(i.spans, s), open
				return
			}
		}
		all = append(all, &instance{conversation: r.ID, group: group, days: days, spans: []epochSpan{s}, open: open})
	}
	for _, p := range r.Past {
		add(p.Group, p.Days, epochSpan{p.JoinEpoch, p.Epoch}, false)
	}
	add(r.Group, r.Days, epochSpan{r.JoinEpoch, r.Epoch}, r.Removed == 0)
	return all
}

func (r *conversationRecord) instance(group []byte) *instance {
	for _, i := range r.instances() {
		if string(i.group) == string(group) {
			return i
		}
	}
	return nil
}

// checkHistory refuses a policy that a conversation does not have; 0 is any, and
// so is one of a conversation that does not exist.
func (r *conversationRecord) checkHistory(want uint32) error {
	if r == nil || len(r.Group) == 0 || want == 0 || want == r.Days {
		return nil
	}
	return &HistoryError{Have: r.Days, Want: want}
}

// boundTo gives what a group is bound to.
func boundTo(g *mls.Group) (binding, error) {
	p, ok := g.Extension(extensionBinding)
	if !ok {
		return binding{}, errBinding
	}
	return parseBinding(p)
}

// endOfMonth is when a month, as in state.Shelf, is over in all time zones that
// a user may count by.
func endOfMonth(month string) (time.Time, error) {
	t, err := time.Parse("2006-01", month)
	if err != nil {
		return time.Time{}, fmt.Errorf("month of an archive key: %w", err)
	}
	return t.AddDate(0, 1, 0).Add(12 * time.Hour), nil
}
