package main

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/control"
)

// TestStatusShowsNotices: of a conversation with its id, of a contact with how to
// compare the key; what others wrote does not steer the terminal.
func TestStatusShowsNotices(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &control.Status{Running: true, Started: now, Accounts: []control.AccountStatus{{Address: "alice@example.org", Notices: []control.Notice{
		{At: now, Contact: "bob@example.org", Text: "bob@example.org replaced their key\x1b[2J"},
		{At: now, Conversation: strings.Repeat("1", 32), Contact: "bob@example.org", Text: "another group serves it"},
	}}}}
	var b strings.Builder
	writeStatus(&b, s, now)
	for _, want := range []string{
		"replaced their key", "(cloudmls contact code bob@example.org --account alice@example.org)",
		"another group serves it (conversation " + strings.Repeat("1", 32) + ")",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a control character is shown")
	}
}
