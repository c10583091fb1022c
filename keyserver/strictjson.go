package keyserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxJSONDepth is twice what the deepest request needs.
const maxJSONDepth = 12

// An element or member of two octets takes up to a hundred in memory, so their
// number is bounded too.
const (
	maxJSONElements = 1 << 15 // of one array; twice keyapi.MaxRecipients
	maxJSONMembers  = 64      // of one object
)

// decodeStrict reads one JSON value: known members only, each at most once and
// spelled exactly, valid UTF-8, bounded depth and number, nothing behind it.
func decodeStrict(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errors.New("JSON is not UTF-8")
	}
	if err := checkJSON(data); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("JSON: more than one value")
	}
	return nil
}

// checkJSON looks at nesting and member names; everything else is left to the
// decoder. Names in keyapi are of a-z, 0-9 and _, which is checked because
// encoding/json would match other spellings too.
func checkJSON(data []byte) error {
	type level struct {
		names    map[string]struct{} // nil: an array
		isName   bool                // the next string is a member's name
		elements int                 // behind the first one
	}
	var stack []level
	for i := 0; i < len(data); i++ {
		switch c := data[i]; c {
		case '{', '[':
			if len(stack) == maxJSONDepth {
				return errors.New("JSON: nested too deeply")
			}
			l := level{}
			if c == '{' {
				l = level{names: map[string]struct{}{}, isName: true}
			}
			stack = append(stack, l)
		case '}', ']':
			if len(stack) == 0 {
				return errors.New("JSON: unexpected end of object or array")
			}
			stack = stack[:len(stack)-1]
		case ',':
			if n := len(stack); n > 0 {
				l := &stack[n-1]
				l.isName = l.names != nil
				if l.elements++; l.elements >= maxJSONElements || l.isName && l.elements >= maxJSONMembers {
					return errors.New("JSON: too many elements or members")
				}
			}
		case '"':
			end := stringEnd(data, i+1)
			if end < 0 {
				return errors.New("JSON: string without an end")
			}
			if n := len(stack); n > 0 && stack[n-1].isName {
				if err := addName(stack[n-1].names, data[i+1:end]); err != nil {
					return err
				}
				stack[n-1].isName = false
			}
			i = end
		}
	}
	return nil
}

// stringEnd finds the closing quote of a string that begins at i, or -1.
func stringEnd(data []byte, i int) int {
	for i < len(data) {
		n := bytes.IndexAny(data[i:], `"\`)
		if n < 0 {
			return -1
		}
		i += n
		if data[i] == '"' {
			return i
		}
		i += 2
	}
	return -1
}

func addName(names map[string]struct{}, name []byte) error {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return errors.New("JSON: member name with characters other than a-z, 0-9 and _")
		}
	}
	if _, twice := names[string(name)]; twice {
		return fmt.Errorf("JSON: member %q occurs twice", name)
	}
	names[string(name)] = struct{}{}
	return nil
}
