package proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// everyRecipient lists every combination of what can be known of a person.
func everyRecipient() []recipient {
	var all []recipient
	bools := []bool{false, true}
	for _, mode := range []Mode{ModePrefer, ModeRequire, ModeNever, "", "nonsense"} {
		for _, byRule := range bools {
			for _, has := range bools {
				for _, pinned := range bools {
					for _, known := range bools {
						for _, err := range []error{nil, errors.New("boom")} {
							all = append(all, recipient{
								addr: fmt.Sprintf("r%d@example.org", len(all)), mode: mode, byRule: byRule, known: known, err: err,
								reach: cloudmls.Reach{HasAccount: has, Pinned: pinned},
							})
						}
					}
				}
			}
		}
	}
	return all
}

// mayBeClear says in the words of the design when a person may be written to
// in clear. It shares no code with decide.
func mayBeClear(r recipient, answersSealed bool) bool {
	if answersSealed {
		return false
	}
	if r.byRule && r.mode == ModeNever {
		return true // the user's own word about this person
	}
	explicitlyUnknown := r.err == nil && !r.reach.HasAccount
	neverEncrypted := r.err == nil && !r.reach.Pinned && !r.known
	switch r.mode {
	case ModePrefer:
		return explicitlyUnknown && neverEncrypted
	case ModeNever:
		return neverEncrypted
	}
	return false
}

// TestFlaw09_FailOpenDecision goes through every combination for one and for
// two recipients: plain text comes out only where each of them may be written
// to in clear, and no failing look-up leads to anything but a temporary refusal.
func TestFlaw09_FailOpenDecision(t *testing.T) {
	all := everyRecipient()
	for _, answers := range []bool{false, true} {
		m := messageFacts{answersSealed: answers, selfMode: ModePrefer}
		for i, a := range all {
			checkDecision(t, m, []recipient{a})
			for _, b := range all[i%7:] { // every second person, in a seventh of the pairs
				if (len(b.addr)+i)%7 == 0 {
					checkDecision(t, m, []recipient{a, b})
					checkDecision(t, m, []recipient{b, a})
				}
			}
		}
	}
}

func checkDecision(t *testing.T, m messageFacts, people []recipient) {
	t.Helper()
	d := decide(m, people)
	clear, failed := 0, false
	for _, p := range people {
		if mayBeClear(p, m.answersSealed) {
			clear++
		}
		failed = failed || p.err != nil && !(p.byRule && p.mode == ModeNever)
	}
	if d.outcome == outcomePlain && clear != len(people) {
		t.Errorf("plain for %+v, answering a sealed one: %v", people, m.answersSealed)
	}
	if d.outcome == outcomeEncrypt && failed {
		t.Errorf("encrypt although a look-up failed: %+v", people)
	}
	if failed && (d.refusal == nil || !d.refusal.Temporary) {
		t.Errorf("look-up failed, want a temporary refusal, got %+v for %+v", d, people)
	}
	if d.outcome == outcomeRefuse && (d.refusal == nil || d.refusal.Text == "") {
		t.Errorf("refusal without words for %+v", people)
	}
	if d.outcome == outcomeEncrypt && clear == len(people) && !m.answersSealed {
		t.Errorf("encrypt where clear text was decided: %+v", people)
	}
	if d.refusal != nil && !failed {
		named := false
		for _, p := range people {
			named = named || strings.Contains(d.refusal.Text, p.addr)
		}
		if !named {
			t.Errorf("refusal names nobody: %q", d.refusal.Text)
		}
	}
}

// TestSealingEndsBeforeMailProgramsGiveUp: whoever is told that nothing was sent
// sends again, so nothing may leave once the mail program has stopped waiting.
func TestSealingEndsBeforeMailProgramsGiveUp(t *testing.T) {
	const thunderbird = 100 * time.Second // mailnews.tcptimeout
	if sealTimeout > thunderbird*3/4 {
		t.Errorf("work with the key server may take %v, Thunderbird waits for %v", sealTimeout, thunderbird)
	}
}

// TestSignedOutIsSaid: trying again does not help who is signed out.
func TestSignedOutIsSaid(t *testing.T) {
	for _, cause := range []error{cloudmls.ErrSignedOut, fmt.Errorf("look up: %w", cloudmls.ErrSignedOut)} {
		d := decide(messageFacts{}, []recipient{{addr: "bob@b.test", mode: ModePrefer, err: cause}})
		if d.outcome != outcomeRefuse || !d.refusal.Temporary || !strings.Contains(d.refusal.Text, "signed out of the key server") ||
			!strings.Contains(d.refusal.Text, "cloudmls status") || strings.Contains(d.refusal.Text, "few minutes") {
			t.Errorf("%v: %+v", cause, d)
		}
		if got := refusalOf(cause); got.Text != d.refusal.Text {
			t.Errorf("%v: %q", cause, got.Text)
		}
	}
}

