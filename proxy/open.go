package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mailseal"
)

// outerCheck is the comparison of the outer From field with the inner one.
type outerCheck uint8

const (
	outerAgrees outerCheck = iota
	outerAltered
)

// errDamaged: imapd found that what the provider stores is not what was sealed.
var errDamaged = fmt.Errorf("%w: altered at the provider", mailseal.ErrCorrupt)

// errBulkUnread: the provider could not be asked for the bulk part.
var errBulkUnread = errors.New("read the bulk part: the provider did not deliver it")

// openMessage opens a sealed message for display. What cannot be opened is a
// stub; an error means that this device failed, for instance its disk. What it
// finds is durable after the client's Settle, which imapd calls before it serves
// anything: one write to the disk for all messages of a FETCH's window.
func (a *account) openMessage(ctx context.Context, m imapd.SealedMessage) (*imapd.View, error) {
	if m.StubKey != "" {
		return a.shownStub(m.Header, m.StubKey)
	}
	sum := mailseal.Ref(m.Control) // Plaintext.Ref as well
	ref := hex.EncodeToString(sum[:])
	if m.Damaged {
		// The verdict is that of this copy alone, which imapd keeps by the
		// stub's key: another one of the same ref may be whole.
		return a.stubFor(ctx, m, ref, errDamaged)
	}
	o, err := a.decryptControl(ctx, m.Control, sum)
	if err != nil {
		return a.stubFor(ctx, m, ref, err)
	}
	control, err := mailseal.ParseControl(o.data)
	if err != nil {
		return a.stubFor(ctx, m, ref, err)
	}
	var bulk mailseal.Bulk
	if m.Bulk != nil && control.Inline == nil {
		bulk = m.Bulk
		if bulk.Size() < 0 {
			return nil, errBulkUnread // says nothing about the part
		}
	}
	msg, err := mailseal.Open(control, bulk)
	switch {
	case errors.Is(err, mailseal.ErrCorrupt):
		return a.stubFor(ctx, m, ref, err)
	case err != nil:
		return nil, fmt.Errorf("read the bulk part: %w", err) // the provider failed
	}
	ver, err := a.judge(m.Header, ref, o, control, msg)
	if err != nil {
		return nil, err
	}
	v := mailseal.NewView(m.Header, ver.Status, msg)
	return &imapd.View{
		Content: corruptReader{v}, Size: v.Size(), Tree: v.Tree(),
		Keywords: ver.Keywords, Ref: ref,
	}, nil
}

// opened is what decryption of a control part gave. plain is nil for what this
// user sealed for themselves.
type opened struct {
	data  []byte
	plain *cloudmls.Plaintext
}

// personalMagic is what sealed state objects begin with. An MLSMessage (RFC
// 9420 section 6) begins with its version, 0x0001.
var personalMagic = []byte("CMS1")

func (a *account) decryptControl(ctx context.Context, control []byte, ref [32]byte) (*opened, error) {
	if bytes.HasPrefix(control, personalMagic) {
		data, err := a.client.OpenPersonal(ctx, a.self, control)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errPersonal, err)
		}
		return &opened{data: data}, nil
	}
	ctx, cancel := a.waiting.admit(ctx, ref)
	defer cancel()
	if ctx == nil {
		return nil, cloudmls.ErrNotYet
	}
	plain, err := a.client.DecryptDeferred(ctx, a.self, control) // syncs once if need be
	a.waiting.outcome(ref, err)
	if err != nil {
		return nil, err
	}
	return &opened{data: plain.Data, plain: plain}, nil
}

// stubFor explains why the message cannot be opened. imapd keeps the key of
// what was shown. An answer to a message that could not be opened is an answer
// to an encrypted one all the same.
func (a *account) stubFor(ctx context.Context, m imapd.SealedMessage, ref string, cause error) (*imapd.View, error) {
	if ctx.Err() != nil {
		return nil, cause
	}
	if h, err := mailseal.ParseHeader(m.Header); err == nil {
		if err := a.threads.noteLater(h.MessageID, groupid.ID{}, false); err != nil {
			return nil, err
		}
	}
	code := stubCode(cause)
	a.log.Info("message not opened", "reason", code, "ref", ref[:16])
	a.log.Debug("message not opened", "ref", ref[:16], "err", cause) // may name accounts
	return a.stubView(m.Header, code, ref), nil
}

