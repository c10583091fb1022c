package overlay

import (
	"bytes"
	"strings"

	"github.com/cloudmls/gateway/imapd/wire"
)

// ResponseItem is one item of a FETCH response as the provider wrote it.
type ResponseItem struct {
	// Name is in capitals with its section and origin: "FLAGS",
	// "BODY[1.MIME]", "BODY[2]<1024>".
	Name string
	// Value is the value as it stands, literals included.
	Value []byte
}

// String returns the value of a string or literal, nil for NIL.
func (it *ResponseItem) String() ([]byte, bool) {
	return wire.NewScanner(it.Value).NString()
}

// Flags returns the flags of a parenthesised list.
func (it *ResponseItem) Flags() []string { return ParseFlags(it.Value) }

// ParseFlags reads a parenthesised list of flags.
func ParseFlags(list []byte) []string {
	list = bytes.TrimSuffix(bytes.TrimPrefix(bytes.TrimSpace(list), []byte("(")), []byte(")"))
	return strings.Fields(string(list))
}

// ParseItems reads the parenthesised items of a FETCH response.
func ParseItems(list []byte) ([]ResponseItem, error) {
	sc := wire.NewScanner(list)
	if !sc.Byte('(') {
		return nil, wire.ErrSyntax
	}
	var items []ResponseItem
	for {
		for sc.SP() {
		}
		if sc.Byte(')') {
			break
		}
		name, err := responseName(sc)
		if err != nil {
			return nil, err
		}
		if !sc.SP() {
			return nil, wire.ErrSyntax
		}
		v, err := sc.Value()
		if err != nil {
			return nil, err
		}
		if len(items) >= maxItems {
			return nil, wire.ErrTooLong
		}
		items = append(items, ResponseItem{Name: name, Value: v})
	}
	if !sc.End() {
		return nil, wire.ErrSyntax
	}
	return items, nil
}

// responseName reads a name with its section: field names inside it may be
// strings.
func responseName(sc *wire.Scanner) (string, error) {
	start := sc.Rest()
	if _, ok := sc.While(isItemByte); !ok {
		return "", wire.ErrSyntax
	}
	if sc.Byte('[') {
		for !sc.Byte(']') {
			switch sc.Peek() {
			case '"', '{':
				if _, ok := sc.String(); !ok {
					return "", wire.ErrSyntax
				}
			case 0, '\r', '\n':
				return "", wire.ErrSyntax
			default:
				sc.Byte(sc.Peek())
			}
		}
		if sc.Peek() == '<' {
			if _, ok := sc.While(func(c byte) bool { return c > ' ' && c != '(' && c != ')' }); !ok {
				return "", wire.ErrSyntax
			}
		}
	}
	return strings.ToUpper(string(start[:len(start)-len(sc.Rest())])), nil
}

// FindItem returns the item of that name, nil if there is none.
func FindItem(items []ResponseItem, name string) *ResponseItem {
	for i := range items {
		if items[i].Name == name {
			return &items[i]
		}
	}
	return nil
}
