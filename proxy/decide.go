package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/smtpd"
)

// recipient is everything that decide knows about one person other than the
// sender.
type recipient struct {
	addr   string
	mode   Mode
	byRule bool // the mode comes from a rule for the person or the domain
	// reach is the key server's statement, valid if err is nil. An error says
	// nothing about the person.
	reach cloudmls.Reach
	err   error
	// known: the own state holds an encrypted dialog with the person.
	known bool
}

// messageFacts is what decide knows about the message itself.
type messageFacts struct {
	// answersSealed: the message refers to an encrypted one.
	answersSealed bool
	// selfMode is the mode for mail to oneself alone.
	selfMode Mode
}

type outcome uint8

const (
	outcomeRefuse outcome = iota // the zero value: nothing is ever sent by omission
	outcomeEncrypt
	outcomePlain
)

// decision is the result of decide; refusal is set with outcomeRefuse.
type decision struct {
	outcome outcome
	refusal *smtpd.Refusal
}

// way is what holds for one recipient.
type way uint8

const (
	wayUnknown  way = iota // the look-up failed
	waySealed              // encrypted, or not at all
	wayClear               // in clear is allowed
	wayMissing             // policy demands encryption and there is no account
	wayConflict            // a rule demands clear text for an answer to an encrypted message
)

// decide says what happens to a message. It is the only place where plain text
// is allowed; people may be empty: then the message is to oneself alone.
func decide(m messageFacts, people []recipient) decision {
	if len(people) == 0 {
		if m.selfMode == ModeNever && !m.answersSealed {
			return decision{outcome: outcomePlain}
		}
		return decision{outcome: outcomeEncrypt}
	}
	by := make(map[way][]string)
	var cause error
	for _, p := range people {
		w := classify(m, p)
		by[w] = append(by[w], p.addr)
		if w == wayUnknown {
			cause = errors.Join(cause, p.err)
		}
	}
	clear, sealed := by[wayClear], by[waySealed]
	var changed *cloudmls.IdentityChangedError
	switch {
	case errors.As(cause, &changed):
		return refuse(refusalOf(cause)) // the key server did answer, and that is the trouble
	case errors.Is(cause, cloudmls.ErrSignedOut):
		return refuse(refusalOf(cause)) // trying again does not help
	case len(by[wayUnknown]) > 0:
		return refuse(temporary(enhancedSecurity, cause,
			"Not sent: the key server did not say whether %s can read encrypted mail (%s).\nNothing was sent in clear. Try again in a few minutes.",
			nameList(by[wayUnknown]), sentence(cause)))
	case len(by[wayConflict]) > 0:
		return refuse(permanent(enhancedPolicy, nil,
			"Not sent: this message answers an encrypted one, and a rule says that mail to %s is never encrypted.\nRemove the rule, or write a new message.",
			nameList(by[wayConflict])))
	case len(by[wayMissing]) > 0:
		return refuse(permanent(enhancedPolicy, nil,
			"Not sent: encryption is required for %s, who cannot read encrypted mail yet.\nAsk them to set it up, or change the rule.",
			nameList(by[wayMissing])))
	case len(clear) > 0 && len(sealed) > 0:
		return refuse(permanent(enhancedPolicy, nil,
			"Not sent: %s cannot read encrypted mail, while %s can.\nSend to them separately, or leave the first out.",
			nameList(clear), nameList(sealed)))
	case len(clear) > 0 && m.answersSealed:
		return refuse(permanent(enhancedPolicy, nil,
			"Not sent: this message answers an encrypted one, and %s cannot read encrypted mail.\nAnswers to encrypted messages are never sent in clear; write a new message.",
			nameList(clear)))
	case len(clear) > 0:
		return decision{outcome: outcomePlain}
	}
	return decision{outcome: outcomeEncrypt}
}

func refuse(r *smtpd.Refusal) decision {
	return decision{outcome: outcomeRefuse, refusal: r}
}

// classify says what holds for one recipient. Clear text needs the explicit
// statement that there is no account, or the user's own word.
func classify(m messageFacts, p recipient) way {
	if p.mode == ModeNever && p.byRule {
		if m.answersSealed {
			return wayConflict
		}
		return wayClear
	}
	if p.err != nil {
		return wayUnknown
	}
	encryptedBefore := p.reach.Pinned || p.known
	switch p.mode {
	case ModeNever:
		if encryptedBefore || p.reach.HasAccount && m.answersSealed {
			return waySealed
		}
		return wayClear
	case ModePrefer:
		if encryptedBefore || p.reach.HasAccount {
			return waySealed
		}
		return wayClear
	default: // ModeRequire, and whatever should never be
		if encryptedBefore || p.reach.HasAccount {
			return waySealed
		}
		return wayMissing
	}
}

// maxNames bounds how many addresses one sentence lists.
const maxNames = 5

func nameList(addrs []string) string {
	shown := make([]string, 0, maxNames)
	for _, a := range addrs[:min(len(addrs), maxNames)] {
		shown = append(shown, printable(a))
	}
	s := strings.Join(shown, ", ")
	if n := len(addrs) - len(shown); n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}
