package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/internal/mime"
	"github.com/cloudmls/gateway/smtpd"
)

// submission is what was understood of a submitted message before anything is
// decided.
type submission struct {
	envelope smtpd.Envelope
	message  smtpd.Message
	header   *mailseal.Header
	// visible are the people of To and Cc without the sender.
	visible groupid.Participants
	// open are the envelope's recipients that To or Cc name, in wire form; the
	// sender may be among them.
	open []string
	// blind are the others.
	blind []blindRecipient
	// automatic: sent by a program, or to a list. Such a message never changes
	// a group.
	automatic bool
	// alias: the From field names an alias of the account.
	alias bool
}

// blindRecipient is in the envelope but in neither To nor Cc.
type blindRecipient struct {
	wires []string // all spellings in the envelope
	id    string   // canonical
}

// read understands a submission. Every error is a *smtpd.Refusal.
func (a *account) read(e smtpd.Envelope, msg smtpd.Message) (*submission, error) {
	raw, err := mailseal.ReadHeader(msg.Content, msg.Size)
	if err != nil {
		return nil, permanent(enhancedContent, err, "Not sent: the message's header is too long or has no end.")
	}
	h, err := mailseal.ParseHeader(raw)
	if err != nil {
		return nil, permanent(enhancedContent, err, "Not sent: the message's header is malformed, so it is not clear who it is for.")
	}
	s := &submission{envelope: e, message: msg, header: h}
	if err := a.checkSender(s); err != nil {
		return nil, err
	}
	if err := a.readPeople(s); err != nil {
		return nil, err
	}
	s.automatic = e.From == "" || h.ListFields || h.AutoSubmitted != "" && h.AutoSubmitted != "no" || isReport(raw)
	return s, nil
}

// checkSender: whoever is logged in writes under the account's own addresses.
func (a *account) checkSender(s *submission) error {
	if s.envelope.From != "" && !a.owns(s.envelope.From) {
		return permanent(enhancedPolicy, nil, "Not sent: %s is not an address of this account.", printable(s.envelope.From))
	}
	for _, m := range s.header.From {
		if !a.owns(m.Address) {
			return permanent(enhancedPolicy, nil, "Not sent: the From field names %s, which is not an address of this account.", printable(m.Address))
		}
		id, _ := groupid.Canonical(m.Address) // owns has parsed it
		s.alias = s.alias || id != a.self.ID
	}
	return nil
}

func (a *account) readPeople(s *submission) error {
	visible := make(map[string]bool)
	var ids []string
	for _, m := range append(append([]mailseal.Mailbox(nil), s.header.To...), s.header.Cc...) {
		id, err := a.person(m.Address)
		if err != nil {
			return permanent(enhancedRecipient, err, "Not sent: the address %s in To or Cc is invalid.", printable(m.Address))
		}
		visible[id] = true
		if id != a.self.ID {
			ids = append(ids, id)
		}
	}
	var err error
	if s.visible, err = groupid.NewParticipants(ids...); err != nil {
		return permanent(enhancedRecipient, err, "Not sent: the message has too many recipients, or an invalid one.")
	}
	blind := make(map[string]int) // index in s.blind
	for _, wire := range s.envelope.Recipients {
		id, err := a.person(wire)
		i, again := blind[id]
		switch {
		case err != nil:
			return permanent(enhancedRecipient, err, "Not sent: the address %s is invalid.", printable(wire))
		case visible[id]:
			s.open = append(s.open, wire)
		case again:
			s.blind[i].wires = append(s.blind[i].wires, wire)
		default:
			blind[id] = len(s.blind)
			s.blind = append(s.blind, blindRecipient{wires: []string{wire}, id: id})
		}
	}
	return nil
}

// person gives the canonical id of an address; all own addresses are one person.
func (a *account) person(addr string) (string, error) {
	id, err := groupid.Canonical(addr)
	if err != nil {
		return "", err
	}
	if a.own[id] {
		return a.self.ID, nil
	}
	return id, nil
}

func (a *account) owns(addr string) bool {
	id, err := groupid.Canonical(addr)
	return err == nil && a.own[id]
}

// people are the persons other than the sender that the message goes to. The
// people of To and Cc count only if one of them gets it now: some programs send
// blind copies by a submission of their own.
func (s *submission) people() []string {
	var ids []string
	if len(s.open) > 0 {
		ids = s.visible.IDs()
	}
	for _, b := range s.blind {
		ids = append(ids, b.id)
	}
	return ids
}

// sealable says why a message's header does not allow it to be encrypted.
func (s *submission) sealable(self string) error {
	switch {
	case len(s.header.Duplicates) > 0:
		return permanent(enhancedContent, nil, "Not sent: the header has the field %s more than once.", printable(strings.Join(s.header.Duplicates, ", ")))
	case len(s.header.From) != 1:
		return permanent(enhancedContent, nil, "Not sent: the From field must hold exactly one address.")
	case len(s.header.Sender) > 0 && !s.sentBy(self):
		return permanent(enhancedPolicy, nil, "Not sent: the Sender field names another address than %s.\nReaders of encrypted mail would be warned of a forged sender.", printable(self))
	case s.alias:
		return permanent(enhancedPolicy, nil, "Not sent: encrypted mail of this account is sent from %s.\nUse that address, or set up the other one as an account of its own.", printable(self))
	}
	return nil
}

// sentBy reports whether the Sender field holds the address and nothing else.
func (s *submission) sentBy(self string) bool {
	for _, m := range s.header.Sender {
		if id, err := groupid.Canonical(m.Address); err != nil || id != self {
			return false
		}
	}
	return len(s.header.Sender) == 1
}

// isReport recognises delivery and disposition notifications (RFC 6522).
func isReport(header []byte) bool {
	field := mime.HeaderFields(header, []string{"Content-Type"}, false)
	_, value, _ := bytes.Cut(field, []byte(":"))
	value = bytes.ToLower(bytes.TrimSpace(value))
	return bytes.HasPrefix(value, []byte("multipart/report")) || bytes.HasPrefix(value, []byte("message/disposition-notification"))
}

// checkRecipient is what RCPT asks: is this an address at all, and may the
// sender write under theirs?
func (a *account) checkRecipient(from, rcpt string) error {
	if from != "" && !a.owns(from) {
		return permanent(enhancedSender, nil, "%s is not an address of this account.", printable(from))
	}
	if _, err := groupid.Canonical(rcpt); err != nil {
		return permanent(enhancedRecipient, fmt.Errorf("recipient: %w", err), "The address %s is invalid.", printable(rcpt))
	}
	return nil
}

var errNoRecipient = errors.New("message has no recipient")
