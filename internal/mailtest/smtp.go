package mailtest

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

func (p *Provider) newSMTP() *smtp.Server {
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		if err := p.smtpFault(SMTPHello, "", c.Conn()); err != nil {
			return nil, err
		}
		return &smtpSession{p: p, conn: c.Conn()}, nil
	}))
	s.Domain = "mx." + p.domain
	s.MaxMessageBytes = p.maxMessageBytes
	s.MaxRecipients = 100
	s.EnableSMTPUTF8 = p.smtpUTF8
	s.ErrorLog = printfLogger{p.log}
	s.AllowInsecureAuth = p.security != StartTLS
	if p.security == StartTLS {
		s.TLSConfig = p.tls
	}
	return s
}

func (p *Provider) wrapSMTP(ln net.Listener) net.Listener {
	switch p.security {
	case ImplicitTLS:
		return dataListener{tls.NewListener(ln, p.tls), p}
	case Plain:
		return dataListener{ln, p}
	}
	return ln // with STARTTLS the DATA command cannot be seen here
}

// dataListener makes connections that can fail at DATA, before 354: go-smtp
// has no hook there.
type dataListener struct {
	net.Listener
	p *Provider
}

// Accept implements net.Listener.
func (l dataListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &dataConn{Conn: conn, p: l.p}, nil
}

type dataConn struct {
	net.Conn
	p *Provider
}

// Read implements net.Conn.
func (c *dataConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && bytes.HasSuffix(b[:n], []byte("DATA\r\n")) {
		if c.p.smtpFault(SMTPData, "", c.Conn) != nil {
			return 0, net.ErrClosed
		}
	}
	return n, err
}

// smtpSession is one connection of a mail client.
type smtpSession struct {
	p          *Provider
	conn       net.Conn
	u          *user
	from       string
	recipients []string
	utf8       bool
}

var _ smtp.AuthSession = (*smtpSession)(nil)

// AuthMechanisms implements smtp.AuthSession.
func (s *smtpSession) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements smtp.AuthSession.
func (s *smtpSession) Auth(mech string) (sasl.Server, error) {
	if err := s.p.smtpFault(SMTPAuth, "", s.conn); err != nil {
		return nil, err
	}
	check := func(username, password string) error {
		u := s.p.users[canonical(username)]
		if u == nil || subtle.ConstantTimeCompare([]byte(u.password), []byte(password)) != 1 {
			return smtp.ErrAuthFailed
		}
		s.u = u
		return nil
	}
	switch mech {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, username, password string) error { return check(username, password) }), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// loginServer is the LOGIN mechanism, which go-sasl has for clients only.
type loginServer struct {
	check    func(username, password string) error
	username string
	state    int
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.state == 0 && response == nil {
		l.state = 1
		return []byte("Username:"), false, nil
	}
	if l.state < 2 {
		l.username, l.state = string(response), 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.username, string(response))
}

// Reset implements smtp.Session.
func (s *smtpSession) Reset() { s.from, s.recipients, s.utf8 = "", nil, false }

// Logout implements smtp.Session.
func (s *smtpSession) Logout() error { return nil }

// Mail implements smtp.Session.
func (s *smtpSession) Mail(from string, o *smtp.MailOptions) error {
	if err := s.p.smtpFault(SMTPMail, from, s.conn); err != nil {
		return err
	}
	if s.u == nil {
		return &smtp.SMTPError{Code: 530, EnhancedCode: smtp.EnhancedCode{5, 7, 0}, Message: "Authentication required"}
	}
	if canonical(from) != s.u.address {
		return &smtp.SMTPError{
			Code: 553, EnhancedCode: smtp.EnhancedCode{5, 7, 1},
			Message: "Sender address rejected: not owned by user",
		}
	}
	s.Reset()
	s.from, s.utf8 = from, o.UTF8
	return nil
}

// Rcpt implements smtp.Session.
func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.p.smtpFault(SMTPRcpt, to, s.conn); err != nil {
		return err
	}
	switch _, _, err := s.p.world.route(to); {
	case errors.Is(err, errNoDomain):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 2}, Message: "Domain not found"}
	case err != nil:
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "User unknown"}
	}
	s.recipients = append(s.recipients, to)
	return nil
}

// Data implements smtp.Session.
func (s *smtpSession) Data(r io.Reader) error {
	var content bytes.Buffer
	if _, err := io.CopyN(&content, r, 16); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := s.p.smtpFault(SMTPContent, s.from, s.conn); err != nil {
		return err
	}
	if _, err := io.Copy(&content, r); err != nil {
		return err
	}
	if err := s.p.smtpFault(SMTPReceived, s.from, s.conn); err != nil {
		return err
	}
	id := rand.Text()[:10]
	if err := s.p.accept(s, id, content.Bytes()); err != nil {
		return err
	}
	if err := s.p.smtpFault(SMTPStored, s.from, s.conn); err != nil {
		return err
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "Ok: queued as " + id}
}

// accept stores a submission everywhere it goes.
func (p *Provider) accept(s *smtpSession, id string, content []byte) error {
	p.record.mu.Lock()
	p.record.submissions = append(p.record.submissions, Submission{
		Username: s.u.address, From: s.from, Recipients: slices.Clone(s.recipients), Content: content, UTF8: s.utf8,
	})
	p.record.mu.Unlock()
	trace := p.received("mail.client.invalid", p.domain, "ESMTPSA", id)
	for _, rcpt := range s.recipients {
		to, u, err := p.world.route(rcpt)
		if err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
		hops := trace
		if to != p {
			hops = to.received(p.domain, to.domain, "ESMTPS", id) + trace
		}
		head := "Return-Path: <" + s.from + ">\r\nDelivered-To: " + rcpt + "\r\n" + hops
		if _, err := to.append(u, "INBOX", append([]byte(head), content...), &imap.AppendOptions{Time: p.now()}); err != nil {
			return fmt.Errorf("deliver: %w", err)
		}
	}
	if !p.filesSent {
		return nil
	}
	o := &imap.AppendOptions{Time: p.now(), Flags: []imap.Flag{imap.FlagSeen}}
	if _, err := p.append(s.u, "Sent", content, o); err != nil {
		return fmt.Errorf("file in Sent: %w", err)
	}
	return nil
}

// received is the trace field of one hop (RFC 5321 section 4.4).
func (p *Provider) received(from, by, with, id string) string {
	return strings.Join([]string{
		"Received: from " + from, "\tby mx." + by + " with " + with + " id " + id + ";",
		"\t" + p.now().Format("Mon, 2 Jan 2006 15:04:05 -0700"), "",
	}, "\r\n")
}
