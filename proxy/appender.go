package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// maxProviderLine and maxProviderLines bound what a provider may say.
const (
	maxProviderLine  = 8 << 10
	maxProviderLines = 1000
)

// appender is the little IMAP (RFC 9051) that storing one message needs.
type appender struct {
	conn net.Conn
	r    *bufio.Reader
	tags int
	stop func() bool // ends the watch over the context
}

// signIn connects to the provider and signs in. The connection ends with ctx.
func (a *account) signIn(ctx context.Context) (*appender, error) {
	conn, err := a.dialIMAP(ctx)
	if err != nil {
		a.noteSignIn(ctx, err)
		return nil, err
	}
	c := &appender{conn: conn, r: bufio.NewReaderSize(conn, maxProviderLine)}
	c.stop = context.AfterFunc(ctx, func() {
		if err := conn.Close(); err != nil {
			a.log.Debug("close the connection to the provider", "err", err)
		}
	})
	err = c.begin(ctx, a.cfg.IMAP)
	a.noteSignIn(ctx, err)
	if err != nil {
		c.stop()
		return nil, errors.Join(fmt.Errorf("sign in at the provider: %w", err), conn.Close())
	}
	return c, nil
}

// noteSignIn tells how an attempt ended, unless it was given up.
func (a *account) noteSignIn(ctx context.Context, err error) {
	if ctx.Err() == nil {
		a.health.imapResult(err)
	}
}

// refusedLogin marks the provider's no to a user name and password.
func refusedLogin(err error) error {
	if errors.Is(err, errRefused) && !errors.Is(err, imapd.ErrNotNow) {
		return fmt.Errorf("%w: %w", imapd.ErrLogin, err)
	}
	return err
}

func (c *appender) begin(ctx context.Context, up IMAPUpstream) error {
	greeting, err := c.line()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(strings.ToUpper(greeting), "* OK") {
		return errors.New("the provider's greeting is not OK")
	}
	if up.Mode == smtpd.TLSStartTLS {
		if err := c.startTLS(ctx, up); err != nil {
			return err
		}
	}
	password := ""
	if up.Password != nil {
		if password, err = up.Password(ctx); err != nil {
			return fmt.Errorf("provider password: %w: %w", imapd.ErrNoPassword, err)
		}
	}
	tag, err := c.send("AUTHENTICATE PLAIN")
	if err != nil {
		return err
	}
	switch err := c.continuation(tag); {
	case errors.Is(err, errRefused):
		return c.login(up.Username, password) // the mechanism, not the password
	case err != nil:
		return err
	}
	response := base64.StdEncoding.EncodeToString([]byte("\x00" + up.Username + "\x00" + password))
	if _, err := io.WriteString(c.conn, response+"\r\n"); err != nil {
		return err
	}
	return refusedLogin(c.finish(tag))
}

// login signs in at providers without AUTHENTICATE PLAIN (RFC 9051 section
// 6.2.3), with synchronising literals: nothing needs quoting in them.
func (c *appender) login(username, password string) error {
	tag, err := c.send("LOGIN {" + strconv.Itoa(len(username)) + "}")
	if err != nil {
		return err
	}
	if err := c.continuation(tag); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, username+" {"+strconv.Itoa(len(password))+"}\r\n"); err != nil {
		return err
	}
	if err := c.continuation(tag); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, password+"\r\n"); err != nil {
		return err
	}
	return refusedLogin(c.finish(tag))
}

func (c *appender) startTLS(ctx context.Context, up IMAPUpstream) error {
	tag, err := c.send("STARTTLS")
	if err != nil {
		return err
	}
	if err := c.finish(tag); err != nil {
		return err
	}
	if c.r.Buffered() > 0 {
		return errors.New("the provider sent octets before TLS began")
	}
	t := tls.Client(c.conn, imapTLS(up))
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.conn, c.r = t, bufio.NewReaderSize(t, maxProviderLine)
	return nil
}

// append stores the message (RFC 9051 section 6.3.12) with a synchronising
// literal, which every server takes.
func (c *appender) append(mailbox string, u *imapd.SealedUpload) error {
	tag, err := c.send("APPEND " + mailbox + " {" + strconv.FormatInt(u.Size, 10) + "}")
	if err != nil {
		return err
	}
	if err := c.continuation(tag); err != nil {
		return err
	}
	if n, err := io.Copy(c.conn, u.Content); err != nil {
		return fmt.Errorf("store at the provider: %w", err)
	} else if n != u.Size {
		return errors.New("store at the provider: ciphertext has the wrong size")
	}
	if _, err := io.WriteString(c.conn, "\r\n"); err != nil {
		return err
	}
	return c.finish(tag)
}

func (c *appender) close() error {
	defer c.stop()
	tag, err := c.send("LOGOUT")
	if err == nil {
		err = c.finish(tag)
	}
	return errors.Join(err, c.conn.Close())
}

func (c *appender) send(command string) (tag string, err error) {
	c.tags++
	tag = "g" + strconv.Itoa(c.tags)
	_, err = io.WriteString(c.conn, tag+" "+command+"\r\n")
	return tag, err
}

func (c *appender) line() (string, error) {
	b, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// errRefused: the provider answered a command with NO or BAD.
var errRefused = errors.New("the provider refused the command")

// refusedFor is errRefused, with the reason if it is a full mailbox (RFC 9208
// section 4.3). The provider's words stay out: they would get into the log.
func refusedFor(answer string) error {
	if strings.HasPrefix(strings.ToUpper(answer), "NO [OVERQUOTA]") {
		return fmt.Errorf("%w: %w", errRefused, imapd.ErrQuota)
	}
	if words, ok := strings.CutPrefix(answer, "NO "); ok && errors.Is(imapd.SignInError(words), imapd.ErrNotNow) {
		return fmt.Errorf("%w: %w", errRefused, imapd.ErrNotNow)
	}
	return errRefused
}

// continuation waits for "+".
func (c *appender) continuation(tag string) error {
	for range maxProviderLines {
		l, err := c.line()
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(l, "+"):
			return nil
		case strings.HasPrefix(l, tag+" "):
			return refusedFor(strings.TrimPrefix(l, tag+" "))
		}
	}
	return errors.New("the provider says too much")
}

// finish waits for the tagged response.
func (c *appender) finish(tag string) error {
	for range maxProviderLines {
		l, err := c.line()
		if err != nil {
			return err
		}
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			if strings.HasPrefix(strings.ToUpper(rest), "OK") {
				return nil
			}
			return refusedFor(rest)
		}
	}
	return errors.New("the provider says too much")
}
