package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// bounceTimeout bounds storing one notice at the provider.
const bounceTimeout = time.Minute

// bounce tells the user that a copy could not be delivered after the
// submission was accepted: a notice in INBOX, sealed like every upload. It is
// stored by the gateway itself, so it starts no mail and no group operation.
func (g *Gateway) bounce(ctx context.Context, username string, t smtpd.Transaction, cause error) error {
	p := g.senderOf(username)
	if p == nil {
		return errNotConfigured
	}
	a := p.now.Load()
	ctx, cancel := context.WithTimeout(ctx, bounceTimeout)
	defer cancel()
	name, err := randomName()
	if err != nil {
		return err
	}
	notice := bounceNotice(a.self.ID, name, a.now(), t, cause)
	sealed, err := a.sealUpload(ctx, imapd.Upload{Mailbox: "INBOX", Size: int64(len(notice)), Content: bytes.NewReader(notice)})
	if err != nil {
		return fmt.Errorf("seal a notice: %w", err)
	}
	a.log.Warn("a copy was not delivered", "transaction", t.ID)
	a.log.Debug("why a copy was not delivered", "transaction", t.ID, "err", cause)
	err = a.storeAtProvider(ctx, "INBOX", sealed)
	if sealed.Close != nil {
		err = errors.Join(err, sealed.Close())
	}
	if err != nil {
		return err
	}
	failed := FailedDelivery{Time: a.now(), Recipients: t.Recipients, Text: oneLine(refusalText(cause))}
	if err := a.health.journal.failed(failed); err != nil {
		a.log.Warn("a failed delivery was not noted", "err", err)
	}
	return nil
}

// refusalText is what the provider said.
func refusalText(cause error) string {
	var r *smtpd.Refusal
	if errors.As(cause, &r) {
		return r.Text
	}
	return "no reason"
}

// bounceNotice writes the notice. Whatever comes from outside is made
// printable: the provider's words, and addresses.
func bounceNotice(self, name string, now time.Time, t smtpd.Transaction, cause error) []byte {
	var b bytes.Buffer
	write := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	write("From: CloudMLS Gateway <%s>", printable(self))
	write("To: <%s>", printable(self))
	write("Subject: A message could not be delivered")
	write("Date: %s", now.UTC().Format(dateLayout))
	write("Message-ID: <%s@%s>", name, printable(domainOf(self)))
	write("Auto-Submitted: auto-generated")
	write("MIME-Version: 1.0")
	write("Content-Type: text/plain; charset=us-ascii")
	write("")
	write("A message that you sent was accepted, but the copy for")
	write("")
	for _, r := range t.Recipients {
		write("    %s", printable(r))
	}
	write("")
	write("could not be delivered. Your mail provider said:")
	write("")
	for line := range strings.SplitSeq(refusalText(cause), "\n") {
		write("    %s", printable(strings.TrimRight(line, "\r")))
	}
	write("")
	write("Nothing was sent in clear. The other recipients got the message.")
	return b.Bytes()
}

// storeAtProvider appends a sealed message to a mailbox.
func (a *account) storeAtProvider(ctx context.Context, mailbox string, u *imapd.SealedUpload) error {
	c, err := a.signIn(ctx)
	if err != nil {
		return err
	}
	err = c.append(mailbox, u)
	a.health.uploadResult(err)
	return errors.Join(err, c.close())
}
