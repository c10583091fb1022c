package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"unicode"

	"github.com/emersion/go-smtp"
)

// What every client may be told. go-smtp asks for *smtp.SMTPError by type, so
// these are returned as they are, never wrapped.
var (
	errAuthFailed      = fixed(535, "5.7.8", "wrong user name or password")
	errAuthUnavailable = fixed(454, "4.7.0", "the login could not be checked; try again later")
	errAuthRequired    = fixed(530, "5.7.0", "log in first")
	errBadSender       = fixed(501, "5.1.7", "malformed sender address")
	errBadRecipient    = fixed(501, "5.1.3", "malformed recipient address")
	errSenderUTF8      = fixed(553, "5.6.7", "this sender address needs SMTPUTF8; the mail program did not ask for it")
	errRecipientUTF8   = fixed(553, "5.6.7", "this recipient address needs SMTPUTF8; the mail program did not ask for it")
	errNoUTF8          = fixed(550, "5.6.7", "your mail provider does not take internationalised mail (SMTPUTF8)")
	errNoEightBit      = fixed(554, "5.6.3", "your mail provider does not take 8-bit content (8BITMIME)")
	errBareLines       = fixed(554, "5.6.0", "the message holds a CR or LF that is not part of a line end; it was not sent")
	errHoldsNUL        = fixed(554, "5.6.0", "the message holds a NUL octet; it was not sent")
	errLongLine        = fixed(554, "5.6.0", fmt.Sprintf("a line of the message is longer than %d octets; it was not sent", MaxPlainLine))
	errTooLarge        = fixed(552, "5.3.4", "the message is larger than the server allows")
	errStopping        = fixed(451, "4.3.2", "the gateway is shutting down; nothing was sent")
	errNoOutbox        = fixed(451, "4.3.5", "this message needs several transactions and no outbox is configured; nothing was sent")
	errOutbox          = fixed(452, "4.3.1", "the message could not be put into the outbox; nothing was sent")
	errSpool           = fixed(452, "4.3.1", "the message could not be stored while it was received; nothing was sent")
)

