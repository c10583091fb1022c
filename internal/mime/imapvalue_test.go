package mime

import (
	"fmt"
	"strconv"
	"strings"
)

// The tests compare with what an IMAP server answered. A value is nil (NIL),
// a string (quoted, literal, atom or number) or a list of values.
type value any

// parseValue reads one value of an IMAP response and returns what follows it.
func parseValue(s string) (value, string, error) {
	s = strings.TrimLeft(s, " ")
	switch {
	case s == "":
		return nil, "", fmt.Errorf("value expected")
	case s[0] == '(':
		return parseList(s[1:])
	case s[0] == '"':
		return parseQuoted(s[1:])
	case s[0] == '{':
		n, rest, ok := strings.Cut(s[1:], "}\r\n")
		size, err := strconv.Atoi(n)
		if !ok || err != nil || size > len(rest) {
			return nil, "", fmt.Errorf("bad literal")
		}
		return rest[:size], rest[size:], nil
	}
	i := strings.IndexAny(s, " ()\r\n")
	if i < 0 {
		i = len(s)
	}
	if s[:i] == "NIL" {
		return nil, s[i:], nil
	}
	return s[:i], s[i:], nil
}

func parseList(s string) (value, string, error) {
	list := []value{}
	for {
		s = strings.TrimLeft(s, " ")
		if strings.HasPrefix(s, ")") {
			return list, s[1:], nil
		}
		v, rest, err := parseValue(s)
		if err != nil {
			return nil, "", err
		}
		list, s = append(list, v), rest
	}
}

func parseQuoted(s string) (value, string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
		}
		if i < len(s) {
			b.WriteByte(s[i])
		}
	}
	return nil, "", fmt.Errorf("unclosed quoted string")
}

func nstring(b []byte) value {
	if b == nil {
		return nil
	}
	return string(b)
}

func number(n int64) value { return strconv.FormatInt(n, 10) }

func envelopeValue(e *Envelope) value {
	return []value{
		nstring(e.Date), nstring(e.Subject),
		addressesValue(e.From), addressesValue(e.Sender), addressesValue(e.ReplyTo),
		addressesValue(e.To), addressesValue(e.Cc), addressesValue(e.Bcc),
		nstring(e.InReplyTo), nstring(e.MessageID),
	}
}

func addressesValue(addrs []Address) value {
	if len(addrs) == 0 {
		return nil
	}
	list := []value{}
	for _, a := range addrs {
		list = append(list, []value{nstring(a.Name), nstring(a.Route), nstring(a.Mailbox), nstring(a.Host)})
	}
	return list
}

func paramsValue(params []Param) value {
	if len(params) == 0 {
		return nil
	}
	list := []value{}
	for _, p := range params {
		list = append(list, string(p.Name), string(p.Value))
	}
	return list
}

// structureValue is BODYSTRUCTURE with extended, else BODY.
func structureValue(bs *BodyStructure, extended bool) value {
	var list []value
	if bs.Multipart {
		for _, c := range bs.Children {
			list = append(list, structureValue(c, extended))
		}
		if len(bs.Children) == 0 {
			list = append(list, structureValue(emptyText(), extended))
		}
		list = append(list, string(bs.Subtype))
		if extended {
			list = append(list, paramsValue(bs.Params))
		}
	} else {
		list = append(list, string(bs.Type), string(bs.Subtype), paramsValue(bs.Params),
			nstring(bs.ID), nstring(bs.Description), string(bs.Encoding), number(bs.Size))
		if bs.Envelope != nil {
			list = append(list, envelopeValue(bs.Envelope), structureValue(bs.Body, extended))
		}
		if bs.Text || bs.Envelope != nil {
			list = append(list, number(bs.Lines))
		}
		if extended {
			list = append(list, nstring(bs.MD5))
		}
	}
	if !extended {
		return list
	}
	var disposition, language value
	if bs.Disposition != nil {
		disposition = []value{string(bs.Disposition), paramsValue(bs.DispositionParams)}
	}
	if len(bs.Language) > 0 {
		tags := []value{}
		for _, tag := range bs.Language {
			tags = append(tags, string(tag))
		}
		language = tags
	}
	return append(list, disposition, language, nstring(bs.Location))
}

func emptyText() *BodyStructure {
	return &BodyStructure{
		Type: []byte("text"), Subtype: []byte("plain"), Text: true, Encoding: []byte("7bit"),
		Params: []Param{{[]byte("charset"), []byte("us-ascii")}},
	}
}

func show(v value) string {
	switch v := v.(type) {
	case nil:
		return "NIL"
	case string:
		return strconv.Quote(v)
	case []value:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = show(e)
		}
		return "(" + strings.Join(parts, " ") + ")"
	}
	return fmt.Sprint(v)
}
