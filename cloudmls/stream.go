package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cloudmls/gateway/cloudmls/internal/stream"
)

var (
	// ErrNotStream: the message opens, but was not made by EncryptStream.
	ErrNotStream = errors.New("message is not that of a stream")

	// ErrStreamCorrupt: the bulk of a stream is not what its sender wrote. What
	// was read of it before is right as far as it goes, and not the whole.
	ErrStreamCorrupt = errors.New("stream is not what was sent")
)

// EncryptStream seals content of any size for the members of the conversation:
// it reads content to its end, writes the bulk, which anybody may carry and
// keep, and gives the MLSMessage that opens it, of the same small size always.
// Memory does not grow with the content. aad and errors are as for Encrypt; when
// it fails, the bulk is worth nothing.
//
// The size of the bulk is a Padmé size: it tells the content's to about 6 %.
//
// Readers have to know that the message is a stream's, by aad or by the platform: Decrypt
// opens it, too, and gives the key of the bulk, which is none of their users' business.
func (c *Client) EncryptStream(ctx context.Context, self Account, id ConversationID, bulk io.Writer, content io.Reader, aad []byte) ([]byte, error) {
	if bulk == nil || content == nil {
		return nil, errors.New("encrypt: a stream needs content and a place for its bulk")
	}
	own, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	if err := fits(nil, aad); err != nil { // before the work
		return nil, err
	}
	if _, err := c.sendable(ctx, own, id); err != nil {
		return nil, err
	}
	h, err := stream.Encrypt(bulk, withContext(ctx, content), func(n uint64) uint64 { return uint64(padme(int(n))) })
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	b, err := h.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	defer clear(b)
	return c.Encrypt(ctx, self, id, b, aad)
}

// Stream is the content of a stream, read from its bulk.
type Stream struct {
	// Message is what is known of the message; its Data is nil.
	Message *Plaintext
	// Size of the content in octets. The reader gives as many, or fails.
	Size int64
	r    io.Reader
}

// DecryptStream opens a message that EncryptStream gave and reads its bulk.
// Errors are as for Decrypt, or ErrNotStream. Nothing of the bulk is read yet.
func (c *Client) DecryptStream(ctx context.Context, self Account, message []byte, bulk io.Reader) (*Stream, error) {
	p, err := c.Decrypt(ctx, self, message)
	if err != nil {
		return nil, err
	}
	h, err := stream.ParseHeader(p.Data)
	if err != nil {
		return nil, ErrNotStream
	}
	if bulk == nil {
		return nil, errors.New("decrypt: a stream needs its bulk")
	}
	clear(p.Data)
	p.Data = nil
	r, err := stream.Decrypt(withContext(ctx, bulk), h)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return &Stream{Message: p, Size: int64(h.Size), r: r}, nil
}

// Read implements io.Reader. No octet of a part of the bulk that was altered,
// moved, exchanged or cut is ever given: the error then matches
// ErrStreamCorrupt. The last octets, and io.EOF, are given when all of the bulk
// is known to be right. Errors of the bulk's own reader are passed on.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if errors.Is(err, stream.ErrCorrupt) {
		err = ErrStreamCorrupt
	}
	return n, err
}

// withContext makes reading end with a context.
func withContext(ctx context.Context, r io.Reader) io.Reader { return contextReader{ctx, r} }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
