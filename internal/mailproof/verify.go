package mailproof

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"golang.org/x/net/publicsuffix"
)

const (
	// maxMessage bounds a message that may be a challenge, in octets.
	maxMessage = 64 << 10
	// maxSignatures that are looked at: each costs a look-up in DNS.
	maxSignatures = 5
	// maxAge of a signature. Challenges live for 15 minutes; clocks differ.
	maxAge = 30 * time.Minute
)

// signed are the fields that the signature must cover.
var signed = []string{"from", "to", "subject", "date", strings.ToLower(Field)}

// single are the fields that must be there exactly once.
var single = []string{"From", "To", "Subject", "Date", Field}

// Expected is the challenge that this gateway asked for. A message about any
// other is none of its business.
type Expected struct {
	Origin  string // configured name of the key server
	Address string
	ID      []byte
	// LookupTXT asks DNS; nil: the system's resolver.
	LookupTXT func(domain string) ([]string, error)
	Now       func() time.Time
}

// Token returns token1 from a message as it lies in the mailbox, if it is the
// expected challenge and comes from the key server: the field stands in the
// message's own header (one that was forwarded or attached does not count),
// there is one From, and a DKIM signature (RFC 6376) of the host of Origin, or
// of its organisational domain, covers it and the fields that count.
func (e *Expected) Token(message []byte) ([]byte, error) {
	if len(message) > maxMessage {
		return nil, fmt.Errorf("challenge: longer than %d octets", maxMessage)
	}
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return nil, fmt.Errorf("challenge: %w", err)
	}
	h := textproto.MIMEHeader(m.Header)
	for _, name := range single {
		if n := len(h.Values(name)); n != 1 {
			return nil, fmt.Errorf("challenge: %d fields %s", n, name)
		}
	}
	id, token, origin, err := parseField(h.Get(Field))
	switch {
	case err != nil:
		return nil, err
	case origin != e.Origin:
		return nil, errors.New("challenge: of another key server")
	case !bytes.Equal(id, e.ID):
		return nil, errors.New("challenge: this gateway did not ask for it")
	}
	if t, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || t != "text/plain" {
		return nil, errors.New("challenge: not of type text/plain")
	}
	from, err := oneAddress(h.Get("From"))
	if err != nil {
		return nil, fmt.Errorf("challenge: From: %w", err)
	}
	to, err := oneAddress(h.Get("To"))
	if err != nil || !strings.EqualFold(to, e.Address) {
		return nil, errors.New("challenge: to somebody else")
	}
	if err := e.signature(message, from); err != nil {
		return nil, err
	}
	return token, nil
}

func oneAddress(field string) (string, error) {
	list, err := mail.ParseAddressList(field)
	if err != nil {
		return "", err
	}
	if len(list) != 1 {
		return "", fmt.Errorf("%d addresses", len(list))
	}
	return list[0].Address, nil
}

// signature looks for one that the key server made. Others may be there: of a
// relay, of a list.
func (e *Expected) signature(message []byte, from string) error {
	host, err := hostOf(e.Origin)
	if err != nil {
		return err
	}
	found, err := dkim.VerifyWithOptions(bytes.NewReader(message), &dkim.VerifyOptions{LookupTXT: e.LookupTXT, MaxVerifications: maxSignatures})
	if err != nil && !errors.Is(err, dkim.ErrTooManySignatures) {
		return fmt.Errorf("challenge: DKIM: %w", err)
	}
	reason := errors.New("no signature")
	for _, v := range found {
		if reason = e.accept(v, host, from); reason == nil {
			return nil
		}
	}
	return fmt.Errorf("challenge: DKIM: %w", reason)
}

func (e *Expected) accept(v *dkim.Verification, host, from string) error {
	if v.Err != nil {
		return v.Err
	}
	domain := strings.ToLower(v.Domain)
	if !speaksFor(domain, host) {
		return fmt.Errorf("signed by %s, not by %s", domain, host)
	}
	_, sender, _ := strings.Cut(strings.ToLower(from), "@")
	if sender != domain && !strings.HasSuffix(sender, "."+domain) {
		return fmt.Errorf("From is not of %s", domain)
	}
	for _, name := range signed {
		if !slices.ContainsFunc(v.HeaderKeys, func(k string) bool { return strings.EqualFold(strings.TrimSpace(k), name) }) {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	now := e.Now()
	if v.Time.IsZero() || v.Time.Before(now.Add(-maxAge)) || v.Time.After(now.Add(maxAge)) {
		return errors.New("the signature is not of now")
	}
	return nil
}

// speaksFor tells whether a signing domain is that of a host, or the
// organisation's that the host belongs to.
func speaksFor(domain, host string) bool {
	if domain == host {
		return true
	}
	if net.ParseIP(host) != nil { // 127.0.0.1 is not of an organisation 0.1
		return false
	}
	organisation, err := publicsuffix.EffectiveTLDPlusOne(host)
	return err == nil && domain == organisation
}
