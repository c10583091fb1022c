package overlay

import (
	"fmt"
	"io"
	"slices"
	"sort"
)

// Spool keeps octets until they are sent: written in order, read at random.
type Spool interface {
	io.Writer
	io.ReaderAt
}

// Content is the content of a View, of which large ranges are read completely
// into a spool before any octet of them is served: a View may find out at its
// last octet that what the provider stores was altered. Every octet is read
// from the View at most once, so the spool never outgrows it. Not safe for
// concurrent use.
type Content struct {
	view    *View
	spool   Spool
	size    int64    // of what was written to spool
	extents []extent // what spool holds: ascending, disjoint
}

// extent is n octets of the content from off, in the spool from at.
type extent struct{ off, n, at int64 }

// NewContent returns the content of a View. The spool must be empty, and stay
// valid for as long as the content is used.
func NewContent(v *View, s Spool) *Content { return &Content{view: v, spool: s} }

// Spooled returns the number of octets in the spool.
func (c *Content) Spooled() int64 { return c.size }

// find returns the index of the first extent that ends behind off.
func (c *Content) find(off int64) int {
	return sort.Search(len(c.extents), func(i int) bool { return c.extents[i].off+c.extents[i].n > off })
}

// fill brings a range into the spool. An error of the View is returned as it
// is, wrapped.
func (c *Content) fill(off, n int64) error {
	for end := off + n; off < end; {
		i := c.find(off)
		stop := end
		if i < len(c.extents) {
			if e := c.extents[i]; e.off <= off {
				off = e.off + e.n
				continue
			}
			stop = min(end, c.extents[i].off)
		}
		if err := c.take(i, off, stop-off); err != nil {
			return err
		}
		off = stop
	}
	return nil
}

// take reads a range of which nothing is in the spool yet, and makes it
// extent i.
func (c *Content) take(i int, off, n int64) error {
	e := extent{off: off, n: n, at: c.size}
	buf := make([]byte, min(n, eager))
	for done := int64(0); done < n; {
		b := buf[:min(n-done, eager)]
		if err := readAt(c.view.Content, b, off+done); err != nil {
			return err
		}
		k, err := c.spool.Write(b)
		c.size += int64(k)
		if err != nil {
			return fmt.Errorf("spool message content: %w", err)
		}
		done += int64(k)
	}
	c.extents = slices.Insert(c.extents, i, e)
	return nil
}

// read fills p from off: from the spool what is there, else from the View.
func (c *Content) read(p []byte, off int64) error {
	for len(p) > 0 {
		i := c.find(off)
		n := int64(len(p))
		if i < len(c.extents) && c.extents[i].off <= off {
			e := c.extents[i]
			n = min(n, e.off+e.n-off)
			if err := readAt(c.spool, p[:n], e.at+off-e.off); err != nil {
				return err
			}
		} else {
			if i < len(c.extents) {
				n = min(n, c.extents[i].off-off)
			}
			if err := readAt(c.view.Content, p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}
