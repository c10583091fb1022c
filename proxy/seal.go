package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/mls"
	"github.com/cloudmls/gateway/smtpd"
)

// sealTimeout bounds the work with the key server for one submission. Thunderbird
// gives up after 100 s without an answer; what left after that would be sent by
// its user a second time.
const sealTimeout = time.Minute

// seal decides what happens to a submission and carries it out as far as the
// transactions for the provider. Every error is a *smtpd.Refusal; then nothing
// is sent. All ciphertexts are complete before it returns.
func (a *account) seal(ctx context.Context, e smtpd.Envelope, msg smtpd.Message) ([]smtpd.Transaction, error) {
	ctx, cancel := context.WithTimeout(ctx, sealTimeout)
	defer cancel()
	s, err := a.read(e, msg)
	if err != nil {
		return nil, err
	}
	// Members may have come and gone since the background loop last looked.
	since := a.syncFor(ctx, e)
	th, err := a.parents(ctx, s)
	if err != nil {
		return nil, refusalOf(err)
	}
	selfMode, _ := a.rules.mode(a.self.ID)
	facts, people := messageFacts{answersSealed: th.sealed, selfMode: selfMode}, a.lookUp(ctx, s.people(), since)
	d := decide(facts, people)
	if d.outcome == outcomePlain && !th.sealed {
		if facts.answersSealed, err = a.answersSealed(ctx, s); err != nil {
			return nil, a.refused(temporary(enhancedSecurity, err,
				"Not sent: it could not be checked at your mail provider whether the message that this one answers was encrypted.\nNothing was sent in clear. Try again in a few minutes."))
		}
		d = decide(facts, people)
	}
	switch d.outcome {
	case outcomePlain:
		a.log.Info("message leaves in clear", "recipients", len(e.Recipients), "octets", msg.Size)
		t, err := plainTransaction(e, msg)
		if err != nil {
			return nil, refusalOf(err)
		}
		return []smtpd.Transaction{t}, nil
	case outcomeEncrypt:
		ts, err := a.encryptAll(ctx, s, th, since)
		if err != nil {
			return nil, a.refused(refusalOf(err))
		}
		a.log.Info("message encrypted", "transactions", len(ts), "octets", msg.Size)
		return ts, nil
	}
	return nil, a.refused(d.refusal)
}

// refused logs a refusal; its cause may name people.
func (a *account) refused(r *smtpd.Refusal) *smtpd.Refusal {
	a.log.Warn("message refused", "code", r.Enhanced)
	a.log.Debug("cause of the refusal", "err", r.Err)
	return r
}

// knows tells which conversations this account has.
func (a *account) knows(ctx context.Context) func(groupid.ID) (bool, error) {
	return func(id groupid.ID) (bool, error) {
		_, err := a.client.Conversation(ctx, a.self, id)
		if errors.Is(err, cloudmls.ErrNoConversation) {
			return false, nil
		}
		return err == nil, err
	}
}

func plainTransaction(e smtpd.Envelope, msg smtpd.Message) (smtpd.Transaction, error) {
	id, err := randomName()
	if err != nil {
		return smtpd.Transaction{}, err
	}
	return smtpd.Transaction{
		ID: id, From: e.From, Recipients: e.Recipients, Size: msg.Size, UTF8: e.UTF8, EightBit: e.EightBit,
		Open: func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(msg.Content, 0, msg.Size)), nil
		},
	}, nil
}

// encryptAll makes one transaction for the people of To and Cc, and one for
// each blind recipient.
func (a *account) encryptAll(ctx context.Context, s *submission, th thread, since cloudmls.Moment) (ts []smtpd.Transaction, err error) {
	if err := s.sealable(a.self.ID); err != nil {
		return nil, err
	}
	if len(s.open)+len(s.blind) == 0 {
		return nil, errNoRecipient
	}
	defer func() {
		if err != nil {
			for _, t := range ts {
				err = errors.Join(err, t.Close())
			}
			ts = nil
		}
	}()
	inner, size, err := mailseal.StripBcc(s.message.Content, s.message.Size)
	if err != nil {
		return nil, fmt.Errorf("remove the Bcc field: %w", err)
	}
	c := &copying{account: a, submission: s, thread: th, since: since, inner: inner, size: size}
	if c.messageID, err = s.messageID(a.self.ID); err != nil {
		return nil, err
	}
	main := groupid.ID{}
	if len(s.open) > 0 {
		t, id, err := c.seal(ctx, mailseal.KindMessage, s.open, s.visible)
		if err != nil {
			return ts, err
		}
		ts, main = append(ts, t), id
	}
	for _, b := range s.blind {
		person, err := groupid.NewParticipants(without(b.id, a.self.ID)...)
		if err != nil {
			return ts, err
		}
		t, id, err := c.seal(ctx, mailseal.KindBlind, b.wires, person)
		if err != nil {
			return ts, err
		}
		ts = append(ts, t)
		if main.IsZero() {
			main = id
		}
	}
	crashpoint.Here("sealed")
	// The note protects answers to this message, which nobody can write before it
	// was sent, and the mail client takes for sent what got its 250. So it has to
	// be durable by then, see Sent, and is written while the provider takes the
	// message. What keeps the ciphertext itself safe is durable already.
	if err := a.threads.noteLater(c.messageID, main, true); err != nil {
		return ts, err
	}
	return ts, nil
}

