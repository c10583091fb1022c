package provider

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/secret"
)

// maxSMTPTalk bounds what a server may say in a check, in octets.
const maxSMTPTalk = 64 << 10

// smtpExtensions are the keywords that are reported.
var smtpExtensions = []string{"8BITMIME", "BINARYMIME", "CHUNKING", "DSN", "PIPELINING", "REQUIRETLS", "SIZE", "SMTPUTF8"}

// CheckSMTP signs in at a submission server and leaves again; no message is
// sent.
func CheckSMTP(ctx context.Context, s Server, password secret.Secret, o CheckOptions) (*SMTPFacts, error) {
	fail := failure{protocol: "SMTP", addr: s.Addr()}
	conn, cancel, err := o.connect(&ctx, s, password, fail)
	defer cancel()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The library has no contexts: a deadline in the past ends what it waits
	// for. It sets deadlines of its own, so the connection is closed as well.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	facts, err := submit(ctx, conn, s, password, o.tls(s), fail)
	if err != nil && ctx.Err() != nil {
		return nil, fail.link(ctx.Err())
	}
	return facts, err
}

func submit(ctx context.Context, conn net.Conn, s Server, password secret.Secret, config *tls.Config, fail failure) (*SMTPFacts, error) {
	var rw net.Conn = &quietConn{Conn: conn, left: maxSMTPTalk}
	if s.TLS == TLSStartTLS {
		if err := startTLS(rw, fail); err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fail.link(err)
		}
		// There is no second greeting after STARTTLS; the library wants one.
		rw = &quietConn{Conn: secure, left: maxSMTPTalk, first: strings.NewReader("220 ready\r\n")}
	}
	c := smtp.NewClient(rw)
	c.CommandTimeout = 30 * time.Second
	if err := c.Hello("localhost"); err != nil {
		return nil, smtpFailure(fail, ProblemProtocol, err)
	}
	facts := &SMTPFacts{}
	if size, ok := c.MaxMessageSize(); ok {
		facts.Size = int64(size)
	}
	for _, name := range smtpExtensions {
		if ok, _ := c.Extension(name); ok {
			facts.Extensions = append(facts.Extensions, name)
		}
	}
	_, mechanisms := c.Extension("AUTH")
	facts.Auth = strings.Fields(strings.ToUpper(mechanisms))
	var mechanism sasl.Client
	switch {
	case hasFold(facts.Auth, sasl.Plain):
		mechanism = sasl.NewPlainClient("", s.Username, password.RevealString())
	case hasFold(facts.Auth, sasl.Login):
		mechanism = &loginClient{username: s.Username, password: password.RevealString()}
	case hasFold(facts.Auth, "XOAUTH2"), hasFold(facts.Auth, sasl.OAuthBearer):
		return nil, fail.with(ProblemOAuth2, "", errors.New("only "+strings.Join(facts.Auth, " ")))
	default:
		return nil, fail.with(ProblemNoAuth, "", errors.New("AUTH is not offered"))
	}
	if err := c.Auth(mechanism); err != nil {
		return nil, smtpFailure(fail, ProblemPassword, err)
	}
	_ = c.Quit() // whether the goodbye arrives changes nothing
	return facts, nil
}

// smtpFailure tells the kind of a refusal by its code (RFC 4954).
func smtpFailure(fail failure, otherwise Problem, err error) *CheckError {
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		if otherwise == ProblemProtocol && !isLink(err) && !errors.Is(err, io.EOF) {
			return fail.with(ProblemProtocol, "", err)
		}
		return fail.link(err)
	}
	said := fmt.Sprintf("%d ", e.Code)
	if e.EnhancedCode != smtp.EnhancedCodeNotSet && e.EnhancedCode != smtp.NoEnhancedCode {
		said += fmt.Sprintf("%d.%d.%d ", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
	}
	said = printable(said + e.Message)
	switch {
	case e.Code/100 == 4:
		return fail.with(ProblemTemporary, said, err)
	case otherwise != ProblemPassword:
		return fail.with(otherwise, said, err)
	case e.Code == 535 || e.Code == 534:
		return fail.with(refusal(said), said, err)
	case e.Code == 502 || e.Code == 503 || e.Code == 504 || e.Code == 530 || e.Code == 538:
		return fail.with(ProblemNoAuth, said, err)
	}
	return fail.with(refusal(said), said, err)
}

// startTLS speaks SMTP up to the 220 of STARTTLS. What was learnt before is
// dropped, and anything behind it ends the check: it could come from somebody
// in between (RFC 3207).
func startTLS(conn net.Conn, fail failure) error {
	buf := bufio.NewReader(conn)
	r := textproto.NewReader(buf)
	say := func(command string, want int) (string, error) {
		if command != "" {
			if _, err := io.WriteString(conn, command+"\r\n"); err != nil {
				return "", fail.link(err)
			}
		}
		code, text, err := r.ReadResponse(want)
		var refused *textproto.Error
		switch {
		case errors.As(err, &refused):
			said := printable(fmt.Sprintf("%d %s", code, refused.Msg))
			if code/100 == 4 {
				return "", fail.with(ProblemTemporary, said, err)
			}
			if command == "STARTTLS" {
				return "", fail.with(ProblemNoStartTLS, said, err)
			}
			return "", fail.with(ProblemProtocol, said, err)
		case err != nil:
			var wrong textproto.ProtocolError
			if errors.As(err, &wrong) {
				return "", fail.with(ProblemProtocol, "", err)
			}
			return "", fail.link(err)
		}
		return text, nil
	}
	if _, err := say("", 220); err != nil {
		return err
	}
	text, err := say("EHLO localhost", 250)
	if err != nil {
		return err
	}
	_, extensions, _ := strings.Cut(text, "\n")
	if !hasFold(strings.Split(extensions, "\n"), "STARTTLS") {
		return fail.with(ProblemNoStartTLS, "", errors.New("the server does not offer it"))
	}
	if _, err := say("STARTTLS", 220); err != nil {
		return err
	}
	if buf.Buffered() > 0 {
		return fail.with(ProblemNoStartTLS, "", errors.New("data was sent ahead of TLS"))
	}
	return nil
}

// quietConn bounds what a server may say.
type quietConn struct {
	net.Conn
	left  int
	first io.Reader // comes before what the connection brings
}

// Read implements net.Conn.
func (c *quietConn) Read(p []byte) (int, error) {
	if c.first != nil {
		if n, err := c.first.Read(p); err == nil {
			return n, nil
		}
		c.first = nil
	}
	if c.left <= 0 {
		return 0, errors.New("the server says too much")
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// loginClient is the client side of AUTH LOGIN: nothing unasked, and the
// challenges in any wording.
type loginClient struct {
	username, password string
	sent               int
}

// Start implements sasl.Client.
func (l *loginClient) Start() (string, []byte, error) { return sasl.Login, nil, nil }

// Next implements sasl.Client.
func (l *loginClient) Next([]byte) ([]byte, error) {
	l.sent++
	switch l.sent {
	case 1:
		return []byte(l.username), nil
	case 2:
		return []byte(l.password), nil
	}
	return nil, sasl.ErrUnexpectedServerChallenge
}
