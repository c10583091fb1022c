package wire

import "strconv"

// maxQuoted is the length above which a string is written as a literal.
const maxQuoted = 1000

// AppendNString appends v as quoted string or literal, NIL for nil.
func AppendNString(dst, v []byte) []byte {
	if v == nil {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, v)
}

// AppendString appends v as quoted string where that is possible, else as
// literal. For what the relay sends to clients: a provider may not take the
// literal without asking.
func AppendString(dst, v []byte) []byte {
	if !Quotable(v) {
		dst = append(dst, '{')
		dst = strconv.AppendInt(dst, int64(len(v)), 10)
		dst = append(dst, "}\r\n"...)
		return append(dst, v...)
	}
	return AppendQuoted(dst, v)
}

// Quotable tells whether v can be written as a quoted string: 7 bit, no CR, LF
// or NUL, not very long (RFC 9051 QUOTED-CHAR).
func Quotable(v []byte) bool {
	if len(v) > maxQuoted {
		return false
	}
	for _, c := range v {
		if c == 0 || c == '\r' || c == '\n' || c >= 0x80 {
			return false
		}
	}
	return true
}

// AppendQuoted appends v as quoted string. v must be Quotable.
func AppendQuoted(dst, v []byte) []byte {
	dst = append(dst, '"')
	for _, c := range v {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// AppendAString appends v as an atom where possible, else as AppendString.
func AppendAString(dst, v []byte) []byte {
	if len(v) == 0 {
		return append(dst, `""`...)
	}
	for _, c := range v {
		if !IsAtomByte(c) {
			return AppendString(dst, v)
		}
	}
	return append(dst, v...)
}
