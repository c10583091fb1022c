package proxy

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

const (
	self = "a@example.org"
	idB  = "b@example.org"
	idC  = "c@example.org"
	idD  = "d@example.org"
)

func people(t *testing.T, ids ...string) groupid.Participants {
	t.Helper()
	p, err := groupid.NewParticipants(ids...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func group(kind cloudmls.Kind, ids ...string) *cloudmls.ConversationState {
	s := &cloudmls.ConversationState{ID: groupid.ID{1}, Kind: kind}
	for _, id := range ids {
		s.Members = append(s.Members, mailAccount(id))
	}
	return s
}

func TestChoose(t *testing.T) {
	abc := group(cloudmls.KindGroup, self, idB, idC)
	gone := group(cloudmls.KindGroup, idB, idC)
	gone.Removed = true
	broken := group(cloudmls.KindGroup, self, idB, idC)
	broken.Broken = true
	phone := group(cloudmls.KindGroup, self, idB)
	phone.Members = append(phone.Members, cloudmls.Account{Platform: "telegram", ID: "1"})
	exactly := plan{kind: cloudmls.KindGroup}
	thread := plan{kind: cloudmls.KindGroup, id: abc.ID}
	for _, c := range []struct {
		name    string
		others  []string
		thread  *cloudmls.ConversationState
		omitted Omitted
		want    plan
	}{
		{"nobody else", nil, abc, OmittedLeaveOut, plan{kind: cloudmls.KindSelf}},
		{"one other", []string{idB}, nil, OmittedLeaveOut, plan{kind: cloudmls.KindDialog}},
		{"one other in a group's thread", []string{idB}, abc, OmittedLeaveOut, plan{kind: cloudmls.KindDialog}},
		{"one other removes nobody", []string{idB}, abc, OmittedRemove, plan{kind: cloudmls.KindDialog}},
		{"several, no thread", []string{idB, idC}, nil, OmittedLeaveOut, exactly},
		{"the same people", []string{idB, idC}, abc, OmittedLeaveOut, thread},
		{"one more", []string{idB, idC, idD}, abc, OmittedLeaveOut, thread},
		{"one left out, one more", []string{idB, idD}, abc, OmittedLeaveOut, exactly},
		{"left out, remove", []string{idB, idD}, abc, OmittedRemove, plan{kind: cloudmls.KindGroup, id: abc.ID, omitted: cloudmls.OmittedRemove}},
		{"no longer a member", []string{idB, idC}, gone, OmittedRemove, exactly},
		{"broken", []string{idB, idC}, broken, OmittedLeaveOut, exactly},
		{"a dialog does not grow", []string{idB, idC}, group(cloudmls.KindDialog, self, idB), OmittedLeaveOut, exactly},
		{"a member of another platform", []string{idB, idC}, phone, OmittedLeaveOut, exactly},
	} {
		got := choose(self, people(t, c.others...), c.thread, c.omitted)
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestMissingError: the refusal names everybody who has no keys, and says what is
// wrong with the others; whatever keeps somebody out keeps the message here.
func TestMissingError(t *testing.T) {
	b, c, d := mailAccount(idB), mailAccount(idC), mailAccount(idD)
	none := func(a cloudmls.Account) cloudmls.Missing {
		return cloudmls.Missing{Account: a, Why: cloudmls.MissingNoKeyPackage, Err: &cloudmls.MissingKeyPackagesError{Accounts: []cloudmls.Account{a}}}
	}
	changed := cloudmls.Missing{Account: d, Why: cloudmls.MissingIdentityChanged, Err: &cloudmls.IdentityChangedError{Account: d}}
	r := refusalOf(missingError([]cloudmls.Missing{none(b), none(c), changed}))
	if !r.Temporary || !strings.Contains(r.Text, idB+", "+idC) || strings.Contains(r.Text, idD) {
		t.Errorf("refused with %q", r.Text)
	}
	if r := refusalOf(missingError([]cloudmls.Missing{changed})); !strings.Contains(r.Text, "identity key of "+idD) {
		t.Errorf("refused with %q", r.Text)
	}
	if err := missingError([]cloudmls.Missing{{Account: b, Why: cloudmls.MissingUnavailable}}); !errors.Is(err, errMembersChanged) {
		t.Errorf("without a reason: %v", err)
	}
}

func TestExactly(t *testing.T) {
	a := &account{self: mailAccount(self)}
	s := group(cloudmls.KindGroup, self, idB, idC)
	if !a.exactly(s, people(t, idB, idC)) {
		t.Error("the same people refused")
	}
	if a.exactly(s, people(t, idB)) || a.exactly(s, people(t, idB, idC, idD)) {
		t.Error("other people accepted")
	}
	s.Removed = true
	if a.exactly(s, people(t, idB, idC)) {
		t.Error("accepted although removed")
	}
}

func TestConversationToken(t *testing.T) {
	id, err := groupid.New()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := conversationToken(threadToken(id)); !ok || got != id {
		t.Errorf("got %v %v", got, ok)
	}
	for _, bad := range []string{"", "<x@conversation.cloudmls>", "<" + id.String() + "@example.org>", "<" + id.String() + ">"} {
		if _, ok := conversationToken(bad); ok {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestSubjectToken(t *testing.T) {
	id := groupid.ID{1}
	a, b := subjectToken(id, "<root@example.org>"), subjectToken(id, "root@example.org")
	if a != b || len(a) != 8 {
		t.Errorf("got %q and %q", a, b)
	}
	if subjectToken(id, "<other@example.org>") == a || subjectToken(groupid.ID{2}, "<root@example.org>") == a {
		t.Error("threads share a token")
	}
}
