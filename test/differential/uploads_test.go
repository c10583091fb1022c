package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"crypto/tls"
	"crypto/x509"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/test/stack"
)

// TestUploads runs random sequences in which APPEND stores mail. The program
// seals whatever is uploaded, so here the relay stands before the provider with a
// backend that seals nothing; and since it knows the mailboxes as little as at
// first sight, all of it is classified in every sequence.
func TestUploads(t *testing.T) {
	u := newUsers(t, "u", 4)
	trash := trashFolder(t)
	u.run(t, *sequences/5, func(seed uint64, p pair) error {
		return compare(u, p, seed, true, trash, func() (*conn, error) {
			if *control {
				return u.signIn(p.relayed)
			}
			return u.inProcess(p.relayed)
		})
	})
}

// inProcess connects to a relay that serves this one connection.
func (u *users) inProcess(address string) (*conn, error) {
	srv, err := imapd.New(imapd.Options{Backend: &plainBackend{u: u, address: address}})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, errors.Join(err, srv.Shutdown(context.Background()))
	}
	x, err := newConn(&stopping{Conn: c, stop: func() error {
		err := srv.Shutdown(context.Background())
		if serr := <-served; !errors.Is(serr, imapd.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}})
	if err != nil {
		return nil, err
	}
	return x.signIn(address, stack.Password(address), u.validity)
}

// stopping ends the server with the connection.
type stopping struct {
	net.Conn
	stop func() error
}

func (s *stopping) Close() error {
	err := s.Conn.Close()
	if s.stop != nil {
		err = errors.Join(err, s.stop())
		s.stop = nil
	}
	return err
}

// plainBackend is a Backend and an Account whose mail is all plain.
type plainBackend struct {
	u       *users
	address string
	index   imapd.MemoryIndex
}

func (b *plainBackend) Login(_ context.Context, user, password string) (imapd.Account, error) {
	if user != b.address || password != stack.Password(b.address) {
		return nil, imapd.ErrCredentials
	}
	return b, nil
}

func (b *plainBackend) Dial(ctx context.Context) (net.Conn, error) {
	p := b.u.provider
	pem, err := os.ReadFile(lab.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: p.IMAP.TLSName}}
	return d.DialContext(ctx, "tcp", net.JoinHostPort(p.Host, fmt.Sprint(p.IMAP.TLSPort)))
}

func (b *plainBackend) Upstream() imapd.Upstream {
	return imapd.Upstream{Username: b.address, Password: func(context.Context) (string, error) { return stack.Password(b.address), nil }}
}

func (b *plainBackend) Index() imapd.Index { return &b.index }

func (b *plainBackend) OpenMessage(context.Context, imapd.SealedMessage) (*imapd.View, error) {
	return nil, errors.New("there is nothing sealed here")
}

func (b *plainBackend) SealUpload(_ context.Context, u imapd.Upload) (*imapd.SealedUpload, error) {
	return &imapd.SealedUpload{Content: io.NewSectionReader(u.Content, 0, u.Size), Size: u.Size}, nil
}
