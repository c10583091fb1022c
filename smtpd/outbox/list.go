package outbox

import (
	"cmp"
	"slices"
)

// List returns the entries that wait, the oldest first.
func (q *Queue) List() []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Entry, 0, len(q.entries))
	for _, e := range q.entries {
		all = append(all, e.clone())
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.key(), b.key()))
	})
	return all
}
