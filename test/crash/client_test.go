package crash

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/cloudmls/gateway/test/stack"
)

// patience bounds one exchange of a mail client; a gateway may wait for a
// provider or key server that is being restarted.
const patience = time.Minute

func trust(file string) (*tls.Config, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", file)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}, nil
}

func dial(g *stack.Gateway, addr string) (net.Conn, error) {
	config, err := trust(g.CA)
	if err != nil {
		return nil, err
	}
	conn, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// submit sends a message through a gateway, as a mail client would. Without an
// error the gateway answered 250.
func submit(g *stack.Gateway, from string, to []string, msg []byte) (err error) {
	conn, err := dial(g, g.SMTP)
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer func() { _ = c.Close() }() // the answer to the content is what counts
	if err := c.Auth(smtp.PlainAuth("", from, g.Password, "localhost")); err != nil {
		return err
	}
	if err := c.Mail(from); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	return w.Close()
}

// upload stores a message in a mailbox through a gateway. Without an error the
// gateway answered OK.
func upload(g *stack.Gateway, user, mailbox string, msg []byte) error {
	conn, err := dial(g, g.IMAP)
	if err != nil {
		return err
	}
	c := imapclient.New(conn, nil)
	defer func() { _ = c.Close() }() // the answer to APPEND is what counts
	if err := c.Login(user, g.Password).Wait(); err != nil {
		return err
	}
	a := c.Append(mailbox, int64(len(msg)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
	if _, err := a.Write(msg); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	_, err = a.Wait()
	return err
}
