package overlay

import (
	"encoding/base64"
	"errors"
	"io"
	"sync"
)

const (
	// bulkWindow is how many encoded octets one upstream FETCH asks for: small
	// partials make a provider count the line ends again for each.
	bulkWindow = 256 << 10
	// bulkWindows is how many decoded windows stay in memory: the head and the
	// tail of the age file, and two where the reader is.
	bulkWindows = 4
	// maxBulkLine is the longest base64 line that counts as regular (RFC 2045
	// allows 76).
	maxBulkLine = 4096
)

// FetchFunc returns at most n octets of the encoded bulk part from off; fewer
// only at its end.
type FetchFunc func(off, n int64) ([]byte, error)

// Bulk reads the decoded bulk part through partial fetches. Base64 in lines of
// one length is read at random; everything else in one direction, starting
// over where a reader goes back. Safe for concurrent use.
type Bulk struct {
	fetch    FetchFunc
	encoding string
	octets   int64

	mu      sync.Mutex
	plan    plan
	line    int64 // characters in a line, without CRLF
	size    int64 // decoded; -1 while unknown
	windows []window
	seq     *sequential
	runs    runs
}

type plan int

const (
	undecided plan = iota
	identity       // 7bit, 8bit, binary: offsets are the same
	regular        // base64 in equal lines
	inOrder        // decoded from the beginning on
)

// window is decoded content from off.
type window struct {
	off  int64
	data []byte
}

var _ BulkReader = (*Bulk)(nil)

// NewBulk returns a reader of a part of octets encoded octets.
func NewBulk(encoding string, octets int64, fetch FetchFunc) *Bulk {
	return &Bulk{fetch: fetch, encoding: encoding, octets: octets, size: -1}
}

// Size implements BulkReader: -1 says that the provider could not be asked, and
// nothing about the part.
func (b *Bulk) Size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.decide(); err != nil {
		return -1
	}
	if b.size < 0 && b.plan == inOrder {
		n, err := io.Copy(io.Discard, b.rewind())
		if err != nil {
			return -1
		}
		b.size = n
		b.seq = nil
	}
	return b.size
}

// ReadAt implements io.ReaderAt.
func (b *Bulk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset in bulk part")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.decide(); err != nil {
		return 0, err
	}
	if b.plan == regular || b.plan == identity {
		n, err := b.readWindows(p, off)
		if !errors.Is(err, errIrregular) {
			return n, err
		}
		// Lines are not where they should be: decode from the beginning.
		b.plan, b.size, b.windows = inOrder, -1, nil
	}
	return b.readInOrder(p, off)
}

var errIrregular = errors.New("lines are not where they should be")

// decide looks at the beginning and the end of the part once.
func (b *Bulk) decide() error {
	if b.plan != undecided {
		return nil
	}
	switch b.encoding {
	case "base64":
	case "7bit", "8bit", "binary":
		b.plan, b.size = identity, b.octets
		return nil
	default:
		b.plan = inOrder
		return nil
	}
	head, err := b.fetch(0, min(b.octets, bulkWindow))
	if err != nil {
		return err
	}
	line := int64(0)
	for line < int64(len(head)) && head[line] != '\r' {
		line++
	}
	if line == 0 || line%4 != 0 || line > maxBulkLine || int64(len(head)) < min(b.octets, bulkWindow) {
		b.plan = inOrder
		return nil
	}
	b.line = line
	size, err := b.measure()
	switch {
	case errors.Is(err, errIrregular):
		b.plan, b.line = inOrder, 0
		return nil
	case err != nil:
		return err
	}
	b.plan, b.size = regular, size
	return nil
}

// measure finds the decoded size from the number of lines and the last window.
func (b *Bulk) measure() (int64, error) {
	raw := b.line + 2
	perWindow := bulkWindow / raw
	lines := b.octets / raw // complete ones, the last perhaps not
	first := max(0, lines-perWindow+1)
	tail, err := b.fetchWindow(first*raw, b.octets-first*raw, 1)
	if err != nil {
		return 0, err
	}
	data, err := decodeLines(tail, int(b.line), true)
	if err != nil {
		return 0, err
	}
	off := first * b.line / 4 * 3
	b.keep(window{off: off, data: data})
	return off + int64(len(data)), nil
}

