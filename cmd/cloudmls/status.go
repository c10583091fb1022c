package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/control"
)

// errAttention makes 'status' end with exit code 4.
var errAttention = errors.New("something needs attention")

func statusCommand() *cobra.Command {
	var file string
	var out output
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the gateway and each account fare, what is wrong, and what to do",
		Long: `Tells, per account, how the mail provider and the key server do, what waits to be sent, and what is wrong and what to do
about it. Asks the running gateway; without one it tells what this device knows by itself.

Exit code: 0 all is well, 4 something needs attention, 1 the question could not be answered.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := openService(c, file)
			if err != nil {
				return err
			}
			defer s.close()
			status, err := s.Status(c.Context())
			if err != nil {
				return err
			}
			if err := printStatus(c, &out, status, time.Now()); err != nil {
				return err
			}
			if needsAttention(status) {
				return errAttention
			}
			return nil
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	out.flag(c)
	return c
}

func printStatus(c *cobra.Command, out *output, s *control.Status, now time.Time) error {
	return out.print(c, s, func(w io.Writer) { writeStatus(w, s, now) })
}

func needsAttention(s *control.Status) bool {
	if !s.Running || len(s.Stranded) > 0 {
		return true
	}
	for _, a := range s.Accounts {
		if len(a.Problems) > 0 || a.IMAP.Failing || a.SMTP.Failing || a.KeyServer.Failing {
			return true
		}
	}
	return false
}

// shownNotices bounds what 'status' tells people of the past; --json has all.
const shownNotices = 5

func writeStatus(w io.Writer, s *control.Status, now time.Time) {
	if s.Running {
		fmt.Fprintf(w, "gateway      running since %s (%s)\n", s.Started.Local().Format("2006-01-02 15:04"), s.Version)
	} else {
		fmt.Fprintln(w, "gateway      not running; start it: cloudmls run")
	}
	for _, a := range s.Accounts {
		fmt.Fprintf(w, "\n%s\n", a.Address)
		if s.Running {
			fmt.Fprintf(w, "  reading    %s\n", providerLine(a.IMAP, now))
			hint(w, a.Address, a.IMAP.Failing, a.IMAP.LastError)
			fmt.Fprintf(w, "  sending    %s\n", providerLine(a.SMTP, now))
			hint(w, a.Address, a.SMTP.Failing, a.SMTP.LastError)
		}
		fmt.Fprintf(w, "  key server %s\n", keyServerLine(a.KeyServer, now))
		hint(w, a.Address, a.KeyServer.Failing, a.KeyServer.LastError)
		if s.Running {
			fmt.Fprintf(w, "  queue      %s\n", queueLine(a.Queue, now))
		}
		fmt.Fprintf(w, "  people     %s, %s\n", plural(a.Conversations, "conversation", "conversations"), plural(a.Contacts, "contact", "contacts"))
		for _, f := range a.Queue.Failed {
			fmt.Fprintf(w, "  given up   to %s, %s: %s\n", strings.Join(f.Recipients, ", "), ago(f.Time, now), f.Text)
		}
		for _, p := range a.Problems {
			fmt.Fprintf(w, "  ! %s\n", problemText(a.Address, p))
		}
		for _, n := range a.Notices[:min(len(a.Notices), shownNotices)] {
			fmt.Fprintf(w, "  note       %s: %s\n", ago(n.At, now), noticeText(a.Address, n))
		}
	}
	if len(s.Events) > 0 {
		fmt.Fprintln(w, "\nyour keys    (was it not you? change the password, then: cloudmls device lost)")
	}
	for _, e := range s.Events[max(0, len(s.Events)-shownNotices):] {
		fmt.Fprintf(w, "  %s: %s\n", ago(e.At, now), plainText(e.Text))
	}
	for _, e := range s.Stranded {
		fmt.Fprintf(w, "\n%s is not configured any more, and %s of it wait to be sent: add the account again, or remove them with the data folder\n",
			e.Address, plural(e.Queue.Entries, "message", "messages"))
	}
}

// noticeText says what a notice is about; of a contact, how to compare the key.
func noticeText(account string, n control.Notice) string {
	if n.Conversation == "" {
		return fmt.Sprintf("%s (cloudmls contact code %s --account %s)", plainText(n.Text), plainText(n.Contact), account)
	}
	return fmt.Sprintf("%s (conversation %s)", plainText(n.Text), n.Conversation)
}

// hint writes what to do about a failure that stands.
func hint(w io.Writer, account string, failing bool, f *control.Fault) {
	if text := faultHint(account, f); failing && text != "" {
		fmt.Fprintf(w, "      -> %s\n", text)
	}
}

func providerLine(p control.ProviderStatus, now time.Time) string {
	switch {
	case p.Failing && p.LastError != nil:
		return fmt.Sprintf("FAILING %s: %s (last worked: %s)", p.Server, p.LastError.Text, ago(p.LastSuccess, now))
	case p.LastSuccess.IsZero():
		return p.Server + ", not used since the start"
	}
	return fmt.Sprintf("ok %s, %s, last connected %s", p.Server, plural(p.Sessions, "session", "sessions"), ago(p.LastSuccess, now))
}

func keyServerLine(k control.KeyServerStatus, now time.Time) string {
	line := "ok"
	if k.Failing && k.LastError != nil {
		line = "FAILING: " + k.LastError.Text
		if !k.RetryAt.IsZero() {
			line += ", next attempt " + ago(k.RetryAt, now)
		}
	}
	if k.LastSync.IsZero() && !k.Failing {
		line = "not asked since the start"
	} else {
		line += ", last sync " + ago(k.LastSync, now)
	}
	if !k.Counted.IsZero() {
		line += ", " + plural(k.KeyPackages, "KeyPackage", "KeyPackages") + " left"
	}
	return line
}

func queueLine(q control.QueueStatus, now time.Time) string {
	if q.Entries == 0 {
		return "empty"
	}
	line := fmt.Sprintf("%s (%s), the oldest from %s, next attempt %s", plural(q.Entries, "message", "messages"), octets(q.Octets), ago(q.Oldest, now), ago(q.NextAttempt, now))
	if q.LastError != nil {
		line += ": " + q.LastError.Text
	}
	return line
}
