package proxy

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// ProblemKind says what has to be done about a Problem. Kinds are never
// renamed, only added. They are in the order of their gravity.
type ProblemKind string

// Kinds of problems.
const (
	ProblemIdentity    ProblemKind = "identity-changed"    // somebody's identity key is another one
	ProblemFork        ProblemKind = "fork"                // members hold different states of a group
	ProblemBroken      ProblemKind = "conversation-broken" // its group broke its rules
	ProblemReplaced    ProblemKind = "group-replaced"      // another group serves a conversation now
	ProblemInvitation  ProblemKind = "invitation-refused"  // a Welcome could not be followed
	ProblemKeyPackages ProblemKind = "no-keypackages"      // nobody can begin a conversation with the account
	ProblemFull        ProblemKind = "mailbox-full"        // the provider stores nothing more
	ProblemRenumbered  ProblemKind = "mailbox-renumbered"  // UIDVALIDITY changed
)

var gravity = []ProblemKind{
	ProblemIdentity, ProblemFork, ProblemBroken, ProblemReplaced, ProblemInvitation, ProblemKeyPackages, ProblemFull, ProblemRenumbered,
}

// renumberedFor and replacedFor are how long a renumbered mailbox and a replaced
// group are told.
const (
	renumberedFor = 7 * 24 * time.Hour
	replacedFor   = 7 * 24 * time.Hour
)

// Problem is something that is wrong and stands until somebody acts. Fields
// that do not apply are zero.
type Problem struct {
	Kind         ProblemKind
	Text         string // one line for people
	Since        time.Time
	Conversation groupid.ID
	Contact      string // canonical address
	// Verified: people had compared the contact's former key.
	Verified bool
	Mailbox  string
}

// facts is what the problems of an account follow from.
type facts struct {
	conversations []*cloudmls.ConversationState
	contacts      []cloudmls.Contact
	sdk           cloudmls.Status
	journal       *journalRecord
	now           time.Time
}

// standing gives the problems that still stand.
func (f *facts) standing() []Problem {
	var out []Problem
	for _, c := range f.contacts {
		if c.State != cloudmls.ContactChanged {
			continue
		}
		p := Problem{Kind: ProblemIdentity, Contact: c.Account.ID, Verified: !c.VerifiedAt.IsZero(),
			Text: "another identity key was seen for " + printable(c.Account.ID) + ": nothing is encrypted to it until it is compared or accepted"}
		out = append(out, p)
	}
	byID := make(map[groupid.ID]*cloudmls.ConversationState, len(f.conversations))
	for _, c := range f.conversations {
		byID[c.ID] = c
		if c.Broken && !c.Removed {
			out = append(out, Problem{Kind: ProblemBroken, Conversation: c.ID, Since: c.Updated, Text: brokenText(c)})
		}
		if at, ok := f.journal.Forks[c.ID.String()]; ok && !c.Broken && !c.Removed && !c.Updated.After(at) {
			out = append(out, Problem{Kind: ProblemFork, Conversation: c.ID, Since: at,
				Text: "a message shows that its sender holds another state of the group; somebody may be interfering"})
		}
	}
	out = append(out, f.replaced(byID)...)
	out = append(out, f.invitations(byID)...)
	if s := f.sdk; !s.Counted.IsZero() && s.KeyPackages == 0 && !s.LastResort {
		out = append(out, Problem{Kind: ProblemKeyPackages, Since: s.Counted,
			Text: "the key server has no KeyPackages left: nobody can begin a conversation with this account"})
	}
	sortProblems(out)
	return out
}

func brokenText(c *cloudmls.ConversationState) string {
	text := "the conversation's group broke its rules and is not used any more"
	if c.Blocked != nil && errors.Is(c.Blocked, cloudmls.ErrBroken) {
		text = oneLine(c.Blocked.Error())
	}
	return text
}

// replaced are conversations that another group has served for less than a week:
// whoever made it started anew, which people should have heard of.
func (f *facts) replaced(byID map[groupid.ID]*cloudmls.ConversationState) []Problem {
	var out []Problem
	seen := make(map[groupid.ID]bool)
	for _, n := range f.sdk.Notices { // newest first
		c := byID[n.Conversation]
		if n.Kind != cloudmls.NoticeReplaced || seen[n.Conversation] || c == nil || c.Removed || f.now.Sub(n.At) > replacedFor {
			continue
		}
		seen[n.Conversation] = true
		out = append(out, Problem{Kind: ProblemReplaced, Conversation: n.Conversation, Contact: n.Account.ID, Since: n.At,
			Text: "a conversation was begun anew with another group, of the same people: " + oneLine(n.Text)})
	}
	return out
}

// invitations are refused Welcomes whose conversation did not come about since.
// What is refused in a conversation that this account is in shows as its being
// broken, or it did no harm; a changed identity shows as such.
func (f *facts) invitations(byID map[groupid.ID]*cloudmls.ConversationState) []Problem {
	var out []Problem
	seen := make(map[groupid.ID]bool)
	for _, p := range f.sdk.Problems { // newest first
		switch p.Kind {
		case cloudmls.ProblemNoKeyPackage, cloudmls.ProblemForbidden, cloudmls.ProblemTooLarge:
		default:
			continue
		}
		c := byID[p.Conversation]
		if seen[p.Conversation] || c != nil && (c.Broken || !c.Removed) {
			continue
		}
		seen[p.Conversation] = true
		out = append(out, Problem{
			Kind: ProblemInvitation, Conversation: p.Conversation, Contact: p.Sender.ID, Since: p.At,
			Text: "an invitation to a conversation could not be followed: " + oneLine(p.Reason),
		})
	}
	return out
}

// mailboxes gives what this process saw of the provider's mailboxes; h.mu is
// held.
func (h *health) mailboxes(now time.Time) []Problem {
	var out []Problem
	if h.full != nil {
		out = append(out, Problem{Kind: ProblemFull, Text: h.full.Text, Since: h.full.Time})
	}
	for mailbox, at := range h.renumbered {
		if now.Sub(at) > renumberedFor {
			delete(h.renumbered, mailbox)
			continue
		}
		out = append(out, Problem{Kind: ProblemRenumbered, Mailbox: mailbox, Since: at,
			Text: "the mail provider gave the messages of a mailbox new numbers: mail clients download it again, nothing is lost"})
	}
	return out
}

func sortProblems(all []Problem) {
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(slices.Index(gravity, a.Kind), slices.Index(gravity, b.Kind)),
			cmp.Compare(a.Contact, b.Contact), cmp.Compare(a.Mailbox, b.Mailbox),
			slices.Compare(a.Conversation[:], b.Conversation[:]))
	})
}
