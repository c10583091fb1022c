package proxy

import (
	"net/mail"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/mailseal"
)

// outer is what shows outside of a ciphertext.
func (c *copying) outer(state *cloudmls.ConversationState) (mailseal.Outer, error) {
	h := c.submission.header
	o := mailseal.Outer{
		From: h.From[0].Address, To: addresses(h.To), Cc: addresses(h.Cc),
		Date: outerDate(h.Date), MessageID: c.messageID,
	}
	if o.Date == "" {
		o.Date = c.now().UTC().Format(dateLayout)
	}
	if c.rules.HideThreading {
		name, err := randomName()
		o.SubjectToken = subjectToken(state.ID, name)
		return o, err
	}
	o.InReplyTo = strings.Join(h.InReplyTo, " ")
	root := c.messageID
	if len(h.InReplyTo) > 0 {
		root = h.InReplyTo[0]
	}
	references := make([]string, 0, len(h.References)+1)
	for _, ref := range h.References {
		if _, ok := conversationToken(ref); !ok {
			references = append(references, ref)
		}
	}
	if len(references) > 0 {
		root = references[0]
	}
	if state.Kind == cloudmls.KindGroup {
		references = append(references, threadToken(state.ID))
	}
	o.References = strings.Join(references, " ")
	o.SubjectToken = subjectToken(state.ID, root)
	return o, nil
}

// dateLayout is the form of RFC 5322 section 3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// outerDate is the date as submitted if it is one and nothing else, else "".
func outerDate(date string) string {
	_, err := mail.ParseDate(date)
	odd := strings.ContainsFunc(date, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(" ,:+-", r)
	})
	if err != nil || odd || len(date) > 64 {
		return ""
	}
	return date
}

// messageID is the message's own, or a new one for the outside: the inner
// octets stay as they are.
func (s *submission) messageID(self string) (string, error) {
	if s.header.MessageID != "" {
		return s.header.MessageID, nil
	}
	name, err := randomName()
	return "<" + name + "@" + domainOf(self) + ">", err
}

func addresses(list []mailseal.Mailbox) []string {
	out := make([]string, len(list))
	for i, m := range list {
		out[i] = m.Address
	}
	return out
}

func ascii(values []string) bool {
	for _, v := range values {
		for i := range len(v) {
			if v[i] > 127 {
				return false
			}
		}
	}
	return true
}
