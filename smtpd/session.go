package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/spool"
	"github.com/cloudmls/gateway/smtpd/outbox"
)

// session is one connection of a mail client. go-smtp calls its methods one
// after the other, except that Reset and Logout may come while a Data that was
// begun by BDAT still reads; Data therefore takes what it needs at its start.
type session struct {
	server *Server
	guard  *guard
	log    *slog.Logger
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	mu       sync.Mutex
	account  Account // nil before login
	username string
	envelope Envelope

	relayMu sync.Mutex
	relay   *relay
}

var (
	_ smtp.Session     = (*session)(nil)
	_ smtp.AuthSession = (*session)(nil)
)

// current returns the account and the envelope as they are now.
func (s *session) current() (Account, Envelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.envelope
	e.Username = s.username
	e.Recipients = slices.Clone(e.Recipients)
	e.notify.Recipients = maps.Clone(e.notify.Recipients)
	return s.account, e
}

// fail logs what the client cannot make sense of and returns what it reads.
func (s *session) fail(where string, err error) *smtp.SMTPError {
	id := newID()
	e, internal := smtpError(err, id)
	level := slog.LevelInfo
	if internal {
		level = slog.LevelError
	}
	s.log.LogAttrs(s.ctx, level, "submission refused", slog.String("at", where), slog.Int("code", e.Code), slog.String("id", id))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) { // nobody else will say it
		s.log.LogAttrs(s.ctx, slog.LevelWarn, "no space left on device", slog.String("id", id))
	}
	cause := err
	if r := (*Refusal)(nil); errors.As(err, &r) && r.Err != nil {
		cause = r.Err // the text is in the answer
	}
	s.log.LogAttrs(s.ctx, slog.LevelDebug, "cause of the refusal", slog.String("id", id), slog.Any("err", cause))
	return e
}

