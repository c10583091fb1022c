package overlay

import (
	"strconv"

	"github.com/cloudmls/gateway/imapd/wire"
	"github.com/cloudmls/gateway/internal/mime"
)

// AppendEnvelope appends the value of an ENVELOPE item (RFC 9051 section
// 7.5.2).
func AppendEnvelope(dst []byte, e *mime.Envelope) []byte {
	dst = append(dst, '(')
	dst = wire.AppendNString(dst, e.Date)
	dst = append(dst, ' ')
	dst = wire.AppendNString(dst, e.Subject)
	for _, list := range [][]mime.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		dst = append(dst, ' ')
		dst = appendAddresses(dst, list)
	}
	dst = append(dst, ' ')
	dst = wire.AppendNString(dst, e.InReplyTo)
	dst = append(dst, ' ')
	dst = wire.AppendNString(dst, e.MessageID)
	return append(dst, ')')
}

func appendAddresses(dst []byte, list []mime.Address) []byte {
	if len(list) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for _, a := range list {
		dst = append(dst, '(')
		dst = wire.AppendNString(dst, a.Name)
		dst = append(dst, ' ')
		dst = wire.AppendNString(dst, a.Route)
		dst = append(dst, ' ')
		dst = wire.AppendNString(dst, a.Mailbox)
		dst = append(dst, ' ')
		dst = wire.AppendNString(dst, a.Host)
		dst = append(dst, ')')
	}
	return append(dst, ')')
}

// AppendBodyStructure appends the value of a BODYSTRUCTURE item, or of BODY
// when extended is false (RFC 9051 section 7.5.2).
func AppendBodyStructure(dst []byte, b *mime.BodyStructure, extended bool) []byte {
	dst = append(dst, '(')
	if b.Multipart {
		dst = appendMultipart(dst, b, extended)
	} else {
		dst = appendSingle(dst, b, extended)
	}
	if extended {
		dst = append(dst, ' ')
		dst = appendDisposition(dst, b)
		dst = append(dst, ' ')
		dst = appendLanguage(dst, b.Language)
		dst = append(dst, ' ')
		dst = wire.AppendNString(dst, b.Location)
	}
	return append(dst, ')')
}

func appendMultipart(dst []byte, b *mime.BodyStructure, extended bool) []byte {
	for _, c := range b.Children {
		dst = AppendBodyStructure(dst, c, extended)
	}
	if len(b.Children) == 0 {
		// The grammar has no multipart without parts.
		empty := mime.BodyStructure{Type: []byte("text"), Subtype: []byte("plain"), Encoding: []byte("7bit"), Text: true,
			Params: []mime.Param{{Name: []byte("charset"), Value: []byte("us-ascii")}}}
		dst = AppendBodyStructure(dst, &empty, extended)
	}
	dst = append(dst, ' ')
	dst = wire.AppendString(dst, b.Subtype)
	if extended {
		dst = append(dst, ' ')
		dst = appendParams(dst, b.Params)
	}
	return dst
}

func appendSingle(dst []byte, b *mime.BodyStructure, extended bool) []byte {
	dst = wire.AppendString(dst, b.Type)
	dst = append(dst, ' ')
	dst = wire.AppendString(dst, b.Subtype)
	dst = append(dst, ' ')
	dst = appendParams(dst, b.Params)
	dst = append(dst, ' ')
	dst = wire.AppendNString(dst, b.ID)
	dst = append(dst, ' ')
	dst = wire.AppendNString(dst, b.Description)
	dst = append(dst, ' ')
	dst = wire.AppendString(dst, b.Encoding)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, b.Size, 10)
	switch {
	case b.Envelope != nil && b.Body != nil:
		dst = append(dst, ' ')
		dst = AppendEnvelope(dst, b.Envelope)
		dst = append(dst, ' ')
		dst = AppendBodyStructure(dst, b.Body, extended)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, b.Lines, 10)
	case b.Text:
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, b.Lines, 10)
	}
	if extended {
		dst = append(dst, ' ')
		dst = wire.AppendNString(dst, b.MD5)
	}
	return dst
}

func appendParams(dst []byte, params []mime.Param) []byte {
	if len(params) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i, p := range params {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = wire.AppendString(dst, p.Name)
		dst = append(dst, ' ')
		dst = wire.AppendString(dst, p.Value)
	}
	return append(dst, ')')
}

func appendDisposition(dst []byte, b *mime.BodyStructure) []byte {
	if b.Disposition == nil {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	dst = wire.AppendString(dst, b.Disposition)
	dst = append(dst, ' ')
	dst = appendParams(dst, b.DispositionParams)
	return append(dst, ')')
}

func appendLanguage(dst []byte, languages [][]byte) []byte {
	if len(languages) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(') // for one language as well: both are legal, this is what clients are used to
	for i, l := range languages {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = wire.AppendString(dst, l)
	}
	return append(dst, ')')
}
