package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/control"
)

// hostile is what a server may say to a terminal: clear it, set its title, go
// back to the start of the line, turn the direction, 8-bit CSI.
const hostile = "bad \x1b[2J\x1b]0;owned\x07\rok \u202egnp\u2066 \u009b31m \x9b end"

func tame(t *testing.T, where, text string) {
	t.Helper()
	if strings.ContainsAny(text, "\x1b\x07\r\u202e\u2066\u009b") || strings.Contains(text, "\x9b ") {
		t.Errorf("%s lets terminal sequences through: %q", where, text)
	}
	if !strings.Contains(text, "bad ?[2J") || !strings.Contains(text, " end") {
		t.Errorf("%s lost the words: %q", where, text)
	}
}

func TestForeignTextOnTerminal(t *testing.T) {
	var b bytes.Buffer
	if code := report(&b, errors.New(hostile)); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	tame(t, "an error", b.String())

	b.Reset()
	writeFinding(&b, finding{"fail", hostile, hostile})
	tame(t, "a finding", b.String())

	b.Reset()
	c := &cobra.Command{}
	c.SetOut(&b)
	status := &control.Status{Running: true, Accounts: []control.AccountStatus{{
		Address: "alice@a.test", IMAP: control.ProviderStatus{Failing: true, Server: "imap.a.test:993", LastError: &control.Fault{Text: hostile}},
	}}}
	if err := printStatus(c, &output{}, status, time.Now()); err != nil {
		t.Fatal(err)
	}
	tame(t, "status", b.String())
	if strings.Count(b.String(), "\n") < 5 {
		t.Errorf("status lost its lines: %q", b.String())
	}

	b.Reset()
	(&terminal{out: &b}).say("%s: ", hostile)
	tame(t, "a question", b.String())

	b.Reset()
	c.SetErr(&b)
	progress(c)("found in %s", hostile)
	tame(t, "progress", b.String())
	if !strings.HasSuffix(b.String(), "\n") {
		t.Error("progress has no line end")
	}
}

func TestTableCellsStayInPlace(t *testing.T) {
	var b strings.Builder
	table(&b, []string{"ID", "NAME"}, []string{"1", "phone\n2\tforged\v\f\rrow"})
	if got := b.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "phone 2 forged   row\n") {
		t.Errorf("%q", got)
	}
}
