package overlay

// maxRun is the most encoded octets that one StreamFunc asks for. A provider
// looks for the place anew with each request, in what it may have compressed; what
// a reader turns out not to want comes all the same.
const maxRun = 16 << 20

// StreamFunc asks for n octets of the encoded bulk part from off, to come in
// pieces of size octets, and returns without waiting for them. next returns them
// in their order, the last one perhaps shorter, then io.EOF; any error says that no
// more come. The provider is read ahead of next by a few pieces at most.
type StreamFunc func(off, n, size int64) (next func() ([]byte, error), err error)

// ReadAhead has a part that is read in one direction asked for in runs of growing
// length, each of many windows. Must be called before the first read.
func (b *Bulk) ReadAhead(stream StreamFunc) { b.runs.stream, b.runs.limit = stream, maxRun }

// runs is the reading ahead of one part.
type runs struct {
	stream StreamFunc             // nil for none
	next   func() ([]byte, error) // of the run in progress, or nil
	at     int64                  // where the next piece of it begins
	end    int64                  // where it ends
	last   int64                  // where the window that was fetched last ended
	length int64                  // of the last run, or window
	limit  int64                  // of the next one
}

// piece returns n octets from off if they are the next of a run, or make one
// worth while: what was fetched last ended there. false means that they are to be
// fetched by themselves, as if there were no runs; whatever is wrong shows then.
func (r *runs) piece(off, n, octets int64) ([]byte, bool) {
	if r.stream == nil {
		return nil, false
	}
	begun := false
	if r.next == nil && off > 0 && off == r.last && octets-off > n {
		// Twice as much as before, so that little is asked for in vain.
		r.length = min(2*r.length, r.limit) / n * n
		begun = r.begin(off, min(r.length, octets-off), n)
	}
	if r.next == nil || off != r.at {
		r.next = nil
		return nil, false
	}
	data, err := r.next()
	if err != nil || int64(len(data)) != n {
		// Something else came in between: this is read in pieces, with other
		// commands between them. As much as waits anyway is asked for from now on.
		r.next, r.limit = nil, 2*n
		if begun {
			r.stream = nil // not how this provider answers
		}
		return nil, false
	}
	if r.at += n; r.at >= r.end {
		r.next = nil
	}
	r.last = off + n
	return data, true
}

// begin asks for a run. Where that fails the window's own request tells what is
// wrong.
func (r *runs) begin(off, n, size int64) bool {
	next, err := r.stream(off, n, size)
	if err != nil {
		return false
	}
	r.next, r.at, r.end = next, off, off+n
	return true
}

// fetched notes a window that was fetched by itself.
func (r *runs) fetched(off, n int64) { r.next, r.last, r.length = nil, off+n, n }
