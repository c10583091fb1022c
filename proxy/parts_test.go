package proxy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/smtpd"
)

func TestSpool(t *testing.T) {
	for name, size := range map[string]int{"memory": 1000, "file": spoolMemory + 1} {
		dir := t.TempDir()
		s := &spool{dir: dir}
		want := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		for chunk := want; len(chunk) > 0; {
			n := min(len(chunk), 4000)
			if _, err := s.Write(chunk[:n]); err != nil {
				t.Fatal(err)
			}
			chunk = chunk[n:]
		}
		for range 2 {
			r, err := s.open()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) || s.size != int64(len(want)) {
				t.Errorf("%s: %d octets, %v", name, len(got), err)
			}
		}
		if err := errors.Join(s.close(), s.close()); err != nil {
			t.Error(err)
		}
		if _, err := s.open(); !errors.Is(err, errSpoolClosed) {
			t.Errorf("open after close: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	bob := mailAccount("bob@example.net")
	for _, err := range []error{
		&cloudmls.MissingKeyPackagesError{Accounts: []cloudmls.Account{bob}},
		&cloudmls.IdentityChangedError{Account: bob},
		&cloudmls.BadKeyPackageError{Account: bob, Err: errors.New("x")},
		cloudmls.ErrBusy, cloudmls.ErrBroken, cloudmls.ErrConversationTaken, cloudmls.ErrNotMember, cloudmls.ErrExhausted,
		cloudmls.ErrClosed, errMembersChanged, errors.New("secret words of a server"),
	} {
		r := refusalOf(err)
		if !r.Temporary || r.Enhanced[0] != 4 || r.Enhanced[1] != 7 {
			t.Errorf("%v: got %v, want a temporary 4.7.x", err, r.Enhanced)
		}
		if !strings.HasPrefix(r.Text, "Not sent: ") || strings.Contains(r.Text, "secret words") || !errors.Is(r, err) {
			t.Errorf("%v: %q", err, r.Text)
		}
	}
	own := &smtpd.Refusal{Text: "own"}
	if refusalOf(own) != own {
		t.Error("a refusal does not pass as it is")
	}
}

func TestStubsAreStable(t *testing.T) {
	a := &account{token: strings.Repeat("0", 32)}
	header := []byte("From: alice@example.org\r\nSubject: [...] abc\r\n\r\n")
	for code, s := range stubs {
		v := a.stubView(header, code, strings.Repeat("a", 64))
		if !v.Stub || v.Temporary != s.temporary || len(v.StubKey) > 256 {
			t.Errorf("%s: %+v", code, v)
		}
		// Without a client: what was shown is shown again, not opened.
		again, err := a.openMessage(t.Context(), imapd.SealedMessage{Header: header, Control: []byte("x"), StubKey: v.StubKey})
		if err != nil || again.StubKey != v.StubKey || again.Size != v.Size {
			t.Errorf("%s: shown again differently: %v", code, err)
		}
	}
	for _, bad := range []string{"", "1", "1 nonsense x", "2 not-yet x", "1 not-yet x y"} {
		if _, err := a.shownStub(header, bad); err == nil {
			t.Errorf("stub key %q accepted", bad)
		}
	}
}

func TestStubCodes(t *testing.T) {
	for _, reason := range []cloudmls.NeverReason{
		cloudmls.NeverMalformed, cloudmls.NeverInvalid, cloudmls.NeverBeforeJoin, cloudmls.NeverAfterRemoval,
		cloudmls.NeverFork, cloudmls.NeverForeign, "whatever comes",
	} {
		if code := stubCode(&cloudmls.NeverError{Reason: reason}); stubs[code].text == "" || stubs[code].temporary {
			t.Errorf("%s: got %s", reason, code)
		}
	}
	if !stubs[stubCode(cloudmls.ErrNotYet)].temporary || !stubs[stubCode(errors.New("boom"))].temporary {
		t.Error("a failure that may pass is for good")
	}
	if stubs[stubCode(mailseal.ErrCorrupt)].temporary {
		t.Error("damage is temporary")
	}
}

func TestCheckFindsEachContradiction(t *testing.T) {
	sender := mailAccount("alice@example.org")
	from := []mailseal.Mailbox{{Address: "Alice@Example.org"}}
	id := groupid.ID{7}
	good := func() (*cloudmls.Plaintext, *mailseal.Control, *mailseal.Header) {
		return &cloudmls.Plaintext{Sender: sender, Conversation: id, Kind: cloudmls.KindDialog, Verified: true},
			&mailseal.Control{Conversation: id, Kind: mailseal.KindMessage}, &mailseal.Header{From: from}
	}
	for name, c := range map[string]struct {
		change func(*cloudmls.Plaintext, *mailseal.Control, *mailseal.Header)
		want   finding
	}{
		"nothing":            {func(*cloudmls.Plaintext, *mailseal.Control, *mailseal.Header) {}, ""},
		"other conversation": {func(_ *cloudmls.Plaintext, c *mailseal.Control, _ *mailseal.Header) { c.Conversation[0]++ }, findingConversation},
		"personal kind":      {func(_ *cloudmls.Plaintext, c *mailseal.Control, _ *mailseal.Header) { c.Kind = mailseal.KindSelf }, findingKind},
		"blind in a group": {func(p *cloudmls.Plaintext, c *mailseal.Control, _ *mailseal.Header) {
			c.Kind, p.Kind = mailseal.KindBlind, cloudmls.KindGroup
		}, findingKind},
		"other From": {func(_ *cloudmls.Plaintext, _ *mailseal.Control, h *mailseal.Header) {
			h.From = []mailseal.Mailbox{{Address: "mallory@example.org"}}
		}, findingFrom},
		"two From": {func(_ *cloudmls.Plaintext, _ *mailseal.Control, h *mailseal.Header) {
			h.From = append(h.From[:1:1], from...)
		}, findingFrom},
		"no From": {func(_ *cloudmls.Plaintext, _ *mailseal.Control, h *mailseal.Header) { h.From = nil }, findingFrom},
		"From twice": {func(_ *cloudmls.Plaintext, _ *mailseal.Control, h *mailseal.Header) {
			h.Duplicates = []string{"From"}
		}, findingFrom},
		"other Sender": {func(_ *cloudmls.Plaintext, _ *mailseal.Control, h *mailseal.Header) {
			h.Sender = []mailseal.Mailbox{{Address: "mallory@example.org"}}
		}, findingFrom},
		"other platform": {func(p *cloudmls.Plaintext, _ *mailseal.Control, _ *mailseal.Header) { p.Sender.Platform = "telegram" }, findingFrom},
		"replay": {func(p *cloudmls.Plaintext, _ *mailseal.Control, _ *mailseal.Header) {
			p.Warnings = []cloudmls.Warning{cloudmls.WarningReplay}
		}, findingReplay},
		"unknown warning": {func(p *cloudmls.Plaintext, _ *mailseal.Control, _ *mailseal.Header) {
			p.Warnings = []cloudmls.Warning{200}
		}, findingUnverified},
		"unverified": {func(p *cloudmls.Plaintext, _ *mailseal.Control, _ *mailseal.Header) { p.Verified = false }, findingUnverified},
	} {
		p, ctl, h := good()
		c.change(p, ctl, h)
		got := check(p, ctl, h)
		if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || got[0] != c.want) {
			t.Errorf("%s: got %v, want %q", name, got, c.want)
		}
		status, keywords := openedStatus(strings.Repeat("0", 32), p.Sender.ID, false, true, got)
		verified := keywords[1] == imapd.KeywordVerified
		if verified != (c.want == "") || strings.ContainsAny(status, "\r\n") || len(status) > 900 {
			t.Errorf("%s: %v, %q", name, keywords, status)
		}
	}
}

func TestReplacedIsToldForAWeek(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	a := &account{now: func() time.Time { return now }}
	for name, c := range map[string]struct {
		p    cloudmls.Plaintext
		want bool
	}{
		"never":           {cloudmls.Plaintext{}, false},
		"lately":          {cloudmls.Plaintext{Replaced: now.Add(-replacedFor)}, true},
		"long ago":        {cloudmls.Plaintext{Replaced: now.Add(-replacedFor - time.Second)}, false},
		"sent by oneself": {cloudmls.Plaintext{Replaced: now, Own: true}, false},
		"clock is slow":   {cloudmls.Plaintext{Replaced: now.Add(time.Hour)}, true},
	} {
		if got := a.replacedLately(&c.p); got != c.want {
			t.Errorf("%s: told: %v", name, got)
		}
	}
}

// TestAwayIsNoWarning: what a device that was away cannot judge is not called wrong,
// and not called verified; anything else beside it is a warning as ever.
func TestAwayIsNoWarning(t *testing.T) {
	token := strings.Repeat("0", 32)
	status, keywords := openedStatus(token, "alice@example.org", false, true, []finding{findingAway})
	if len(keywords) != 1 || keywords[0] != imapd.KeywordEncrypted {
		t.Errorf("keywords %v", keywords)
	}
	if !strings.HasPrefix(status, token+"; not verified; ") || !strings.Contains(status, "; note=") || strings.Contains(status, "warning=") {
		t.Errorf("status %q", status)
	}
	status, keywords = openedStatus(token, "alice@example.org", false, true, []finding{findingAway, findingReplay})
	if len(keywords) != 2 || keywords[1] != imapd.KeywordWarning || !strings.Contains(status, "; warning="+string(findingReplay)) {
		t.Errorf("with another finding: %v, %q", keywords, status)
	}
	if got := check(&cloudmls.Plaintext{Warnings: []cloudmls.Warning{cloudmls.WarningAway}, Sender: mailAccount("a@b.example"), Kind: cloudmls.KindDialog},
		&mailseal.Control{Kind: mailseal.KindMessage}, &mailseal.Header{From: []mailseal.Mailbox{{Address: "a@b.example"}}}); len(got) != 1 || got[0] != findingAway {
		t.Errorf("found %v", got)
	}
}
