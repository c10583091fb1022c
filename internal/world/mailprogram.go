package world

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mailTimeout bounds one action of a mail program.
const mailTimeout = time.Minute

// MailProgram is an ordinary mail program's settings. Each call opens a
// connection of its own.
type MailProgram struct {
	IMAPAddr, SMTPAddr string
	TLS                *tls.Config
	Username, Password string
}

// Mail is one message as a mail program sees it.
type Mail struct {
	UID     uint32
	Flags   []string
	Content []byte // what BODY[] gave
}

// Has reports whether the message has a flag or keyword.
func (m *Mail) Has(flag string) bool {
	return slices.ContainsFunc(m.Flags, func(f string) bool { return strings.EqualFold(f, flag) })
}

// MessageID is the message's Message-ID field, or "".
func (m *Mail) MessageID() string { return Field(m.Content, "Message-ID") }

// Field gives the first field of a name in a message's header, unfolded and
// without space around it, or "".
func Field(message []byte, name string) string {
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	unfolded := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(header))
	for line := range strings.SplitSeq(unfolded, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// Send submits a message with AUTH PLAIN over TLS. An error of the server is a
// *smtp.SMTPError.
func (m *MailProgram) Send(ctx context.Context, from string, recipients []string, message []byte) (err error) {
	conn, err := m.dial(ctx, m.SMTPAddr)
	if err != nil {
		return err
	}
	c := smtp.NewClient(conn)
	defer func() { err = errors.Join(err, ignoreClosed(c.Close())) }()
	if err := c.Hello("localhost"); err != nil {
		return err
	}
	if err := c.Auth(sasl.NewPlainClient("", m.Username, m.Password)); err != nil {
		return err
	}
	if err := c.Mail(from, mailOptions(c, append([]string{from}, recipients...))); err != nil {
		return err
	}
	for _, r := range recipients {
		if err := c.Rcpt(r, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return ignoreClosed(c.Quit())
}

func mailOptions(c *smtp.Client, addresses []string) *smtp.MailOptions {
	o := &smtp.MailOptions{}
	for _, a := range addresses {
		if strings.ContainsFunc(a, func(r rune) bool { return r > 127 }) {
			o.UTF8, _ = c.Extension("SMTPUTF8")
		}
	}
	return o
}

func (m *MailProgram) dial(ctx context.Context, addr string) (net.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: mailTimeout}, Config: m.TLS}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(mailTimeout))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// DialIMAP and DialSMTP open a connection on which nothing was said; the caller
// closes it.
func (m *MailProgram) DialIMAP(ctx context.Context) (net.Conn, error) { return m.dial(ctx, m.IMAPAddr) }

// DialSMTP is DialIMAP for submissions.
func (m *MailProgram) DialSMTP(ctx context.Context) (net.Conn, error) { return m.dial(ctx, m.SMTPAddr) }

// IMAP opens a signed-in connection; the caller closes it.
func (m *MailProgram) IMAP(ctx context.Context) (*imapclient.Client, error) {
	conn, err := m.dial(ctx, m.IMAPAddr)
	if err != nil {
		return nil, err
	}
	c := imapclient.New(conn, nil)
	if err := c.Login(m.Username, m.Password).Wait(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// List reads a whole mailbox in the order of UIDs, without setting \Seen.
func (m *MailProgram) List(ctx context.Context, mailbox string) (all []Mail, err error) {
	c, err := m.IMAP(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ignoreClosed(c.Close())) }()
	selected, err := c.Select(mailbox, nil).Wait()
	if err != nil {
		return nil, fmt.Errorf("select %s: %w", mailbox, err)
	}
	if selected.NumMessages == 0 {
		return nil, nil
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	messages, err := c.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{
		UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{whole},
	}).Collect()
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", mailbox, err)
	}
	for _, msg := range messages {
		mail := Mail{UID: uint32(msg.UID), Content: msg.FindBodySection(whole)}
		for _, f := range msg.Flags {
			mail.Flags = append(mail.Flags, string(f))
		}
		all = append(all, mail)
	}
	// Servers may answer in any order.
	slices.SortFunc(all, func(a, b Mail) int { return cmp.Compare(a.UID, b.UID) })
	return all, nil
}

// ErrNoMail: a mailbox has no such message.
var ErrNoMail = errors.New("no such message in the mailbox")

// Find gives the last message of a mailbox with the Message-ID (angle brackets
// included), as the mail program sees it, or ErrNoMail.
func (m *MailProgram) Find(ctx context.Context, mailbox, messageID string) (*Mail, error) {
	all, err := m.List(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].MessageID() == messageID {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("%w: %s in %s", ErrNoMail, messageID, mailbox)
}

// Append stores a message, as mail programs do with drafts and Sent copies.
func (m *MailProgram) Append(ctx context.Context, mailbox string, flags []string, message []byte) (err error) {
	c, err := m.IMAP(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreClosed(c.Close())) }()
	o := &imap.AppendOptions{}
	for _, f := range flags {
		o.Flags = append(o.Flags, imap.Flag(f))
	}
	cmd := c.Append(mailbox, int64(len(message)), o)
	if _, err := cmd.Write(message); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	if _, err := cmd.Wait(); err != nil {
		return fmt.Errorf("append to %s: %w", mailbox, err)
	}
	return nil
}
