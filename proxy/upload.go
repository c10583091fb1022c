package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/internal/mailseal"
)

// sealUpload seals what a mail client stores at the provider by APPEND, with
// the personal archive key: a draft, a Sent copy with its Bcc field, mail moved
// from elsewhere. No ratchet is touched. The octets stay exactly the client's.
// A header that cannot be read is no obstacle: then less shows outside.
func (a *account) sealUpload(ctx context.Context, u imapd.Upload) (*imapd.SealedUpload, error) {
	outer, conversation, err := a.uploadOuter(u)
	if err != nil {
		return nil, &imapd.Failure{Code: "SERVERBUG", Err: err, Text: "the message could not be encrypted, so it was not stored"}
	}
	o := mailseal.SealOptions{
		Outer: outer, Kind: mailseal.KindSelf, Conversation: conversation,
		Control: func(plaintext []byte) ([]byte, error) {
			return a.client.SealPersonal(ctx, a.self, plaintext)
		},
	}
	p, err := mailseal.Prepare(u.Content, u.Size, o)
	if errors.Is(err, mailseal.ErrOuter) {
		// An odd header of somebody else's message: it need not show.
		o.Outer = a.plainOuter()
		p, err = mailseal.Prepare(u.Content, u.Size, o)
	}
	switch {
	case errors.Is(err, mailseal.ErrNotSealable), errors.Is(err, mailseal.ErrTooLarge), isLimit(err):
		return nil, &imapd.Failure{Code: "CANNOT", Err: fmt.Errorf("seal an upload: %w", err),
			Text: "the message cannot be encrypted, so it was not stored: it is too large, too complicated, or no message"}
	case err != nil:
		return nil, &imapd.Failure{Code: "UNAVAILABLE", Err: fmt.Errorf("seal an upload: %w", err),
			Text: "the message could not be encrypted, so it was not stored: " + sentence(err)}
	}
	crashpoint.Here("upload-sealed")
	return &imapd.SealedUpload{Content: p.Reader(), Size: p.Size}, nil
}

// uploadOuter is what shows outside of an upload: what the sent message shows
// as well, and nothing of a draft's people, who may never get it. The
// conversation is the one that the message was sent to, if it was encrypted.
func (a *account) uploadOuter(u imapd.Upload) (mailseal.Outer, groupid.ID, error) {
	self := a.selfConversation()
	o := a.plainOuter()
	raw, err := mailseal.ReadHeader(u.Content, u.Size)
	if err != nil {
		return o, self, nil
	}
	h, err := mailseal.ParseHeader(raw)
	if err != nil {
		return o, self, nil
	}
	o.Date, o.MessageID = outerDate(h.Date), h.MessageID
	if hasFlag(u.Flags, `\Draft`) {
		return o, self, nil
	}
	if len(h.From) == 1 {
		o.From = h.From[0].Address
	}
	o.To, o.Cc = addresses(h.To), addresses(h.Cc)
	if !a.rules.HideThreading {
		o.InReplyTo = strings.Join(h.InReplyTo, " ")
		o.References = strings.Join(h.References, " ")
	}
	e, ok, err := a.threads.get(h.MessageID)
	if ok && !e.Conversation.IsZero() {
		self = e.Conversation
	}
	o.SubjectToken = subjectToken(self, rootOf(h))
	return o, self, err
}

// plainOuter shows no more than whose upload it is.
func (a *account) plainOuter() mailseal.Outer {
	return mailseal.Outer{From: a.self.ID, SubjectToken: subjectToken(a.selfConversation(), "")}
}

// rootOf is the Message-ID that a thread began with, as far as a header knows.
func rootOf(h *mailseal.Header) string {
	switch {
	case len(h.References) > 0:
		return h.References[0]
	case len(h.InReplyTo) > 0:
		return h.InReplyTo[0]
	}
	return h.MessageID
}

func hasFlag(flags []string, name string) bool {
	for _, f := range flags {
		if strings.EqualFold(f, name) {
			return true
		}
	}
	return false
}
