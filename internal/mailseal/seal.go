package mailseal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/cloudmls/gateway/internal/mime"
)

// SealOptions say how to seal a message.
type SealOptions struct {
	// Outer is what the sealed message shows.
	Outer Outer
	// Conversation is the id of the conversation, in the outer header and in
	// the control record. The zero id is not shown.
	Conversation [16]byte
	Kind         Kind
	// Control turns the control record into the content of the control part:
	// an MLS PrivateMessage, or for KindSelf a CMS1 object. It must not keep
	// its argument. It is called once.
	Control func(record []byte) ([]byte, error)
}

// Sealed describes a sealed message.
type Sealed struct {
	// Ref names the message for ever: SHA-256 of the control part's content.
	Ref [32]byte
	// Size is the number of octets of the outer message.
	Size int64
	// UTF8 says that the outer header has non-ASCII addresses, so that the
	// message needs SMTPUTF8.
	UTF8 bool
	// Header is the outer header, blank line included.
	Header []byte
}

// Prepared is a sealed message whose octets were not read yet.
type Prepared struct {
	Sealed
	parts []io.Reader
}

// Seal seals the inner message of size octets and writes the outer message to
// w, in constant memory. The inner message must have CRLF line ends, as it is
// to be served; the caller has removed or kept its Bcc field. Nothing is
// written if an option is unfit (ErrOuter), the message cannot be sealed
// (ErrTooLarge, ErrNotSealable, *mime.LimitError), or Control fails.
func Seal(w io.Writer, inner io.ReaderAt, size int64, o SealOptions) (*Sealed, error) {
	p, err := Prepare(inner, size, o)
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(w, p.Reader())
	if err != nil {
		return nil, fmt.Errorf("write sealed message: %w", err)
	}
	if n != p.Size {
		return nil, fmt.Errorf("write sealed message: %d octets instead of %d", n, p.Size)
	}
	return &p.Sealed, nil
}

// Prepare does all of Seal but the writing, so that the size is known before:
// the bulk part is encrypted while Prepared.Reader is read. Until then inner
// must neither change nor go away; a change is noticed and makes the reader
// fail.
func Prepare(inner io.ReaderAt, size int64, o SealOptions) (*Prepared, error) {
	c, bulk, err := newControl(inner, size, o)
	if err != nil {
		return nil, err
	}
	boundary, err := newBoundary()
	if err != nil {
		return nil, err
	}
	header, err := o.Outer.appendHeader(nil, o.Conversation, boundary)
	if err != nil {
		return nil, err
	}
	header = append(header, "\r\n"...)
	record, err := c.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("make control record: %w", err)
	}
	if o.Control == nil {
		return nil, errors.New("no function to seal the control record")
	}
	content, err := o.Control(record)
	clear(record)
	if err != nil {
		return nil, fmt.Errorf("seal control record: %w", err)
	}
	if len(content) == 0 || len(content) > maxControlPart {
		return nil, fmt.Errorf("seal control record: %d octets", len(content))
	}
	p := &Prepared{Sealed: Sealed{Ref: Ref(content), UTF8: !isASCII(header), Header: header}}
	p.assemble(boundary, content, bulk, c.BulkSize)
	return p, nil
}