func TestDecideToOneself(t *testing.T) {
	for _, c := range []struct {
		mode    Mode
		answers bool
		want    outcome
	}{
		{ModePrefer, false, outcomeEncrypt},
		{ModeRequire, true, outcomeEncrypt},
		{ModeNever, false, outcomePlain},
		{ModeNever, true, outcomeEncrypt},
	} {
		if got := decide(messageFacts{answersSealed: c.answers, selfMode: c.mode}, nil); got.outcome != c.want {
			t.Errorf("mode %s, answers %v: got %v, want %v", c.mode, c.answers, got.outcome, c.want)
		}
	}
}

func TestDecideMixedNamesThem(t *testing.T) {
	d := decide(messageFacts{}, []recipient{
		{addr: "bob@example.net", mode: ModePrefer, reach: cloudmls.Reach{HasAccount: true}},
		{addr: "oscar@example.com", mode: ModePrefer},
	})
	if d.outcome != outcomeRefuse || d.refusal.Temporary || d.refusal.Enhanced[0] != 5 || d.refusal.Enhanced[1] != 7 {
		t.Fatalf("got %+v, want a permanent 5.7.x", d.refusal)
	}
	if !strings.Contains(d.refusal.Text, "oscar@example.com cannot read encrypted mail") {
		t.Errorf("the refusal does not say who: %q", d.refusal.Text)
	}
}

func TestRules(t *testing.T) {
	r, err := newRules(Policy{
		Recipients: map[string]Mode{"Bob@Example.NET": ModeRequire},
		Domains:    map[string]Mode{"Example.net": ModeNever, "bücher.example": ModeRequire},
	})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]Mode{
		"bob@example.net": ModeRequire, "eve@example.net": ModeNever, "eve@sub.example.net": ModePrefer,
		"x@xn--bcher-kva.example": ModeRequire, "x@example.org": ModePrefer,
	} {
		if got, _ := r.mode(addr); got != want {
			t.Errorf("%s: got %s, want %s", addr, got, want)
		}
	}
	for name, p := range map[string]Policy{
		"default":   {Default: "maybe"},
		"omitted":   {Omitted: "burn"},
		"recipient": {Recipients: map[string]Mode{"no address": ModeNever}},
		"mode":      {Recipients: map[string]Mode{"a@b.example": "x"}},
		"domain":    {Domains: map[string]Mode{"-": ModeNever}},
	} {
		if _, err := newRules(p); err == nil {
			t.Errorf("%s: invalid policy accepted", name)
		}
	}
}

func TestPrintableStaysOnOneLine(t *testing.T) {
	got := printable("a\r\nCloudMLS-Status: x; verified\x00é" + strings.Repeat("b", 400))
	if strings.ContainsAny(got, "\r\n\x00;é") || len(got) > maxPrintable {
		t.Errorf("got %q", got)
	}
}

// TestChangedIdentityIsSaid: the sender learns that a key changed, not that a
// server failed.
func TestChangedIdentityIsSaid(t *testing.T) {
	bob := mailAccount("bob@example.net")
	changed := recipient{addr: bob.ID, mode: ModePrefer, err: &cloudmls.IdentityChangedError{Account: bob}}
	failed := recipient{addr: "carol@example.org", mode: ModePrefer, err: errors.New("boom")}
	for _, people := range [][]recipient{{changed}, {failed, changed}} {
		d := decide(messageFacts{}, people)
		if d.outcome != outcomeRefuse || !d.refusal.Temporary || !strings.Contains(d.refusal.Text, "identity key of bob@example.net") {
			t.Errorf("got %+v", d.refusal)
		}
	}
}

// TestRetiredKeyIsSaid: where a conversation shows a key that its owner has replaced,
// there is nothing to accept; who it is about and what helps is said.
func TestRetiredKeyIsSaid(t *testing.T) {
	r := refusalOf(fmt.Errorf("encrypt: %w", &cloudmls.IdentityChangedError{Account: mailAccount("bob@example.net"), Retired: true}))
	if !r.Temporary || !strings.Contains(r.Text, "bob@example.net replaced") || !strings.Contains(r.Text, "cloudmls conversation remove") || strings.Contains(r.Text, "accept") {
		t.Errorf("got %q", r.Text)
	}
}

// TestSettledKeyIsSaid: nor is there where people have found another key to be theirs.
func TestSettledKeyIsSaid(t *testing.T) {
	r := refusalOf(fmt.Errorf("encrypt: %w", &cloudmls.IdentityChangedError{Account: mailAccount("bob@example.net"), Verified: true, Settled: true}))
	if !r.Temporary || !strings.Contains(r.Text, "bob@example.net") || !strings.Contains(r.Text, "cloudmls conversation remove") || strings.Contains(r.Text, "accept") {
		t.Errorf("got %q", r.Text)
	}
}

func TestRulesForOnePersonAreOne(t *testing.T) {
	for _, p := range []Policy{
		{Recipients: map[string]Mode{"Bob@example.net": ModeNever, "bob@EXAMPLE.net": ModeRequire}},
		{Domains: map[string]Mode{"Example.net": ModeNever, "example.net": ModeRequire}},
	} {
		if _, err := newRules(p); err == nil || !strings.Contains(err.Error(), "two rules") {
			t.Errorf("%v: %v", p, err)
		}
	}
}
