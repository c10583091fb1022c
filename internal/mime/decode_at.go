package mime

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// checkpointEvery is the number of encoded octets between two places at which
// decoding can begin.
const checkpointEvery = 64 << 10

// Decoded gives random access to content in a transfer encoding, whatever its
// line lengths: one pass over it notes where decoding can begin. It needs 16
// octets of memory for every 64 KiB and is safe for concurrent use.
type Decoded struct {
	r        io.ReaderAt
	size     int64 // encoded
	encoding string
	marks    []checkpoint
	decoded  int64

	mu   sync.Mutex
	next io.Reader // continues at octet pos, for reading in order
	pos  int64
}

type checkpoint struct{ encoded, decoded int64 }

// NewDecoded reads the size octets of r once and returns their decoded form,
// as NewDecoder has it.
func NewDecoded(r io.ReaderAt, size int64, encoding string) (*Decoded, error) {
	d := &Decoded{r: r, size: size, encoding: strings.ToLower(strings.TrimSpace(encoding))}
	switch d.encoding {
	case "base64":
		return d, d.scan(&base64Decoder{}, func(enc textDecoder) bool { return enc.(*base64Decoder).n == 0 })
	case "quoted-printable":
		return d, d.scan(&quotedDecoder{}, func(enc textDecoder) bool { return enc.(*quotedDecoder).held == nil })
	}
	d.decoded = size
	return d, nil
}

// Size returns the number of decoded octets.
func (d *Decoded) Size() int64 { return d.decoded }

// scan notes a checkpoint behind lines after which fresh says that a decoder
// carries nothing on.
func (d *Decoded) scan(enc textDecoder, fresh func(textDecoder) bool) error {
	in := bufio.NewReaderSize(io.NewSectionReader(d.r, 0, d.size), decodeBuffer)
	d.marks = []checkpoint{{}}
	var buf []byte
	for off := int64(0); !enc.over(); {
		text, err := in.ReadSlice('\n')
		buf = enc.decode(buf[:0], text)
		off += int64(len(text))
		if err != nil && err != bufio.ErrBufferFull {
			if err != io.EOF {
				return err
			}
			d.decoded += int64(len(enc.finish(buf)))
			return nil
		}
		d.decoded += int64(len(buf))
		last := d.marks[len(d.marks)-1].encoded
		if off-last >= checkpointEvery && bytes.HasSuffix(text, []byte("\n")) && fresh(enc) {
			d.marks = append(d.marks, checkpoint{off, d.decoded})
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt over the decoded octets.
func (d *Decoded) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= d.decoded {
		return 0, io.EOF
	}
	if d.marks == nil {
		return io.NewSectionReader(d.r, 0, d.size).ReadAt(p, off)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.seek(off); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(d.next, p[:min(int64(len(p)), d.decoded-off)])
	d.pos += int64(n)
	if err != nil {
		d.next = nil
		return n, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// seek makes next continue at off.
func (d *Decoded) seek(off int64) error {
	if d.next == nil || off < d.pos || off-d.pos > checkpointEvery {
		lo, hi := 0, len(d.marks) // the last checkpoint not behind off
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; d.marks[mid].decoded <= off {
				lo = mid
			} else {
				hi = mid
			}
		}
		m := d.marks[lo]
		d.next = NewDecoder(d.encoding, io.NewSectionReader(d.r, m.encoded, d.size-m.encoded))
		d.pos = m.decoded
	}
	n, err := io.CopyN(io.Discard, d.next, off-d.pos)
	d.pos += n
	if err != nil {
		d.next = nil
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	return err
}
