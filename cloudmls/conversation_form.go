package cloudmls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A new device reads the record of each conversation, so this one has a form of its
// own, which is a third as long as the JSON of the others:
//
//	uint8 form = 2;
//	Field fields[];         /* to the end, ascending by tag */
//	struct {
//	  uint8 tag;
//	  select (field) {
//	    case number: varint value;                      /* LEB128 */
//	    case octets: varint length; opaque value[length];
//	  }
//	} Field;
//
// What is zero or empty is left out. A list is one field per element, each of which
// is fields again. Every record has one form, and what is not in it is refused. So is
// a tag that this program does not know: dropping what a newer device wrote would
// lose it. Records of before are JSON until they change.
const conversationForm = 2

// maxElements bounds a list: a group has at most mls.MaxLeaves members, and a
// conversation a few past instances.
const maxElements = 1 << 17

// layout gives the fields in this form by their tags, which never change.
func (r *conversationRecord) layout() layout {
	return layout{
		1: &r.ID, 2: &r.Kind, 3: &r.Group, 4: &r.Epoch, 5: &r.JoinEpoch, 6: list[memberEntry](&r.Members),
		7: &r.Removed, 8: &r.Broken, 9: &r.Renew, 10: &r.Since, 11: &r.Updated, 12: list[pastInstance](&r.Past),
		13: &r.Days, 14: &r.Left, 15: &r.LeftEpoch, 16: &r.BrokenKind, 17: &r.BrokenCommit, 18: &r.Asked,
		19: list[wishEntry](&r.Wishes), 20: &r.PostQuantum, 21: &r.Replaced,
	}
}

func (m *memberEntry) layout() layout {
	return layout{1: &m.Platform, 2: &m.ID, 3: &m.IdentityKey, 4: &m.Joined, 5: &m.Certified}
}

func (p *pastInstance) layout() layout {
	return layout{1: &p.Group, 2: &p.Epoch, 3: &p.JoinEpoch, 4: &p.Closed, 5: &p.Days}
}

func (w *wishEntry) layout() layout {
	return layout{1: &w.Platform, 2: &w.ID, 3: &w.Leave, 4: &w.At}
}

func (r *conversationRecord) encode() []byte {
	return r.layout().append([]byte{conversationForm})
}

var errConversation = errors.New("conversation record is malformed")

// decode reads either form into an empty record.
func (r *conversationRecord) decode(b []byte) error {
	if len(b) == 0 || b[0] != conversationForm {
		return decodeJSONRecord(b, r)
	}
	r.Version = recordVersion
	if err := r.layout().read(b[1:]); err != nil {
		return fmt.Errorf("conversation record: %w", err)
	}
	if !bytes.Equal(r.encode(), b) { // an order, a length, a number out of range, a zero
		return errConversation
	}
	return nil
}

// layout is where the fields of a record lie, by tag; nil where there is none.
type layout []any

// elements is a list in a layout.
type elements interface {
	count() int
	at(i int) layout
	grow() layout // by one element, at the end
}

type listOf[T any, P interface {
	*T
	layout() layout
}] struct{ s *[]T }

func list[T any, P interface {
	*T
	layout() layout
}](s *[]T) listOf[T, P] {
	return listOf[T, P]{s}
}

func (l listOf[T, P]) count() int      { return len(*l.s) }
func (l listOf[T, P]) at(i int) layout { return P(&(*l.s)[i]).layout() }
func (l listOf[T, P]) grow() layout {
	*l.s = append(*l.s, *new(T))
	return l.at(len(*l.s) - 1)
}

func (l layout) append(b []byte) []byte {
	for tag, field := range l {
		switch p := field.(type) {
		case *uint64:
			b = appendNumber(b, tag, *p)
		case *int64:
			b = appendNumber(b, tag, uint64(*p))
		case *uint32:
			b = appendNumber(b, tag, uint64(*p))
		case *Kind:
			b = appendNumber(b, tag, uint64(*p))
		case *bool:
			if *p {
				b = appendNumber(b, tag, 1)
			}
		case *string:
			b = appendOctets(b, tag, []byte(*p))
		case *ProblemKind:
			b = appendOctets(b, tag, []byte(*p))
		case *[]byte:
			b = appendOctets(b, tag, *p)
		case *ConversationID:
			b = appendOctets(b, tag, p[:])
		case elements:
			for i := range p.count() {
				b = appendOctets(b, tag, p.at(i).append(nil))
			}
		}
	}
	return b
}

func appendNumber(b []byte, tag int, n uint64) []byte {
	if n == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, byte(tag)), n)
}

func appendOctets(b []byte, tag int, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return append(binary.AppendUvarint(append(b, byte(tag)), uint64(len(v))), v...)
}

// read fills the fields. That b is what append would write is the caller's to check.
func (l layout) read(b []byte) error {
	for len(b) > 0 {
		tag := int(b[0])
		if tag >= len(l) || l[tag] == nil {
			return fmt.Errorf("this program does not know its field %d: update it", tag)
		}
		n, size := binary.Uvarint(b[1:])
		if size <= 0 {
			return errConversation
		}
		b = b[1+size:]
		if setNumber(l[tag], n) {
			continue
		}
		if n == 0 || n > uint64(len(b)) {
			return errConversation
		}
		if err := setOctets(l[tag], b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// setNumber reports whether the field is a number.
func setNumber(field any, n uint64) bool {
	switch p := field.(type) {
	case *uint64:
		*p = n
	case *int64:
		*p = int64(n)
	case *uint32:
		*p = uint32(n)
	case *Kind:
		*p = Kind(n)
	case *bool:
		*p = n != 0
	default:
		return false
	}
	return true
}

func setOctets(field any, v []byte) error {
	switch p := field.(type) {
	case *string:
		*p = string(v)
	case *ProblemKind:
		*p = ProblemKind(v)
	case *[]byte:
		*p = bytes.Clone(v)
	case *ConversationID:
		copy(p[:], v)
	case elements:
		if p.count() >= maxElements {
			return errConversation
		}
		return p.grow().read(v)
	}
	return nil
}
