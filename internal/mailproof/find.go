package mailproof

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Mailbox is the user's own, at the provider.
type Mailbox struct {
	Addr               string // host:port
	TLS                string // implicit, starttls, or none for a loopback address
	Config             *tls.Config
	Username, Password string
}

const (
	findEvery   = 3 * time.Second
	maxMatches  = 8 // messages looked at in one mailbox at a time
	maxMailbox  = 4 // mailboxes looked into
	dialTimeout = 30 * time.Second
)

// ErrNotArrived tells that the challenge was not in the mailbox before the
// context ended.
var ErrNotArrived = errors.New("the key server's message has not arrived")

// Find waits until the expected challenge lies in the mailbox, in the inbox or
// where the provider keeps junk, and returns its token1. Nothing is changed
// there, not even what is seen. What looks like the challenge but is not genuine
// is passed over; if nothing else came, the error says why.
func Find(ctx context.Context, m *Mailbox, e *Expected) ([]byte, error) {
	c, err := m.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for the key server's message: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer func() {
		if stop() {
			_ = c.Logout().Wait() // what was looked for has been found, or not
		}
		_ = c.Close()
	}()
	places, err := mailboxes(c)
	if err != nil {
		return nil, fmt.Errorf("look for the key server's message: %w", err)
	}
	var refused error
	for {
		for _, name := range places {
			token, err := look(c, name, e, &refused)
			if ctx.Err() != nil {
				return nil, errors.Join(ErrNotArrived, refused)
			}
			if err != nil || token != nil {
				return token, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ErrNotArrived, refused)
		case <-time.After(findEvery):
		}
	}
}

func (m *Mailbox) open(ctx context.Context) (*imapclient.Client, error) {
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(m.Addr)
	if err != nil {
		return nil, err
	}
	conf := m.Config.Clone()
	if conf == nil {
		conf = &tls.Config{}
	}
	conf.ServerName, conf.MinVersion, conf.NextProtos = host, tls.VersionTLS12, []string{"imap"}
	conn, err := (&net.Dialer{}).DialContext(dial, "tcp", m.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(dial, func() { _ = conn.Close() })
	defer stop()
	var c *imapclient.Client
	switch m.TLS {
	case "starttls":
		c, err = imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: conf})
	case "none":
		if a, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
			err = errors.New("a login without TLS leaves this machine")
			break
		}
		c = imapclient.New(conn, nil)
	default:
		c = imapclient.New(tls.Client(conn, conf), nil)
	}
	if err == nil {
		err = c.Login(m.Username, m.Password).Wait()
	}
	if err != nil {
		if c != nil {
			_ = c.Close()
		}
		return nil, errors.Join(err, context.Cause(dial), ignoreClosed(conn.Close()))
	}
	return c, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// mailboxes are those where new mail lies: the inbox, and the ones for junk and
// for everything (RFC 6154).
func mailboxes(c *imapclient.Client) ([]string, error) {
	list, err := c.List("", "*", nil).Collect()
	if err != nil {
		return nil, err
	}
	names := []string{"INBOX"}
	for _, l := range list {
		if len(names) < maxMailbox && (slices.Contains(l.Attrs, imap.MailboxAttrJunk) || slices.Contains(l.Attrs, imap.MailboxAttrAll)) {
			names = append(names, l.Mailbox)
		}
	}
	return names, nil
}

// look searches one mailbox; refused gets what was wrong with a message.
func look(c *imapclient.Client, mailbox string, e *Expected, refused *error) ([]byte, error) {
	if _, err := c.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		return nil, err
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{
		Larger: 0, Smaller: maxMessage, Header: []imap.SearchCriteriaHeaderField{{Key: Field, Value: hex.EncodeToString(e.ID)}},
	}, nil).Wait()
	if err != nil {
		return nil, err
	}
	uids := found.AllUIDs()
	for _, uid := range uids[max(0, len(uids)-maxMatches):] {
		message, err := fetch(c, uid)
		if err != nil {
			return nil, err
		}
		token, err := e.Token(message)
		if err == nil {
			return token, nil
		}
		*refused = err
	}
	return nil, nil
}

func fetch(c *imapclient.Client, uid imap.UID) (message []byte, err error) {
	cmd := c.Fetch(imap.UIDSetNum(uid), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	defer func() { err = errors.Join(err, cmd.Close()) }()
	for m := cmd.Next(); m != nil; m = cmd.Next() {
		for item := m.Next(); item != nil; item = m.Next() {
			section, ok := item.(imapclient.FetchItemDataBodySection)
			if !ok || section.Literal == nil {
				continue
			}
			if message, err = io.ReadAll(io.LimitReader(section.Literal, maxMessage+1)); err != nil {
				return nil, err
			}
		}
	}
	return message, nil
}