// Mail implements smtp.Session: it opens the transaction at the provider as
// well, so that what the provider cannot do is refused before the content.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	account, _ := s.current()
	if account == nil {
		return errAuthRequired
	}
	if from != "" {
		wire, err := wireAddress(from, o.UTF8)
		if err != nil {
			if errors.Is(err, errAddressUTF8) {
				return errSenderUTF8
			}
			return errBadSender
		}
		from = wire
	}
	var prepared any
	if p, ok := account.(Preparer); ok {
		prepared = p.Prepare(s.ctx)
	}
	notify := outbox.Notify{Return: string(o.Return), EnvelopeID: o.EnvelopeID}
	s.relayMu.Lock()
	defer s.relayMu.Unlock()
	if s.relay == nil {
		s.relay = &relay{upstream: account.Upstream, t: s.server.timeouts}
	}
	s.relay.renew()
	if err := s.relay.connect(s.ctx); err != nil {
		return s.fail("connect", err)
	}
	if err := s.checkSize(o.Size); err != nil {
		return err
	}
	if err := s.relay.begin(s.ctx, opening{from, o.UTF8, notify}); err != nil {
		return s.fail("mail", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envelope = Envelope{From: from, UTF8: o.UTF8, Prepared: prepared, notify: notify, declared: o.Size}
	return nil
}

// checkSize refuses at MAIL what the provider could not take after sealing.
func (s *session) checkSize(size int64) error {
	limit := s.relay.l.size
	if limit <= 0 {
		return nil
	}
	if !s.server.o.OversizePlain {
		limit = Capacity(limit)
	}
	if size <= limit {
		return nil
	}
	return fixed(552, "5.3.4", fmt.Sprintf(
		"the message has %d octets; encrypted mail to your provider may have %d at most", size, limit))
}

// checkSealedSize refuses at RCPT a message whose declared size the provider
// would take in clear only, where it is known already that this recipient gets
// it sealed: the mail client need not send all of it to learn that.
func (s *session) checkSealedSize(account Account, size int64, rcpt string) error {
	sealer, ok := account.(MustSealer)
	if !ok || s.relay == nil || s.relay.l == nil || s.relay.l.size <= 0 {
		return nil
	}
	limit := Capacity(s.relay.l.size)
	if size <= limit || !sealer.MustSeal(rcpt) {
		return nil
	}
	return fixed(552, "5.3.4", fmt.Sprintf(
		"the message has %d octets; encrypted mail to your provider may have %d at most, and mail to this recipient is always encrypted", size, limit))
}

// Rcpt implements smtp.Session: own policy first, then the provider's word.
func (s *session) Rcpt(to string, o *smtp.RcptOptions) error {
	account, envelope := s.current()
	if account == nil {
		return errAuthRequired
	}
	rcpt, err := wireAddress(to, envelope.UTF8)
	if err != nil {
		if errors.Is(err, errAddressUTF8) {
			return errRecipientUTF8
		}
		return errBadRecipient
	}
	if slices.Contains(envelope.Recipients, rcpt) {
		return nil
	}
	if err := account.CheckRecipient(s.ctx, envelope.From, rcpt); err != nil {
		return s.fail("recipient policy", err)
	}
	s.relayMu.Lock()
	defer s.relayMu.Unlock()
	if err := s.checkSealedSize(account, envelope.declared, rcpt); err != nil {
		return err
	}
	noteRecipient(&envelope.notify, rcpt, o)
	if err := s.relay.recipient(s.ctx, opening{envelope.From, envelope.UTF8, envelope.notify}, envelope.Recipients, rcpt); err != nil {
		return s.fail("rcpt", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envelope.Recipients = append(s.envelope.Recipients, rcpt)
	s.envelope.notify = envelope.notify
	return nil
}

// Data implements smtp.Session. Its result is always a *smtp.SMTPError, also
// where the message went out: that is how the provider's own 250 reaches the
// client.
func (s *session) Data(r io.Reader) error {
	_, chunked := r.(*io.PipeReader) // BDAT: go-smtp feeds it through a pipe
	defer s.guard.leaveData()
	if err := s.guard.enterData(!chunked); err != nil {
		return s.fail("content", errBareLines)
	}
	account, envelope := s.current()
	if account == nil || len(envelope.Recipients) == 0 {
		return errAuthRequired
	}
	content := spool.New(s.server.o.SpoolDir, 0)
	defer func() {
		if err := content.Close(); err != nil {
			s.log.Error("spool not removed", "err", err)
		}
	}()
	if err := receive(r, content, &envelope); err != nil {
		return s.fail("content", err)
	}
	said, err := s.submit(account, envelope, Message{Content: content, Size: content.Size()})
	if err != nil {
		return s.fail("submit", err)
	}
	return &said.SMTPError
}

// receive stores the content and completes the envelope with what it shows.
func receive(r io.Reader, content *spool.Spool, e *Envelope) error {
	check := &checker{}
	stored := &sinkWriter{w: content}
	_, err := io.Copy(io.MultiWriter(check, stored), r)
	if err == nil {
		err = check.finish()
	}
	switch {
	case err == nil:
		e.EightBit, e.LongestLine = check.eightBit, check.longest
		return nil
	case stored.err != nil:
		return &Refusal{
			Code: errSpool.Code, Enhanced: errSpool.EnhancedCode, Text: errSpool.Message, Temporary: true, Err: stored.err,
		}
	case errors.Is(err, errBareLineEnd):
		return errBareLines
	case errors.Is(err, errNUL):
		return errHoldsNUL
	case errors.Is(err, smtp.ErrTooLongLine):
		return fixed(554, "5.6.0", fmt.Sprintf("a line of the message is longer than %d octets; it was not sent", MaxLineLength))
	case errors.Is(err, smtp.ErrDataTooLarge):
		return errTooLarge
	}
	return &Refusal{
		Code: 451, Enhanced: [3]int{4, 4, 2}, Temporary: true, Err: err,
		Text: "the message did not arrive completely; nothing was sent",
	}
}

// sinkWriter remembers an error of the spool, to tell it from one of the
// client's connection.
type sinkWriter struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (s *sinkWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	s.envelope = Envelope{}
	s.mu.Unlock()
}

// Logout implements smtp.Session.
func (s *session) Logout() error {
	s.server.live.leave(s)
	s.cancel()
	s.relayMu.Lock()
	defer s.relayMu.Unlock()
	if s.relay != nil {
		s.relay.close()
	}
	return nil
}
