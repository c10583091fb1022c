package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/internal/mime"
	"github.com/cloudmls/gateway/smtpd"
)

// Enhanced status codes (RFC 3463).
var (
	enhancedSender    = [3]int{5, 1, 7}
	enhancedRecipient = [3]int{5, 1, 3}
	enhancedContent   = [3]int{5, 6, 0}
	enhancedPolicy    = [3]int{5, 7, 1}
	enhancedSecurity  = [3]int{4, 7, 0} // "other security status", for now
	enhancedCrypto    = [3]int{4, 7, 5} // "cryptographic failure", for now
)

// errMembersChanged: the roster moved between Ensure and Encrypt. What was
// encrypted is dropped and the conversation chosen anew.
var errMembersChanged = errors.New("members of the conversation changed meanwhile")

// refusalOf translates an error of cloudmls, mls, groupid or mailseal into
// what the mail client reads. Whatever is not known to be permanent is
// temporary. A *smtpd.Refusal passes as it is.
func refusalOf(err error) *smtpd.Refusal {
	var r *smtpd.Refusal
	var missing *cloudmls.MissingKeyPackagesError
	var changed *cloudmls.IdentityChangedError
	var bad *cloudmls.BadKeyPackageError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &missing):
		return temporary(enhancedSecurity, err,
			"Not sent: the key server has no usable keys for %s right now.\nThey have to go online once with their gateway; then send again.", accountList(missing.Accounts))
	case errors.As(err, &changed) && changed.Retired:
		return temporary(enhancedCrypto, err,
			"Not sent: %s replaced the identity key, and this conversation shows the one before.\nTheir devices renew it when they are online. Else: to them alone, write again an hour later; from a group, remove them (cloudmls conversation remove), and write to everybody again.", printable(changed.Account.ID))
	case errors.As(err, &changed) && changed.Settled:
		return temporary(enhancedCrypto, err,
			"Not sent: this conversation shows a key of %s that was found not to be theirs.\nFrom a group, remove them (cloudmls conversation remove), and write to everybody again; to them alone, send again.", printable(changed.Account.ID))
	case errors.As(err, &changed):
		return temporary(enhancedCrypto, err,
			"Not sent: the identity key of %s is not the one you wrote to before.\nCompare the security codes with them, accept the new key, and send again.", printable(changed.Account.ID))
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrClosed):
		return temporary(enhancedSecurity, err,
			"Not sent: this device is signed out of the key server.\nNothing was sent in clear. Sign in again ('cloudmls status' says how), then send again.")
	case errors.Is(err, mailseal.ErrTooLarge):
		return &smtpd.Refusal{Code: 552, Enhanced: [3]int{5, 3, 4}, Err: err, Text: "Not sent: the message is too large to be encrypted."}
	case errors.Is(err, mailseal.ErrNotSealable), errors.Is(err, mailseal.ErrOuter), isLimit(err):
		return permanent(enhancedContent, err, "Not sent: the message cannot be encrypted, because its header or its parts are malformed or too many.")
	case errors.As(err, &bad):
		return temporary(enhancedCrypto, err,
			"Not sent: what the key server hands out as keys of %s is not theirs.\nDo not send in clear; ask whoever runs the key server.", printable(bad.Account.ID))
	}
	return temporary(enhancedSecurity, err, "Not sent: %s.\nNothing was sent in clear. Try again in a few minutes.", sentence(err))
}

// isLimit reports whether a message is beyond the limits of its structure.
func isLimit(err error) bool {
	var limit *mime.LimitError
	return errors.As(err, &limit)
}

func temporary(code [3]int, err error, format string, args ...any) *smtpd.Refusal {
	return &smtpd.Refusal{Temporary: true, Enhanced: code, Err: err, Text: fmt.Sprintf(format, args...)}
}

// permanent is 550 for what policy forbids and addresses that cannot be, 554
// for content.
func permanent(code [3]int, err error, format string, args ...any) *smtpd.Refusal {
	r := &smtpd.Refusal{Code: 550, Enhanced: code, Err: err, Text: fmt.Sprintf(format, args...)}
	if code == enhancedContent {
		r.Code = 554
	}
	return r
}

// sentence says in a few words, without a full stop, what went wrong. It never
// holds text of a server.
func sentence(err error) string {
	switch {
	case errors.Is(err, cloudmls.ErrNotMember):
		return "you are no longer a member of this conversation"
	case errors.Is(err, cloudmls.ErrConversationTaken):
		return "the key server knows this conversation, but you have not been let in yet"
	case errors.Is(err, cloudmls.ErrBroken):
		return "the conversation's group broke its rules and is not used any more"
	case errors.Is(err, cloudmls.ErrBusy), errors.Is(err, errMembersChanged):
		return "the conversation is being changed by others right now"
	case errors.Is(err, cloudmls.ErrExhausted):
		return "the conversation's keys are used up and could not be renewed"
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrClosed):
		return "this device is signed out of the key server"
	case errors.Is(err, cloudmls.ErrNoAccount):
		return "this address was not added to the key server yet"
	case errors.Is(err, cloudmls.ErrNoConversation):
		return "the conversation is not known here"
	case errors.Is(err, mailseal.ErrCorrupt):
		return "the sealed message is damaged"
	case errors.Is(err, groupid.ErrTooMany):
		return "there are too many people"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "the key server took too long to answer"
	}
	return "the key server could not be asked, or did not answer properly"
}

func accountList(accounts []cloudmls.Account) string {
	ids := make([]string, len(accounts))
	for i, a := range accounts {
		ids[i] = a.ID
	}
	return nameList(ids)
}

// maxPrintable bounds one foreign value in a text that people read.
const maxPrintable = 254

// printable makes a foreign value safe for one line of a reply or a header:
// printable ASCII without ";", which separates items of the status field.
func printable(s string) string {
	if len(s) > maxPrintable {
		s = s[:maxPrintable]
	}
	return strings.Map(func(r rune) rune {
		if r < '!' && r != ' ' || r > '~' || r == ';' {
			return '?'
		}
		return r
	}, s)
}
