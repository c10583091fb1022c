package mailseal

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/cloudmls/gateway/internal/mime"
)

// locateDepth is how deep below the root our parts are looked for. Relays turn
// multipart/encrypted into multipart/mixed, and lists wrap that once more.
const locateDepth = 2

// Location names the two parts of a sealed message in the tree of the outer
// one, and their IMAP section numbers.
type Location struct {
	Control     *mime.Part
	ControlPath []int
	// Bulk is nil where there is no such part: a relay may have dropped an
	// empty one.
	Bulk     *mime.Part
	BulkPath []int
}

// Locate finds our two parts in the tree of an outer message: siblings of the
// right types, at most two levels below the root, with whatever a relay put
// around or between them. It never looks into a message/rfc822 part, so that a
// sealed message that was forwarded as an attachment is not opened. It finds
// nothing if there are several control parts.
func Locate(root *mime.Part) (Location, bool) {
	var loc Location
	found := 0
	search(root, nil, func(parent *mime.Part, path []int, i int) {
		found++
		loc.Control = parent.Children[i]
		loc.ControlPath = extend(path, i+1)
		loc.Bulk, loc.BulkPath = nil, nil
		if j := bulkSibling(parent, i); j >= 0 {
			loc.Bulk = parent.Children[j]
			loc.BulkPath = extend(path, j+1)
		}
	})
	if found != 1 {
		return Location{}, false
	}
	return loc, true
}

// search calls fn for each control part: child i of parent, whose path is
// given.
func search(parent *mime.Part, path []int, fn func(parent *mime.Part, path []int, i int)) {
	if !parent.Multipart || len(path) >= locateDepth {
		return
	}
	for i, c := range parent.Children {
		if isType(c, ControlType) {
			fn(parent, path, i)
		}
		search(c, extend(path, i+1), fn)
	}
}

// bulkSibling returns the index of the bulk part that belongs to the control
// part at index i: the next of its type, else the first; -1 if there is none.
func bulkSibling(parent *mime.Part, i int) int {
	first := -1
	for j, c := range parent.Children {
		if !isType(c, BulkType) {
			continue
		}
		if j > i {
			return j
		}
		if first < 0 {
			first = j
		}
	}
	return first
}

func isType(p *mime.Part, mediaType string) bool {
	if p.Multipart || p.Message {
		return false
	}
	typ, subtype := p.Type()
	return strings.EqualFold(typ+"/"+subtype, mediaType)
}

func extend(path []int, n int) []int { return append(append([]int(nil), path...), n) }

// DecodeControl returns the content of a control part of the message in r,
// whatever transfer encoding a relay gave it.
func DecodeControl(r io.ReaderAt, p *mime.Part) ([]byte, error) {
	section := io.NewSectionReader(r, p.BodyOffset, p.BodyLength)
	content, err := io.ReadAll(io.LimitReader(mime.NewDecoder(p.Encoding(), section), maxControlPart+1))
	if err != nil {
		return nil, fmt.Errorf("read control part: %w", err)
	}
	if len(content) > maxControlPart {
		return nil, fmt.Errorf("%w: control part of more than %d octets", ErrCorrupt, maxControlPart)
	}
	if e := strings.ToLower(p.Encoding()); e != "base64" && e != "quoted-printable" && isBase64Text(content) {
		// the encoding was forgotten on the way, not undone
		content, err = io.ReadAll(mime.NewDecoder("base64", bytes.NewReader(content)))
		if err != nil {
			return nil, fmt.Errorf("read control part: %w", err)
		}
	}
	if len(content) == 0 {
		return nil, fmt.Errorf("%w: empty control part", ErrCorrupt)
	}
	return content, nil
}

func isBase64Text(b []byte) bool {
	for _, c := range b {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '+' || c == '/' || c == '=' || c == '\r' || c == '\n':
		default:
			return false
		}
	}
	return true
}

// Bulk is the decoded content of a bulk part: an age file, if all is well.
type Bulk interface {
	io.ReaderAt
	// Size is the number of octets. More than the age file has may follow it.
	Size() int64
}

var _ Bulk = (*mime.Decoded)(nil)

// DecodeBulk returns the content of a bulk part of the message in r, whatever
// transfer encoding and line lengths a relay gave it. It reads the part once.
// A nil part gives a nil Bulk.
func DecodeBulk(r io.ReaderAt, p *mime.Part) (Bulk, error) {
	if p == nil {
		return nil, nil
	}
	section := io.NewSectionReader(r, p.BodyOffset, p.BodyLength)
	d, err := mime.NewDecoded(section, p.BodyLength, p.Encoding())
	if err != nil {
		return nil, fmt.Errorf("read bulk part: %w", err)
	}
	return d, nil
}
