package mailseal

import (
	"encoding/binary"
	"fmt"
	"log/slog"

	"github.com/cloudmls/gateway/internal/mime"
)

// FileKey is the age file key of a bulk part. It prints as "[redacted]".
type FileKey [16]byte

// String implements fmt.Stringer without the key.
func (FileKey) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer without the key.
func (FileKey) GoString() string { return "[redacted]" }

// LogValue implements slog.LogValuer without the key.
func (FileKey) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Control is the control record of a sealed message. It holds secrets: the
// message or the key of it.
type Control struct {
	Kind         Kind
	Conversation [16]byte
	// Size is the number of octets of the inner message.
	Size int64
	// Skeleton is the part table of the inner message with all headers. Of an
	// inline message ParseControl made it from the content; of others it is
	// what the sender says, until Message.Verify has agreed.
	Skeleton *mime.Part
	// Inline is the whole inner message; nil if it is in the bulk part.
	Inline []byte

	// FileKey opens the bulk part, an age file of BulkSize octets.
	FileKey  FileKey
	BulkSize int64
	// PaddedSize is the number of octets in the age file: the message, and
	// zero octets that hide its exact size.
	PaddedSize int64
	// ChunkHashes are SHA-256 of each ChunkSize octets in the age file. They
	// bind it to the sender: every member knows the key.
	ChunkHashes [][32]byte
}

// Forms of a control record.
const (
	controlVersion = 1
	formInline     = 1
	formBulk       = 2

	controlFixed = 3 + 16 + 8           // version, kind, form, conversation, size
	bulkFixed    = 16 + 8 + 8 + 4       // file key, bulk size, padded size, skeleton length
	maxSkeleton  = MaxControl - 192<<10 // leaves room for the hashes of MaxSize
)

// MarshalBinary returns the octets of the record, as docs/spec/mail-format.md
// has them. It fails if the record breaks a rule that ParseControl checks.
func (c *Control) MarshalBinary() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	form := byte(formInline)
	if c.Inline == nil {
		form = formBulk
	}
	b := []byte{controlVersion, byte(c.Kind), form}
	b = append(b, c.Conversation[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Size))
	if c.Inline != nil {
		return append(b, c.Inline...), nil
	}
	skeleton := c.Skeleton.MarshalSkeleton()
	if len(skeleton) > maxSkeleton {
		return nil, fmt.Errorf("%w: part table of %d octets", ErrNotSealable, len(skeleton))
	}
	b = append(b, c.FileKey[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.BulkSize))
	b = binary.BigEndian.AppendUint64(b, uint64(c.PaddedSize))
	b = binary.BigEndian.AppendUint32(b, uint32(len(skeleton)))
	b = append(b, skeleton...)
	for _, h := range c.ChunkHashes {
		b = append(b, h[:]...)
	}
	return b, nil
}

// ParseControl reads a control record, strictly: one record has one encoding.
// It keeps nothing of b. Errors wrap ErrCorrupt, but that of a later version
// ErrVersion.
func ParseControl(b []byte) (*Control, error) {
	if len(b) > 0 && b[0] != controlVersion {
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	if len(b) < controlFixed || len(b) > MaxControl {
		return nil, fmt.Errorf("%w: control record of %d octets", ErrCorrupt, len(b))
	}
	c := &Control{Kind: Kind(b[1]), Conversation: [16]byte(b[3:])}
	size := binary.BigEndian.Uint64(b[19:])
	if size > MaxSize {
		return nil, fmt.Errorf("%w: message of %d octets", ErrCorrupt, size)
	}
	c.Size = int64(size)
	var err error
	switch form := b[2]; form {
	case formInline:
		err = c.parseInline(b[controlFixed:])
	case formBulk:
		err = c.parseBulk(b[controlFixed:])
	default:
		err = fmt.Errorf("form %d", form)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: control record: %w", ErrCorrupt, err)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: control record: %w", ErrCorrupt, err)
	}
	return c, nil
}

func (c *Control) parseInline(b []byte) (err error) {
	if int64(len(b)) != c.Size {
		return fmt.Errorf("%d octets of %d", len(b), c.Size)
	}
	c.Inline = append([]byte{}, b...)
	p := mime.NewParser(mime.DefaultLimits)
	if _, err := p.Write(c.Inline); err != nil {
		return err
	}
	c.Skeleton, err = p.Finish()
	return err
}

func (c *Control) parseBulk(b []byte) (err error) {
	if len(b) < bulkFixed {
		return fmt.Errorf("too short")
	}
	c.FileKey = FileKey(b)
	bulkSize, padded := binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])
	skeleton := binary.BigEndian.Uint32(b[32:])
	b = b[bulkFixed:]
	if padded > 2*MaxSize || bulkSize > 4*MaxSize || uint64(skeleton) > uint64(len(b)) {
		return fmt.Errorf("impossible size")
	}
	c.BulkSize, c.PaddedSize = int64(bulkSize), int64(padded)
	if c.Skeleton, err = mime.ParseSkeleton(b[:skeleton], mime.DefaultLimits); err != nil {
		return err
	}
	b = b[skeleton:]
	if int64(len(b)) != 32*chunks(c.PaddedSize) {
		return fmt.Errorf("%d octets of hashes for %d octets", len(b), c.PaddedSize)
	}
	for ; len(b) > 0; b = b[32:] {
		c.ChunkHashes = append(c.ChunkHashes, [32]byte(b))
	}
	return nil
}

// check holds the rules for both directions.
func (c *Control) check() error {
	switch {
	case !c.Kind.valid():
		return fmt.Errorf("kind %d", c.Kind)
	case c.Size <= 0 || c.Size > MaxSize:
		return fmt.Errorf("message of %d octets", c.Size)
	case c.Skeleton == nil || c.Skeleton.Size() != c.Size:
		return fmt.Errorf("part table of another size")
	case !startsAsMessage(c.Skeleton):
		return fmt.Errorf("header begins with a continuation line")
	case c.Inline != nil && (int64(len(c.Inline)) != c.Size || c.Size > InlineMax):
		return fmt.Errorf("inline message of %d octets", len(c.Inline))
	case c.Inline != nil:
		return nil
	case c.Size <= InlineMax:
		return fmt.Errorf("bulk part for %d octets", c.Size)
	case c.PaddedSize < c.Size || c.PaddedSize > 2*c.Size:
		return fmt.Errorf("padding from %d to %d octets", c.Size, c.PaddedSize)
	case c.BulkSize != ageSize(c.PaddedSize):
		return fmt.Errorf("bulk part of %d octets for %d", c.BulkSize, c.PaddedSize)
	case int64(len(c.ChunkHashes)) != chunks(c.PaddedSize):
		return fmt.Errorf("%d hashes", len(c.ChunkHashes))
	}
	return nil
}

// startsAsMessage refuses a header that begins with white space: put behind
// the fields of a view it would continue the last of them, and a sender could
// write into our status field.
func startsAsMessage(root *mime.Part) bool {
	h := root.Header
	return len(h) == 0 || h[0] != ' ' && h[0] != '\t'
}
