package keyserver

// recent is a map of bounded size that forgets what was not put for longest,
// roughly: when the young half is full the old one goes. No entry costs more
// than another, however many there are.
type recent[K comparable, V any] struct {
	half       int // entries of each of the two
	young, old map[K]V
}

func newRecent[K comparable, V any](size int) recent[K, V] {
	return recent[K, V]{half: max(size/2, 1), young: map[K]V{}, old: map[K]V{}}
}

// get gives the zero V for what is not there.
func (r *recent[K, V]) get(k K) (v V, ok bool) {
	if v, ok = r.young[k]; !ok {
		v, ok = r.old[k]
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, known := r.young[k]; !known && len(r.young) >= r.half {
		r.old, r.young = r.young, map[K]V{}
	}
	r.young[k] = v
}

func (r *recent[K, V]) remove(k K) {
	delete(r.young, k)
	delete(r.old, k)
}