// judge gives the verdict on an opened message: the stored one if there is
// one, else what the checks find now, stored with the next Settle.
func (a *account) judge(outerHeader []byte, ref string, o *opened, control *mailseal.Control, msg *mailseal.Message) (*verdict, error) {
	inner, err := innerHeader(msg)
	if err != nil {
		inner = &mailseal.Header{} // nothing in it can be verified
	}
	if o.plain == nil {
		return a.judgePersonal(control, inner)
	}
	outer := a.checkOuter(outerHeader, inner)
	key := verdictKey(ref, outer)
	if ver, err := a.verdicts.get(key); err != nil || ver != nil {
		return ver, err
	}
	findings := check(o.plain, control, inner)
	if a.replacedLately(o.plain) {
		findings = append(findings, findingReplaced)
	}
	if outer == outerAltered {
		findings = append(findings, findingOuterFrom)
	}
	if slices.Contains(findings, findingFork) {
		if err := a.health.fork(o.plain.Conversation); err != nil {
			a.log.Warn("a fork was not noted", "err", err)
		}
	}
	ver := &verdict{Findings: findings, Conversation: o.plain.Conversation}
	ver.Status, ver.Keywords = openedStatus(a.token, o.plain.Sender.ID, control.Kind == mailseal.KindBlind, o.plain.SenderVerified, findings)
	if err := a.noteOpened(outerHeader, inner, o.plain); err != nil {
		return nil, err
	}
	return ver, a.verdicts.put(key, ver)
}

// judgePersonal is for what this user sealed for themselves. A Sent copy names
// the conversation that the message went to; a copy of plain mail does not.
func (a *account) judgePersonal(control *mailseal.Control, inner *mailseal.Header) (*verdict, error) {
	status, keywords := personalStatus(a.token)
	if control.Kind != mailseal.KindSelf {
		status = statusLine(a.token, "sealed by you", "warning="+string(findingKind))
		keywords = append(keywords, imapd.KeywordWarning)
	}
	if id := groupid.ID(control.Conversation); id != a.selfConversation() {
		if err := a.threads.noteLater(inner.MessageID, id, true); err != nil {
			return nil, err
		}
	}
	return &verdict{Status: status, Keywords: keywords}, nil
}

// check compares what the message says of itself with who sent it in which
// conversation. No finding means authentic. Dates are no input.
func check(p *cloudmls.Plaintext, c *mailseal.Control, inner *mailseal.Header) []finding {
	var findings []finding
	if groupid.ID(c.Conversation) != p.Conversation {
		findings = append(findings, findingConversation)
	}
	if c.Kind != mailseal.KindMessage && (c.Kind != mailseal.KindBlind || p.Kind == cloudmls.KindGroup) {
		findings = append(findings, findingKind)
	}
	if !fromIs(inner, p.Sender) {
		findings = append(findings, findingFrom)
	}
	for _, w := range p.Warnings {
		f, ok := warningFindings[w]
		if !ok {
			f = findingUnverified
		}
		findings = append(findings, f)
	}
	if len(findings) == 0 && !p.Verified {
		findings = append(findings, findingUnverified)
	}
	return findings
}

// replacedLately tells whether people have to be told by the message that its
// conversation was begun anew with another group, as Status tells them: whoever did
// it is one of them by their keys, but keys can be stolen. What the user sent from
// another device needs no telling.
func (a *account) replacedLately(p *cloudmls.Plaintext) bool {
	return !p.Own && !p.Replaced.IsZero() && a.now().Sub(p.Replaced) <= replacedFor
}

// fromIs reports whether the header's From field is exactly the account, and
// a Sender field, if there is one, is as well.
func fromIs(h *mailseal.Header, a cloudmls.Account) bool {
	if a.Platform != cloudmls.PlatformEmail || len(h.From) != 1 || len(h.Sender) > 1 {
		return false
	}
	for _, d := range h.Duplicates {
		if d == "From" || d == "Sender" {
			return false
		}
	}
	for _, m := range append(h.Sender[:len(h.Sender):len(h.Sender)], h.From[0]) {
		if id, err := groupid.Canonical(m.Address); err != nil || id != a.ID {
			return false
		}
	}
	return true
}

// checkOuter compares the outer From field with the inner one; known lists may
// rewrite it.
func (a *account) checkOuter(outerHeader []byte, inner *mailseal.Header) outerCheck {
	h, err := mailseal.ParseHeader(outerHeader)
	if err == nil && len(h.From) == 1 && len(inner.From) == 1 {
		x, errX := groupid.Canonical(h.From[0].Address)
		y, errY := groupid.Canonical(inner.From[0].Address)
		if errX == nil && errY == nil && x == y {
			return outerAgrees
		}
	}
	if a.rules.knownList(listID(outerHeader)) {
		return outerAgrees
	}
	return outerAltered
}

// noteOpened remembers the message's thread under its inner and outer
// Message-ID: relays replace the outer one, answers name the one shown.
func (a *account) noteOpened(outerHeader []byte, inner *mailseal.Header, p *cloudmls.Plaintext) error {
	if err := a.threads.noteLater(inner.MessageID, p.Conversation, p.Own); err != nil {
		return err
	}
	h, err := mailseal.ParseHeader(outerHeader)
	if err != nil || h.MessageID == inner.MessageID {
		return nil // an unreadable outer header names no thread
	}
	// Whoever handles the mail on the way chooses the outer id, also that of a
	// message of ours, so it never moves a thread that is known already.
	return a.threads.noteLater(h.MessageID, p.Conversation, false)
}