// enhancedPattern is an enhanced status code at the start of a text (RFC 3463).
var enhancedPattern = regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)`)

func fixed(code int, enhanced, text string) *smtp.SMTPError {
	e, _, ok := cutEnhanced(enhanced + " " + text)
	if !ok {
		panic("smtpd: malformed enhanced code " + enhanced)
	}
	return &smtp.SMTPError{Code: code, EnhancedCode: e, Message: text}
}

// cutEnhanced splits an enhanced status code off a text.
func cutEnhanced(text string) (code smtp.EnhancedCode, rest string, ok bool) {
	head := enhancedPattern.FindString(text)
	if head == "" {
		return smtp.NoEnhancedCode, text, false
	}
	if _, err := fmt.Sscanf(head, "%d.%d.%d", &code[0], &code[1], &code[2]); err != nil {
		return smtp.NoEnhancedCode, text, false
	}
	return code, text[len(head):], true
}

// reply is what the provider said, ready to be said again: same code, same
// enhanced code, same text, on the same lines.
type reply struct{ smtp.SMTPError }

// Error implements error.
func (r *reply) Error() string {
	return fmt.Sprintf("provider replied %d: %s", r.Code, r.Message)
}

// newReply makes a reply from a code and the lines of a text as the provider
// sent them. go-smtp writes the enhanced code in front of the last line only,
// so the earlier lines keep theirs in the text.
func newReply(code int, text string) *reply {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = printable(lines[i], true)
	}
	last := len(lines) - 1
	enhanced, rest, _ := cutEnhanced(lines[last])
	lines[last] = rest
	return &reply{smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: strings.Join(lines, "\n")}}
}

// fromClient turns an error of go-smtp's client into a *reply, or returns nil
// if it is no reply of the provider. The library has taken the enhanced code
// off every line.
func fromClient(err error) *reply {
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		return nil
	}
	if e.Code < 400 || e.Code > 599 {
		return &reply{smtp.SMTPError{
			Code: 451, EnhancedCode: smtp.EnhancedCode{4, 5, 0},
			Message: fmt.Sprintf("your mail provider answered out of turn (%d %s)", e.Code, printable(e.Message, false)),
		}}
	}
	text := e.Message
	if e.EnhancedCode != smtp.EnhancedCodeNotSet {
		prefix := fmt.Sprintf("%d.%d.%d ", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
		text = prefix + strings.ReplaceAll(text, "\n", "\n"+prefix)
	}
	return newReply(e.Code, text)
}

// linkError says that the connection to the provider could not be made or
// broke.
type linkError struct {
	host  string
	stage string // "connect", "log in" …
	err   error
	// unknown: the whole message was out and the provider's answer missing, so
	// it may have been taken.
	unknown bool
	// closing: the provider said that it closes the connection (421).
	closing *reply
}

// Error implements error.
func (e *linkError) Error() string {
	return fmt.Sprintf("mail provider %s: %s: %v", e.host, e.stage, e.err)
}

// Unwrap returns the cause.
func (e *linkError) Unwrap() error { return e.err }

func (e *linkError) smtpError() *smtp.SMTPError {
	host := printable(e.host, false)
	switch {
	case e.closing != nil:
		return &e.closing.SMTPError
	case e.unknown:
		return fixed(451, "4.4.2", "your mail provider ("+host+") did not confirm the message; it may have been delivered. Look into Sent before you send it again")
	case timedOut(e.err):
		return fixed(451, "4.4.1", "your mail provider ("+host+") does not answer; nothing was sent. Try again later")
	case e.stage == "connect":
		return fixed(451, "4.4.1", "your mail provider ("+host+") cannot be reached; nothing was sent. Try again later")
	}
	return fixed(451, "4.4.2", "the connection to your mail provider ("+host+") broke; nothing was sent. Try again later")
}

// timedOut tells a silent provider from one that closed the connection.
func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// smtpError turns any error into the reply for the client. Those that say
// nothing to people become a generic sentence; the caller logs the cause under
// id.
func smtpError(err error, id string) (e *smtp.SMTPError, internal bool) {
	var (
		plain   *smtp.SMTPError
		said    *reply
		link    *linkError
		refusal *Refusal
	)
	switch {
	case errors.As(err, &said):
		return &said.SMTPError, false
	case errors.As(err, &link):
		return link.smtpError(), false
	case errors.As(err, &refusal):
		return refusal.smtpError(), false
	case errors.As(err, &plain):
		return plain, false
	case errors.Is(err, context.Canceled):
		return errStopping, false
	}
	return fixed(451, "4.3.0", "internal error "+id+"; nothing was sent"), true
}

// smtpError returns the reply that a refusal asks for. A refusal never says
// 2xx or 3xx.
func (r *Refusal) smtpError() *smtp.SMTPError {
	code := r.Code
	if code < 400 || code > 599 {
		if code = 554; r.Temporary {
			code = 451
		}
	}
	enhanced := smtp.EnhancedCode(r.Enhanced)
	if enhanced[0] != code/100 {
		enhanced = smtp.EnhancedCode{code / 100, enhanced[1], enhanced[2]}
	}
	var lines []string
	for line := range strings.SplitSeq(r.Text, "\n") {
		lines = append(lines, wrapReply(printable(line, false))...)
	}
	// go-smtp writes the enhanced code on the last line only; RFC 2034 wants it
	// on each.
	for i := range lines[:len(lines)-1] {
		lines[i] = fmt.Sprintf("%d.%d.%d %s", enhanced[0], enhanced[1], enhanced[2], lines[i])
	}
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: strings.Join(lines, "\n")}
}

// permanent reports whether an error will come again however often the
// transaction is tried.
func permanent(err error) bool {
	var link *linkError
	if errors.As(err, &link) {
		return false
	}
	e, internal := smtpError(err, "")
	return !internal && e.Code >= 500
}

// printable removes what must not stand in a reply line: control characters,
// and everything outside ASCII unless keep is set (a provider's text is
// repeated as it came).
func printable(s string, keep bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r) && r != '\t':
			return -1
		case r >= 0x80 && !keep:
			return '?'
		}
		return r
	}, s)
}

// maxReplyText keeps a reply line within 512 octets (RFC 5321 section
// 4.5.3.1.5).
const maxReplyText = 480

// wrapReply breaks a long text into lines, at spaces where there are any.
func wrapReply(text string) []string {
	var lines []string
	for len(text) > maxReplyText {
		cut := strings.LastIndexByte(text[:maxReplyText], ' ')
		if cut <= 0 {
			cut = maxReplyText
		}
		lines = append(lines, text[:cut])
		text = strings.TrimPrefix(text[cut:], " ")
	}
	return append(lines, text)
}