// fetchWindow fetches n octets that start at a line and checks that they do.
// It asks for extra octets more, of which there must be none.
func (b *Bulk) fetchWindow(off, n, extra int64) ([]byte, error) {
	lead := min(off, 2)
	raw, err := b.fetch(off-lead, n+lead+extra)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) != n+lead || lead == 2 && string(raw[:2]) != "\r\n" {
		return nil, errIrregular
	}
	return raw[lead:], nil
}

func (b *Bulk) keep(w window) {
	if len(b.windows) >= bulkWindows {
		b.windows = b.windows[1:]
	}
	b.windows = append(b.windows, w)
}

// readWindows serves a read from decoded windows, fetching those it lacks.
func (b *Bulk) readWindows(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off >= b.size {
			return n, io.EOF
		}
		w, err := b.windowAt(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], w.data[off-w.off:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

func (b *Bulk) windowAt(off int64) (window, error) {
	for i, w := range b.windows {
		if off >= w.off && off < w.off+int64(len(w.data)) {
			// Used last, dropped last.
			copy(b.windows[i:], b.windows[i+1:])
			b.windows[len(b.windows)-1] = w
			return w, nil
		}
	}
	if b.plan == identity {
		start := off / bulkWindow * bulkWindow
		n := min(bulkWindow, b.octets-start)
		data, ok := b.runs.piece(start, n, b.octets)
		if !ok {
			var err error
			if data, err = b.fetch(start, n); err != nil {
				return window{}, err
			}
			b.runs.fetched(start, n)
		}
		if off >= start+int64(len(data)) {
			return window{}, errIrregular // shorter than announced
		}
		w := window{off: start, data: data}
		b.keep(w)
		return w, nil
	}
	raw := b.line + 2
	perWindow := bulkWindow / raw
	decoded := perWindow * b.line / 4 * 3
	i := off / decoded
	start := i * perWindow * raw
	n := min(perWindow*raw, b.octets-start)
	// A run begins behind a window that was decoded, that is behind a line end.
	encoded, ok := b.runs.piece(start, n, b.octets)
	if !ok {
		var err error
		if encoded, err = b.fetchWindow(start, n, 0); err != nil {
			return window{}, err
		}
		b.runs.fetched(start, n)
	}
	data, err := decodeLines(encoded, int(b.line), start+perWindow*raw >= b.octets)
	if err != nil {
		return window{}, err
	}
	w := window{off: i * decoded, data: data}
	if off >= w.off+int64(len(data)) {
		return window{}, errIrregular
	}
	b.keep(w)
	return w, nil
}

// decodeLines decodes base64 in lines of exactly line characters; the last one
// may be shorter if last is set, and its CRLF may be missing. Blank lines may
// follow it.
func decodeLines(raw []byte, line int, last bool) ([]byte, error) {
	out := make([]byte, 0, len(raw)/4*3)
	for len(raw) > 0 {
		n := min(line, len(raw))
		text := raw[:n]
		for i, c := range text {
			if c == '\r' {
				text, n = raw[:i], i
				break
			}
		}
		rest := raw[n:]
		switch {
		case len(rest) >= 2 && rest[0] == '\r' && rest[1] == '\n':
			rest = rest[2:]
		case len(rest) > 0:
			return nil, errIrregular
		}
		short := n < line
		if short && (!last || len(trimBlank(rest)) > 0) {
			return nil, errIrregular
		}
		before := len(out)
		out = out[:before+base64.StdEncoding.DecodedLen(n)]
		k, err := base64.StdEncoding.Decode(out[before:], text)
		if err != nil {
			return nil, errIrregular
		}
		out = out[:before+k]
		if k < n/4*3 && len(trimBlank(rest)) > 0 { // padding ends the data
			return nil, errIrregular
		}
		raw = rest
	}
	return out, nil
}

func trimBlank(b []byte) []byte {
	for len(b) > 0 && (b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}
