package session

import (
	"bytes"
	"errors"

	"github.com/cloudmls/gateway/imapd/wire"
)

// errOddResponse says that a FETCH response is not of RFC 9051 section 7.5.2.
// What it says to the relay need then not be what it says to the mail client.
var errOddResponse = errProtocol("FETCH response out of grammar")

// errMore says that the text so far ends in a literal within an item.
var errMore = errors.New("more of the item is to come")

// itemWalker walks over the items of a FETCH response whose literals were left
// out: each announcement stands with its CRLF, what it announces does not. It is
// strict, so that no mail client can see an item where it sees none.
type itemWalker struct {
	text []byte
	at   int // where the next item begins; 0 before the first
	done bool
}

// walk calls each for every item that is complete, with the ranges of its name
// and its value, and remembers how far it came. nil means that the response is
// complete or that more is to come.
func (w *itemWalker) walk(each func(name, value []byte, from, to int) error) error {
	if w.done {
		return errOddResponse // something behind the last item
	}
	if w.at == 0 {
		w.at = bytes.IndexByte(w.text, '(') + 1
		if w.at == 0 {
			return errOddResponse
		}
	}
	for {
		i := w.skipSpaces(w.at)
		if w.peek(i) == ')' {
			w.done = true
			if string(w.text[i+1:]) != "\r\n" {
				return errOddResponse
			}
			return nil
		}
		value, err := w.name(i)
		if errors.Is(err, errMore) {
			return nil
		}
		if err != nil || w.peek(value) != ' ' {
			return errOddResponse
		}
		name := w.text[i:value]
		value = w.skipSpaces(value)
		end, err := w.value(value)
		if errors.Is(err, errMore) && !equalFold(string(name), "FLAGS") {
			return nil
		}
		if err != nil {
			return errOddResponse
		}
		if err := each(name, w.text[value:end], value, end); err != nil {
			return err
		}
		w.at = end
	}
}

func (w *itemWalker) peek(i int) byte {
	if i >= len(w.text) {
		return 0
	}
	return w.text[i]
}

func (w *itemWalker) skipSpaces(i int) int {
	for w.peek(i) == ' ' {
		i++
	}
	return i
}

// name returns the end of an item's name, its section included.
func (w *itemWalker) name(i int) (int, error) {
	start := i
	for wire.IsAtomByte(w.peek(i)) && w.peek(i) != '[' {
		i++
	}
	if i == start {
		return 0, errOddResponse
	}
	if w.peek(i) != '[' {
		return i, nil
	}
	for i++; w.peek(i) != ']'; {
		var err error
		switch c := w.peek(i); {
		case c == '"':
			i, err = w.quoted(i)
		case c == '{':
			i, err = w.literal(i)
		case c < ' ':
			err = errOddResponse
		default:
			i++
		}
		if err != nil {
			return 0, err
		}
	}
	for i++; wire.IsAtomByte(w.peek(i)); {
		i++ // the origin: <0>
	}
	return i, nil
}

// value returns the end of a value: a list, a string or an atom.
func (w *itemWalker) value(i int) (int, error) {
	for depth := 0; ; {
		var err error
		switch c := w.peek(i); {
		case c == '(':
			depth++
			i = w.skipSpaces(i + 1)
			continue
		case c == ')' && depth > 0:
			depth--
			i++
		case c == '"':
			i, err = w.quoted(i)
		case c == '{':
			i, err = w.literal(i)
		case c == '~' && w.peek(i+1) == '{':
			i, err = w.literal(i + 1)
		case isWordByte(c):
			for isWordByte(w.peek(i)) {
				i++
			}
		default:
			err = errOddResponse
		}
		switch {
		case err != nil:
			return 0, err
		case i == len(w.text): // only a literal ends here
			return 0, errMore
		case depth == 0:
			if c := w.peek(i); c != ' ' && c != ')' {
				return 0, errOddResponse
			}
			return i, nil
		}
		// Words and strings that touch each other are read in different ways.
		switch w.peek(i) {
		case ' ', ')', '(':
			i = w.skipSpaces(i)
		default:
			return 0, errOddResponse
		}
	}
}

// isWordByte accepts what providers put into unquoted values; octets above 0x7f
// are no IMAP, and mean the same to everybody.
func isWordByte(c byte) bool {
	switch c {
	case '(', ')', '"', '{', 0x7f:
		return false
	}
	return c > ' '
}

func (w *itemWalker) quoted(i int) (int, error) {
	for i++; i < len(w.text); i++ {
		switch w.text[i] {
		case '\\':
			i++
		case '"':
			return i + 1, nil
		case '\r', '\n', 0:
			return 0, errOddResponse
		}
	}
	return 0, errOddResponse
}

// literal returns the end of an announcement with its CRLF.
func (w *itemWalker) literal(i int) (int, error) {
	digits := i + 1
	for i++; w.peek(i) >= '0' && w.peek(i) <= '9'; {
		i++
	}
	const end = "}\r\n"
	if i == digits || !bytes.HasPrefix(w.text[min(i, len(w.text)):], []byte(end)) {
		return 0, errOddResponse
	}
	i += len(end)
	if i == len(w.text) {
		return 0, errMore
	}
	return i, nil
}
