package e2e

import (
	"net/mail"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/corpus"
	"github.com/cloudmls/gateway/test/stack"
)

// TestMissingFields: a message without Date or Message-ID travels under ones
// that the gateway makes, so that providers do not add theirs; what the reader
// sees stays as it was submitted, without them.
func TestMissingFields(t *testing.T) {
	s := stack.New(t, lab)
	lab.Empty(t, stack.Erin, "INBOX")
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("erin", stack.Erin)
	all, err := corpus.All()
	if err != nil {
		t.Fatal(err)
	}
	out := a.Submission(stack.Alice)
	direct := lab.Direct(t, stack.Erin)
	var known []int
	for _, name := range []string{"no-date", "no-message-id", "subject-empty"} {
		m := all[slices.IndexFunc(all, func(m corpus.Message) bool { return m.Name == name })]
		if err := out.Send([]string{stack.Erin}, m.Octets); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		uids := arrived(t, direct, len(known)+1)
		uid := uids[len(uids)-1]
		known = uids
		outer, err := mail.ReadMessage(strings.NewReader(direct.Fetch(uid, "BODY.PEEK[HEADER]").Text()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := outer.Header.Date(); err != nil {
			t.Errorf("%s: the outer Date: %v", name, err)
		}
		for _, field := range []string{"Date", "Message-Id"} {
			if n := len(outer.Header[field]); n != 1 {
				t.Errorf("%s: %d outer fields %s", name, n, field)
			}
		}
		c := b.Mail(stack.Erin)
		c.OK("SELECT INBOX")
		if got := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str); string(got) != string(m.Octets) {
			t.Errorf("%s: read as %q", name, got)
		}
		envelope := c.Fetch(uid, "ENVELOPE").List
		if date, id := envelope[0].Text(), envelope[9].Text(); (date == "") != (name == "no-date") || (id == "") != (name == "no-message-id") {
			t.Errorf("%s: the envelope has the date %q and the id %q", name, date, id)
		}
	}
}
