package smtpd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// newID returns a short name for an event, to find it in the log.
func newID() string { return strings.ToLower(rand.Text()[:12]) }

// submit seals a message, sends what comes out, and returns the provider's
// reply to the first transaction.
func (s *session) submit(account Account, e Envelope, msg Message) (*reply, error) {
	crashpoint.Here("submission-received")
	transactions, err := account.Seal(s.ctx, e, msg)
	defer s.closeAll(transactions)
	if err != nil {
		return nil, err
	}
	if err := checkTransactions(e, transactions); err != nil {
		return nil, err
	}
	unsealedFirst(transactions)
	for i := range transactions {
		transactions[i].notify = notifyFor(e.notify, transactions[i].Recipients)
	}
	first, later := transactions[0], transactions[1:]
	var held *heldBatch
	if len(later) > 0 {
		if s.server.o.Outbox == nil {
			return nil, errNoOutbox
		}
		if held, err = s.server.o.Outbox.hold(e.Username, later); err != nil {
			return nil, &Refusal{
				Code: errOutbox.Code, Enhanced: errOutbox.EnhancedCode, Text: errOutbox.Message, Temporary: true, Err: err,
			}
		}
	}
	crashpoint.Here("outbox-held")
	s.relayMu.Lock()
	said, err := s.relay.send(s.ctx, first)
	s.relayMu.Unlock()
	if err != nil {
		if held != nil {
			err = errors.Join(err, held.discard())
		}
		return nil, err
	}
	crashpoint.Here("first-accepted")
	account.Sent(context.WithoutCancel(s.ctx), first)
	if held != nil {
		if err := held.release(); err != nil {
			return nil, &Refusal{
				Code: 451, Enhanced: [3]int{4, 3, 0}, Temporary: true, Err: err,
				Text: "the message went to " + strings.Join(first.Recipients, ", ") +
					", but the copies for the others could not be put into the outbox",
			}
		}
		crashpoint.Here("outbox-released")
	}
	crashpoint.Here("submission-done")
	return said, nil
}

// closeAll frees what the transactions hold.
func (s *session) closeAll(transactions []Transaction) {
	for _, t := range transactions {
		if t.Close == nil {
			continue
		}
		if err := t.Close(); err != nil {
			s.log.Error("sealed message not freed", "transaction", t.ID, "err", err)
		}
	}
}

// unsealedFirst moves the transaction in clear to the front: only sealed ones
// may wait in the outbox.
func unsealedFirst(transactions []Transaction) {
	i := slices.IndexFunc(transactions, func(t Transaction) bool { return !t.Sealed })
	if i > 0 {
		t := transactions[i]
		copy(transactions[1:i+1], transactions[:i])
		transactions[0] = t
	}
}

// checkTransactions holds the backend to its contract before anything leaves:
// every recipient is served once, spelt as in the envelope, and nobody else.
func checkTransactions(e Envelope, transactions []Transaction) error {
	if len(transactions) == 0 || len(transactions) > maxTransactions {
		return fmt.Errorf("sealing made %d transactions", len(transactions))
	}
	missing := make(map[string]bool)
	for _, rcpt := range e.Recipients {
		missing[rcpt] = true
	}
	ids := make(map[string]bool)
	unsealed := 0
	for _, t := range transactions {
		if t.ID == "" || ids[t.ID] || t.Open == nil || len(t.Recipients) == 0 {
			return errors.New("sealing made a transaction without id, content or recipients")
		}
		ids[t.ID] = true
		if !t.Sealed {
			if unsealed++; unsealed > 1 {
				return errors.New("sealing made more than one transaction in clear")
			}
			if e.LongestLine > MaxPlainLine {
				return errLongLine
			}
		}
		for _, rcpt := range t.Recipients {
			if _, err := recheckAddress(rcpt, t.UTF8); err != nil {
				return fmt.Errorf("sealing made a transaction with a bad recipient: %w", err)
			}
			if !missing[rcpt] {
				return errors.New("sealing addressed someone twice or someone who is no recipient")
			}
			delete(missing, rcpt)
		}
		if t.From != "" {
			if _, err := recheckAddress(t.From, t.UTF8); err != nil {
				return fmt.Errorf("sealing made a transaction with a bad sender: %w", err)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("sealing left out %d recipients", len(missing))
	}
	return nil
}

// recheckAddress checks an address that is in the form of the wire already.
func recheckAddress(addr string, utf8 bool) (string, error) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return "", errAddress
	}
	plain, err := wireAddress(unquoteLocal(addr[:at])+addr[at:], utf8)
	if err != nil {
		return "", err
	}
	if plain != addr {
		return "", errAddress
	}
	return plain, nil
}

// unquoteLocal takes the quotes off a local part, as go-smtp does.
func unquoteLocal(local string) string {
	if len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"' {
		return local
	}
	var b strings.Builder
	escaped := false
	for _, r := range local[1 : len(local)-1] {
		if r == '\\' && !escaped {
			escaped = true
			continue
		}
		escaped = false
		b.WriteRune(r)
	}
	return b.String()
}
