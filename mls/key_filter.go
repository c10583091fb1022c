package mls

// keyFilter is a small set of public keys against which many others are held.
// Almost all of those are told apart by two of their bytes, without hashing:
// a tree has thousands of keys, and a Commit changes a handful.
type keyFilter struct {
	maybe [1 << 16 / 64]uint64 // by two bytes of a key
	keys  map[string]bool
}

func newKeyFilter() *keyFilter { return &keyFilter{keys: map[string]bool{}} }

// slot is the place of a key in maybe: two bytes from its middle, which are
// random in honest keys of all suites. Who makes others only costs time.
func slot(key []byte) (word int, bit uint64) {
	i := 0
	if n := len(key); n >= 2 {
		i = int(key[n/2]) | int(key[n/2-1])<<8
	}
	return i / 64, 1 << (i % 64)
}

// add adds a key and reports whether it was new.
func (f *keyFilter) add(key []byte) bool {
	if f.has(key) {
		return false
	}
	word, bit := slot(key)
	f.maybe[word] |= bit
	f.keys[string(key)] = true
	return true
}

func (f *keyFilter) has(key []byte) bool {
	word, bit := slot(key)
	return f.maybe[word]&bit != 0 && f.keys[string(key)]
}
