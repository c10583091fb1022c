package proxy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// TestProblemsThatStand: each is told while it stands, with what names it, and
// no longer.
func TestProblemsThatStand(t *testing.T) {
	early, late := time.Unix(1000, 0), time.Unix(2000, 0)
	id := groupid.ID{1}
	conversation := func(change func(*cloudmls.ConversationState)) []*cloudmls.ConversationState {
		c := &cloudmls.ConversationState{ID: id, Kind: cloudmls.KindGroup, Updated: early}
		change(c)
		return []*cloudmls.ConversationState{c}
	}
	whole := conversation(func(*cloudmls.ConversationState) {})
	noted := func(kind cloudmls.ProblemKind) cloudmls.Status {
		return cloudmls.Status{Problems: []cloudmls.NotedProblem{
			{At: late, Conversation: id, Sender: mailAccount("bob@b.example"), Kind: kind, Reason: "why\r\nnot"},
			{At: early, Conversation: id, Kind: kind},
		}}
	}
	told := func(kind cloudmls.NoticeKind) cloudmls.Status {
		return cloudmls.Status{Notices: []cloudmls.Notice{
			{At: late, Conversation: id, Kind: kind, Text: "why\r\nnot"}, {At: early, Conversation: id, Kind: kind},
		}}
	}
	forked := &journalRecord{Forks: map[string]time.Time{id.String(): late}}
	bob := cloudmls.Contact{Account: mailAccount("bob@b.example"), State: cloudmls.ContactChanged, VerifiedAt: early}
	known := bob
	known.State = cloudmls.ContactVerified
	for name, c := range map[string]struct {
		facts facts
		want  []ProblemKind
	}{
		"nothing":                {facts{conversations: whole, contacts: []cloudmls.Contact{known}}, nil},
		"changed key":            {facts{contacts: []cloudmls.Contact{bob, known}}, []ProblemKind{ProblemIdentity}},
		"broken":                 {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Broken = true })}, []ProblemKind{ProblemBroken}},
		"broken, but left":       {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Broken, c.Removed = true, true })}, nil},
		"fork":                   {facts{conversations: whole, journal: forked}, []ProblemKind{ProblemFork}},
		"fork, epoch since":      {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Updated = late.Add(1) }), journal: forked}, nil},
		"fork, gone":             {facts{journal: forked}, nil},
		"invitation":             {facts{sdk: noted(cloudmls.ProblemNoKeyPackage)}, []ProblemKind{ProblemInvitation}},
		"invitation, forbidden":  {facts{sdk: noted(cloudmls.ProblemForbidden)}, []ProblemKind{ProblemInvitation}},
		"invitation, back again": {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Removed = true }), sdk: noted(cloudmls.ProblemNoKeyPackage)}, []ProblemKind{ProblemInvitation}},
		"invitation, in now":     {facts{conversations: whole, sdk: noted(cloudmls.ProblemNoKeyPackage)}, nil},
		"replaced":               {facts{conversations: whole, sdk: told(cloudmls.NoticeReplaced), now: late.Add(replacedFor)}, []ProblemKind{ProblemReplaced}},
		"replaced long ago":      {facts{conversations: whole, sdk: told(cloudmls.NoticeReplaced), now: late.Add(replacedFor + 1)}, nil},
		"replaced, and left":     {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Removed = true }), sdk: told(cloudmls.NoticeReplaced), now: late}, nil},
		"repaired":               {facts{conversations: whole, sdk: told(cloudmls.NoticeRepaired), now: late}, nil},
		"noise of strangers":     {facts{sdk: noted(cloudmls.ProblemGarbage)}, nil},
		"no KeyPackages":         {facts{sdk: cloudmls.Status{Counted: early}}, []ProblemKind{ProblemKeyPackages}},
		"last resort left":       {facts{sdk: cloudmls.Status{Counted: early, LastResort: true}}, nil},
		"not counted":            {facts{}, nil},
		"several, by gravity": {facts{conversations: conversation(func(c *cloudmls.ConversationState) { c.Broken = true }), contacts: []cloudmls.Contact{bob}, sdk: cloudmls.Status{Counted: early}},
			[]ProblemKind{ProblemIdentity, ProblemBroken, ProblemKeyPackages}},
	} {
		if c.facts.journal == nil {
			c.facts.journal = &journalRecord{}
		}
		got := c.facts.standing()
		var kinds []ProblemKind
		for _, p := range got {
			kinds = append(kinds, p.Kind)
			named := p.Contact != "" || !p.Conversation.IsZero() || p.Kind == ProblemKeyPackages
			if !named || p.Text == "" || p.Text != oneLine(p.Text) || p.Kind == ProblemIdentity && !p.Verified {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if !slices.Equal(kinds, c.want) {
			t.Errorf("%s: %v, want %v", name, kinds, c.want)
		}
	}
}

// TestTheJournalIsBounded: deliveries and forks, however many come.
func TestTheJournalIsBounded(t *testing.T) {
	r := &journalRecord{}
	for i := range 3 * maxFailed {
		r.addFailed(FailedDelivery{Text: fmt.Sprint(i)})
	}
	if len(r.Failed) != maxFailed || r.Failed[0].Text != fmt.Sprint(3*maxFailed-1) {
		t.Errorf("%d failed deliveries, the newest %q", len(r.Failed), r.Failed[0].Text)
	}
	for i := range 3*maxForks + 1 {
		r.addFork(groupid.ID{byte(i), byte(i >> 8), 1}, time.Unix(1, 0))
	}
	if len(r.Forks) == 0 || len(r.Forks) > maxForks {
		t.Errorf("%d forks", len(r.Forks))
	}
}
