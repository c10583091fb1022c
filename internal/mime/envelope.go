package mime

import (
	"bytes"
	"strings"
)

// Envelope is what IMAP's ENVELOPE says of a message (RFC 9051 section 7.5.2).
// Values are raw octets with line ends removed; nil stands for NIL. Encoded
// words (RFC 2047) are left as they are.
type Envelope struct {
	Date      []byte
	Subject   []byte
	From      []Address
	Sender    []Address // From where the field is missing or empty
	ReplyTo   []Address // From where the field is missing or empty
	To        []Address
	Cc        []Address
	Bcc       []Address
	InReplyTo []byte
	MessageID []byte
}

// Address is one address structure of an envelope. A group begins with an
// address whose Host is nil and whose Mailbox is the group's name, and ends
// with one whose Mailbox and Host are nil (RFC 9051 section 7.5.2).
type Address struct {
	Name    []byte // display name, unquoted; nil for NIL
	Route   []byte // source route ("at-domain-list"); nil for NIL
	Mailbox []byte // local part, unquoted
	Host    []byte // domain

	// Invalid says that the text was not a valid address: the fields are a
	// guess that is good enough to show.
	Invalid bool
}

// Param is one parameter of Content-Type or Content-Disposition.
type Param struct{ Name, Value []byte }

// BodyStructure is what IMAP's BODYSTRUCTURE says of a part (RFC 9051 section
// 7.5.2). Values are raw octets; nil stands for NIL. BODY is the same without
// the extension data (MD5, Disposition, Language, Location, and the Params of
// a multipart).
type BodyStructure struct {
	Type, Subtype []byte // as written; "text" "plain" by default
	Params        []Param

	// Of a multipart: its parts; empty only where the multipart has none, for
	// which IMAP has no form (imapd writes an empty text part).
	Multipart bool
	Children  []*BodyStructure

	// Of everything else:
	ID, Description []byte
	Encoding        []byte // "7bit" by default
	Size            int64  // octets of the body, encoded
	Lines           int64  // written for text and message/rfc822 only
	MD5             []byte

	// Of message/rfc822:
	Envelope *Envelope
	Body     *BodyStructure

	// Text says that Lines is written (type text).
	Text bool

	// Extension data of both kinds:
	Disposition       []byte // nil: no disposition
	DispositionParams []Param
	Language          [][]byte
	Location          []byte
}

// Envelope returns the envelope of the message whose root is p: of the field
// that counts once the last, of an address field all together.
func (p *Part) Envelope() Envelope {
	var e Envelope
	for f := range Fields(p.Header) {
		e.add(f)
	}
	if len(e.Sender) == 0 {
		e.Sender = e.From
	}
	if len(e.ReplyTo) == 0 {
		e.ReplyTo = e.From
	}
	return e
}

func (e *Envelope) add(f Field) {
	var text *[]byte
	var list *[]Address
	switch strings.ToLower(string(f.Name)) {
	case "date":
		text = &e.Date
	case "subject":
		e.Subject = tidy(f.Unfolded())
	case "in-reply-to":
		text = &e.InReplyTo
	case "message-id":
		text = &e.MessageID
	case "from":
		list = &e.From
	case "sender":
		list = &e.Sender
	case "reply-to":
		list = &e.ReplyTo
	case "to":
		list = &e.To
	case "cc":
		list = &e.Cc
	case "bcc":
		list = &e.Bcc
	}
	if text != nil {
		*text = f.Unfolded()
	}
	if list != nil {
		*list = append(*list, displayed(ParseAddressList(f.Value))...)
	}
}

// displayed tidies the names of addresses for people to read.
func displayed(addrs []Address) []Address {
	for i, a := range addrs {
		if a.Name != nil {
			addrs[i].Name = tidy(a.Name)
		}
	}
	return addrs
}

// tidy makes each run of white space one space and removes it from both ends.
func tidy(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, c := range b {
		if isSpace(c) {
			c = ' '
			if len(out) == 0 || out[len(out)-1] == ' ' {
				continue
			}
		}
		out = append(out, c)
	}
	return bytes.TrimRight(out, " ")
}