// Reader returns the octets of the outer message. It may be called once: what
// is encrypted twice under one key tells too much.
func (p *Prepared) Reader() io.Reader {
	parts := p.parts
	p.parts = []io.Reader{errReader{errors.New("sealed message was read before")}}
	return io.MultiReader(parts...)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// newControl reads the inner message once and returns its control record, and
// the age file of a message that is too large to be inline.
func newControl(inner io.ReaderAt, size int64, o SealOptions) (*Control, io.Reader, error) {
	switch {
	case !o.Kind.valid():
		return nil, nil, fmt.Errorf("unknown kind of message: %d", o.Kind)
	case size <= 0:
		return nil, nil, fmt.Errorf("%w: it is empty", ErrNotSealable)
	case size > MaxSize:
		return nil, nil, fmt.Errorf("%w: %d octets", ErrTooLarge, size)
	}
	c := &Control{Kind: o.Kind, Conversation: o.Conversation, Size: size, PaddedSize: paddedSize(size)}
	if size <= InlineMax {
		c.PaddedSize = 0
	}
	parser := mime.NewParser(mime.DefaultLimits)
	buf := make([]byte, min(ChunkSize, max(size, c.PaddedSize)))
	for off := int64(0); off < max(size, c.PaddedSize); off += ChunkSize {
		chunk, err := readChunk(inner, size, c.PaddedSize, off, buf)
		if err != nil {
			return nil, nil, err
		}
		if off < size {
			if _, err := parser.Write(chunk[:min(size-off, int64(len(chunk)))]); err != nil {
				return nil, nil, fmt.Errorf("inner message: %w", err)
			}
		}
		if size <= InlineMax {
			c.Inline = bytes.Clone(chunk)
		} else {
			c.ChunkHashes = append(c.ChunkHashes, sha256.Sum256(chunk))
		}
	}
	var err error
	if c.Skeleton, err = parser.Finish(); err != nil {
		return nil, nil, fmt.Errorf("inner message: %w", err)
	}
	if !startsAsMessage(c.Skeleton) {
		return nil, nil, fmt.Errorf("%w: its header begins with a continuation line", ErrNotSealable)
	}
	if c.Inline != nil {
		return c, nil, nil
	}
	bulk, key, err := encryptBulk(&chunkReader{inner: inner, c: c, buf: buf})
	if err != nil {
		return nil, nil, err
	}
	c.FileKey, c.BulkSize = key, ageSize(c.PaddedSize)
	return c, bulk, nil
}

// readChunk returns the chunk at off of the inner message with its padding.
func readChunk(inner io.ReaderAt, size, padded, off int64, buf []byte) ([]byte, error) {
	chunk := buf[:min(ChunkSize, max(size, padded)-off)]
	have := max(0, min(int64(len(chunk)), size-off))
	if _, err := io.ReadFull(io.NewSectionReader(inner, off, have), chunk[:have]); have > 0 && err != nil {
		return nil, fmt.Errorf("read inner message: %w", err)
	}
	clear(chunk[have:])
	return chunk, nil
}

// chunkReader reads the inner message with its padding a second time, and
// checks that it is what was hashed.
type chunkReader struct {
	inner io.ReaderAt
	c     *Control
	buf   []byte
	chunk []byte // not read yet
	off   int64
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 {
		if r.off >= r.c.PaddedSize {
			return 0, io.EOF
		}
		chunk, err := readChunk(r.inner, r.c.Size, r.c.PaddedSize, r.off, r.buf)
		if err != nil {
			return 0, err
		}
		if sha256.Sum256(chunk) != r.c.ChunkHashes[r.off/ChunkSize] {
			return 0, errors.New("inner message changed while it was sealed")
		}
		r.chunk = chunk
		r.off += int64(len(chunk))
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// assemble lines up the parts of the outer message (RFC 1847 section 2.2).
func (p *Prepared) assemble(boundary string, content []byte, bulk io.Reader, bulkSize int64) {
	add := func(r io.Reader, n int64) {
		p.parts = append(p.parts, r)
		p.Size += n
	}
	addText := func(s string) { add(bytes.NewReader([]byte(s)), int64(len(s))) }
	add(bytes.NewReader(p.Header), int64(len(p.Header)))
	addText("--" + boundary + "\r\nContent-Type: " + ControlType +
		"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	add(newBase64Reader(bytes.NewReader(content), int64(len(content))), base64Size(int64(len(content))))
	addText("--" + boundary + "\r\nContent-Type: " + BulkType +
		"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	if bulk != nil {
		add(newBase64Reader(bulk, bulkSize), base64Size(bulkSize))
	} else {
		addText("\r\n")
	}
	addText("--" + boundary + "--\r\n")
}

func newBoundary() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a boundary: %w", err)
	}
	return "cloudmls-" + hex.EncodeToString(b[:]), nil
}
