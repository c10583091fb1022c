package mailseal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cloudmls/gateway/internal/mime"
)

// Message is an opened message: the exact octets that were sealed. It is safe
// for concurrent use; reads of a bulk part happen one at a time.
type Message struct {
	control *Control
	content io.ReaderAt
	checked *checkedBulk // nil if the message is inline
}

// Open opens the message of a control record. bulk is not used for an inline
// message and may be nil; for others it must stay valid as long as the message
// is read. Opening reads the beginning and the end of the bulk part, never all
// of it. Errors that say the message is broken wrap ErrCorrupt; errors of bulk
// itself are returned as they are, wrapped.
func Open(c *Control, bulk Bulk) (*Message, error) {
	if c.Inline != nil {
		return &Message{control: c, content: bytes.NewReader(c.Inline)}, nil
	}
	if bulk == nil {
		return nil, fmt.Errorf("%w: no bulk part", ErrCorrupt)
	}
	if bulk.Size() < c.BulkSize {
		return nil, fmt.Errorf("%w: bulk part of %d octets, not %d", ErrCorrupt, bulk.Size(), c.BulkSize)
	}
	plain, err := decryptBulk(bulk, c)
	if err != nil {
		return nil, err
	}
	checked := &checkedBulk{c: c, r: plain, parser: mime.NewParser(mime.DefaultLimits), cached: -1}
	c.Skeleton.Walk(func(p *mime.Part, _ int) {
		if len(p.Header) > 0 {
			checked.headers = append(checked.headers, p)
		}
	})
	return &Message{control: c, content: checked, checked: checked}, nil
}

// Kind says why the message was sealed.
func (m *Message) Kind() Kind { return m.control.Kind }

// Conversation returns the conversation id inside the control record: the one
// that counts.
func (m *Message) Conversation() [16]byte { return m.control.Conversation }

// Size returns the number of octets.
func (m *Message) Size() int64 { return m.control.Size }

// Tree returns the part tree of the message.
func (m *Message) Tree() *mime.Part { return m.control.Skeleton }

// ReadAt implements io.ReaderAt. Every octet it returns was checked: against
// the control record's hashes, and headers against its part table. Once all
// octets were read in order, the whole part table was.
func (m *Message) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case off < 0:
		return 0, errors.New("read message: negative offset")
	case off >= m.control.Size:
		return 0, io.EOF
	}
	short := int64(len(p)) > m.control.Size-off
	if short {
		p = p[:m.control.Size-off]
	}
	n, err := m.content.ReadAt(p, off)
	if err == io.EOF && n == len(p) {
		err = nil
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Verify reads the octets that were not read yet and checks all of them
// against the hashes, and the structure they have against the part table. An
// inline message is right by construction.
func (m *Message) Verify() error {
	if m.checked == nil {
		return nil
	}
	return m.checked.verify()
}

// checkedBulk releases the plaintext of a bulk part in checked chunks.
type checkedBulk struct {
	c       *Control
	r       io.ReaderAt
	headers []*mime.Part // in order of their offsets

	mu     sync.Mutex
	cached int64 // index of the chunk in chunk, -1 for none
	chunk  []byte
	// parser has seen the chunks before next. Reading in order goes along
	// with it.
	parser *mime.Parser
	next   int64
	broken error // sticky: the part table is wrong
}

// ReadAt implements io.ReaderAt within the inner message.
func (b *checkedBulk) ReadAt(p []byte, off int64) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(p) {
		index := off / ChunkSize
		if err := b.load(index); err != nil {
			return n, err
		}
		k := copy(p[n:], b.chunk[off-index*ChunkSize:])
		n += k
		off += int64(k)
	}
	return n, nil
}

func (b *checkedBulk) verify() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.broken == nil && b.next < chunks(b.c.Size) {
		b.cached = -1
		if err := b.load(b.next); err != nil {
			return err
		}
	}
	return b.broken
}

// load makes chunk the one with this index, cut to the inner message, after
// all checks.
func (b *checkedBulk) load(index int64) error {
	if b.broken != nil {
		return b.broken
	}
	if b.cached == index {
		return nil
	}
	b.cached = -1
	off := index * ChunkSize
	n := min(ChunkSize, b.c.PaddedSize-off)
	if cap(b.chunk) < int(n) {
		b.chunk = make([]byte, n)
	}
	b.chunk = b.chunk[:n]
	if _, err := b.r.ReadAt(b.chunk, off); err != nil {
		return err
	}
	if sha256.Sum256(b.chunk) != b.c.ChunkHashes[index] {
		return fmt.Errorf("%w: chunk %d of the bulk part is not the sender's", ErrCorrupt, index)
	}
	b.chunk = b.chunk[:min(n, b.c.Size-off)]
	if err := b.checkHeaders(off); err != nil {
		b.broken = err
		return err
	}
	if index == b.next {
		if err := b.parse(); err != nil {
			b.broken = err
			return err
		}
	}
	b.cached = index
	return nil
}

// checkHeaders compares the headers of the part table that lie in the chunk at
// off with its octets.
func (b *checkedBulk) checkHeaders(off int64) error {
	end := off + int64(len(b.chunk))
	for _, p := range b.headers {
		from, to := max(p.HeaderOffset, off), min(p.BodyOffset, end)
		if from < to && !bytes.Equal(p.Header[from-p.HeaderOffset:to-p.HeaderOffset], b.chunk[from-off:to-off]) {
			return fmt.Errorf("%w: a header is not what the part table says", ErrCorrupt)
		}
	}
	return nil
}

// parse goes on with the next chunk, and compares the trees after the last.
func (b *checkedBulk) parse() error {
	if _, err := b.parser.Write(b.chunk); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	b.next++
	if b.next < chunks(b.c.Size) {
		return nil
	}
	tree, err := b.parser.Finish()
	if err == nil {
		err = mime.MatchSkeleton(b.c.Skeleton, tree)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}
