package proxy

import (
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
)

// finding is one thing a reader has to be told about an opened message. Its
// text goes into the status field; texts are never changed, only added, since
// they are part of what a mail client stored.
type finding string

const (
	findingReplay       finding = "this message was seen before under another number, somebody may have sent it again"
	findingLate         finding = "it arrived long after its keys were replaced"
	findingAway         finding = "it was first seen long after its keys were replaced, when this device had been away: whether it was sent in time cannot be told"
	findingFork         finding = "sender and reader disagree about the state of the group"
	findingKeyChanged   finding = "the identity key of the sender changed, compare the security codes"
	findingKeyUnknown   finding = "the identity key of the sender was never seen before"
	findingFrom         finding = "the From field does not name the account that sent it"
	findingOuterFrom    finding = "the From field was altered on the way"
	findingConversation finding = "it claims to belong to another conversation"
	findingKind         finding = "it was made for another purpose"
	findingReplaced     finding = "the conversation was begun anew with another group, ask its people whether they did that"
	findingUnverified   finding = "the sender could not be verified"
)

var warningFindings = map[cloudmls.Warning]finding{
	cloudmls.WarningReplay:          findingReplay,
	cloudmls.WarningLate:            findingLate,
	cloudmls.WarningAway:            findingAway,
	cloudmls.WarningFork:            findingFork,
	cloudmls.WarningIdentityChanged: findingKeyChanged,
	cloudmls.WarningIdentityUnknown: findingKeyUnknown,
}

// First items of the status line of an opened message.
const (
	statusVerified    = "verified"     // and people have compared the sender's identity key
	statusAuthentic   = "authentic"    // the key is the one that was pinned for the sender
	statusNotVerified = "not verified" // there are warnings
)

// openedItems are all of them: what carriesOpened looks for.
func openedItems() []string { return []string{statusVerified, statusAuthentic, statusNotVerified} }

// statusLine is the value of the status field: the installation's token, which
// tells it from a forged one, and what was found.
func statusLine(token string, items ...string) string {
	return token + "; " + strings.Join(items, "; ")
}

// openedStatus gives the status value and the keywords of an opened message.
// compared says that people have compared the sender's identity key: without
// that a message may be as it should be, and is not called verified.
func openedStatus(token, sender string, blind, compared bool, findings []finding) (string, []string) {
	items := []string{statusAuthentic, "sender=" + printable(sender)}
	keywords := []string{imapd.KeywordEncrypted}
	switch {
	case len(findings) == 1 && findings[0] == findingAway:
		items[0] = statusNotVerified // nothing is wrong with it, and nothing vouches for it
	case len(findings) > 0:
		items[0] = statusNotVerified
		keywords = append(keywords, imapd.KeywordWarning)
	case compared:
		items[0] = statusVerified
		keywords = append(keywords, imapd.KeywordVerified)
	}
	if blind {
		items = append(items, "blind copy, the other recipients do not know of you")
	}
	for _, f := range findings {
		kind := "warning="
		if f == findingAway {
			kind = "note="
		}
		items = append(items, kind+string(f))
	}
	return statusLine(token, items...), keywords
}

// personalStatus is for own uploads: drafts, Sent copies, archived mail.
// Nothing is said of who wrote them.
func personalStatus(token string) (string, []string) {
	return statusLine(token, "sealed by you"), []string{imapd.KeywordEncrypted}
}