func without(id, self string) []string {
	if id == self {
		return nil
	}
	return []string{id}
}

// copying is one submission on its way into ciphertexts.
type copying struct {
	*account
	submission *submission
	thread     thread
	since      cloudmls.Moment // the account is synced since then, if the key server answers
	inner      io.ReaderAt
	size       int64
	messageID  string
}

// seal makes one ciphertext for others, to be delivered to the recipients. It
// chooses the conversation anew when its roster changed in between.
func (c *copying) seal(ctx context.Context, kind mailseal.Kind, recipients []string, others groupid.Participants) (smtpd.Transaction, groupid.ID, error) {
	th := c.thread
	if kind == mailseal.KindBlind {
		th = thread{} // nothing of the thread's people shows in a blind copy
	}
	for range maxReconcile {
		state, err := c.conversationFor(ctx, others, th)
		if err != nil {
			return smtpd.Transaction{}, groupid.ID{}, err
		}
		t, err := c.encrypt(ctx, kind, recipients, others, state)
		if errors.Is(err, errMembersChanged) {
			continue
		}
		return t, state.ID, err
	}
	return smtpd.Transaction{}, groupid.ID{}, errMembersChanged
}

func (c *copying) conversationFor(ctx context.Context, others groupid.Participants, th thread) (*cloudmls.ConversationState, error) {
	if !c.submission.automatic {
		return c.conversation(ctx, others, th)
	}
	state, err := c.existing(ctx, others, th)
	if err == nil && state == nil {
		err = permanent(enhancedPolicy, nil, "Not sent: an automatic message never begins or changes an encrypted conversation, and never leaves one in clear.")
	}
	return state, err
}

func (c *copying) encrypt(ctx context.Context, kind mailseal.Kind, recipients []string, others groupid.Participants, state *cloudmls.ConversationState) (smtpd.Transaction, error) {
	outer, err := c.outer(state)
	if err != nil {
		return smtpd.Transaction{}, err
	}
	name, err := randomName()
	if err != nil {
		return smtpd.Transaction{}, err
	}
	sp := &spool{dir: c.spoolDir}
	sealed, err := mailseal.Seal(sp, c.inner, c.size, mailseal.SealOptions{
		Outer: outer, Conversation: state.ID, Kind: kind,
		Control: func(plaintext []byte) ([]byte, error) {
			return c.encryptFor(ctx, plaintext, others, state.ID, c.since)
		},
	})
	if err != nil {
		return smtpd.Transaction{}, errors.Join(fmt.Errorf("seal: %w", err), sp.close())
	}
	utf8 := sealed.UTF8 || !ascii(recipients) || !ascii([]string{c.submission.envelope.From})
	return smtpd.Transaction{
		ID: name, From: c.submission.envelope.From, Recipients: recipients,
		Open: sp.open, Size: sp.size, UTF8: utf8, EightBit: utf8, Sealed: true, Close: sp.close,
	}, nil
}

// encryptFor encrypts for exactly others and self: when the ciphertext's epoch
// is not the one whose roster was checked, it is dropped.
func (a *account) encryptFor(ctx context.Context, plaintext []byte, others groupid.Participants, id groupid.ID, since cloudmls.Moment) ([]byte, error) {
	ciphertext, err := a.client.EncryptSince(ctx, a.self, id, since, plaintext, nil)
	if err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(ciphertext)
	if err != nil {
		return nil, fmt.Errorf("check own ciphertext: %w", err)
	}
	group, epoch, ok := m.Group()
	now, err := a.client.Conversation(ctx, a.self, id)
	switch {
	case err != nil:
		return nil, err
	case !ok || string(group) != string(now.Group) || uint64(epoch) != now.Epoch || !a.exactly(now, others):
		return nil, errMembersChanged
	}
	return ciphertext, nil
}

// randomName is 32 random hexadecimal digits.
func randomName() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make a name: %w", err)
	}
	return hex.EncodeToString(b), nil
}
