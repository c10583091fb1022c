package mls

import (
	"slices"
	"sync/atomic"
)

// chunkSize is how many elements of a chunked array are copied together. It is
// a power of two that divides 2*hashedTogether.
const chunkSize = 32

// chunked is an array whose clones share what none of them has changed since:
// a clone costs a pointer for each chunk, the first change in a chunk a copy of
// that chunk. Neither sees what the other changes. An array may be read and
// cloned by several goroutines as long as none changes it, and be changed by
// several if each keeps to chunks of its own.
type chunked[T any] struct {
	chunks []*chunk[T]
	n      int
	owner  atomic.Pointer[owner] // of the chunks that may be changed; nil after a clone was taken
}

type chunk[T any] struct {
	owner *owner
	items [chunkSize]T
}

// owner tells arrays apart; it is not empty because each must have an address
// of its own.
type owner struct{ _ byte }

// newChunked returns an array of n zero elements.
func newChunked[T any](n int) *chunked[T] {
	c := new(chunked[T])
	c.resize(n)
	return c
}

func (c *chunked[T]) clone() *chunked[T] {
	c.owner.Store(nil)
	return &chunked[T]{chunks: slices.Clone(c.chunks), n: c.n}
}

// at returns element i to be read only. It is good until the element is changed.
func (c *chunked[T]) at(i int) *T { return &c.chunks[i/chunkSize].items[i%chunkSize] }

// change returns element i to be changed, before anything else is done with
// the array.
func (c *chunked[T]) change(i int) *T {
	me := c.owner.Load()
	if me == nil {
		c.owner.CompareAndSwap(nil, new(owner))
		me = c.owner.Load()
	}
	k := c.chunks[i/chunkSize]
	if k.owner != me {
		k = &chunk[T]{owner: me, items: k.items}
		c.chunks[i/chunkSize] = k
	}
	return &k.items[i%chunkSize]
}

// resize cuts the array off at n elements, or fills it up with zero elements.
func (c *chunked[T]) resize(n int) {
	var zero T
	for i := n; i < c.n && i%chunkSize != 0; i++ {
		*c.change(i) = zero
	}
	count := (n + chunkSize - 1) / chunkSize
	if count < len(c.chunks) {
		c.chunks = c.chunks[:count:count]
	}
	for len(c.chunks) < count {
		c.chunks = append(c.chunks, new(chunk[T]))
	}
	c.n = n
}
