package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// Client is an Operator that asks a running server. It is safe for concurrent
// use.
type Client struct{ http *http.Client }

var _ Operator = (*Client)(nil)

// NewClient asks over connections that dial makes.
func NewClient(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true, MaxIdleConns: 1,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

func (c *Client) post(ctx context.Context, name string, in *request) (*http.Response, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	// The host is a name of no meaning: the connection is the socket's.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keyserver"+pathPrefix+name, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the running key server: %w", err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	var f failure
	if b, err = io.ReadAll(io.LimitReader(answer.Body, maxRequest)); err == nil {
		err = decode(b, &f)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the running key server: answer %d: %w", answer.StatusCode, err)
	}
	return nil, f.err()
}

func call[A any](ctx context.Context, c *Client, name string, in *request) (a A, err error) {
	answer, err := c.post(ctx, name, in)
	if err != nil {
		return a, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err == nil {
		err = decode(b, &a)
	}
	if err != nil {
		err = fmt.Errorf("ask the running key server: %w", err)
	}
	return a, err
}

func (c *Client) copy(ctx context.Context, name string, in *request, to io.Writer) error {
	answer, err := c.post(ctx, name, in)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return fmt.Errorf("ask the running key server: %w", err)
	}
	if answer.Trailer.Get(complete) != "yes" {
		return errors.New("the key server broke off: what was written is not whole")
	}
	return nil
}

// Users implements Operator.
func (c *Client) Users(ctx context.Context, after string, limit int) ([]keyserver.UserInfo, error) {
	return call[[]keyserver.UserInfo](ctx, c, "users", &request{After: after, Limit: limit})
}

// User implements Operator.
func (c *Client) User(ctx context.Context, name string) (*keyserver.UserInfo, error) {
	return call[*keyserver.UserInfo](ctx, c, "user", &request{Name: name})
}

// SetQuota implements Operator.
func (c *Client) SetQuota(ctx context.Context, name string, q keyserver.Quota) error {
	_, err := call[struct{}](ctx, c, "quota", &request{Name: name, Quota: &q})
	return err
}

// EndSessions implements Operator.
func (c *Client) EndSessions(ctx context.Context, name string, session *keyserver.SessionID) (int, error) {
	return call[int](ctx, c, "sessions-end", &request{Name: name, Session: session})
}

// RemoveUser implements Operator.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, "user-remove", &request{Name: name})
	return err
}

// Export implements Operator.
func (c *Client) Export(ctx context.Context, name string, to io.Writer) error {
	return c.copy(ctx, "export", &request{Name: name}, to)
}

// Invite implements Operator.
func (c *Client) Invite(ctx context.Context, lifetime time.Duration, comment string) (string, *keyserver.Invitation, error) {
	i, err := call[invited](ctx, c, "invite", &request{Lifetime: lifetime, Comment: comment})
	if err != nil {
		return "", nil, err
	}
	made := i.invitation()
	return i.Code, &made, nil
}

// Invitations implements Operator.
func (c *Client) Invitations(ctx context.Context) ([]keyserver.Invitation, error) {
	all, err := call[[]invited](ctx, c, "invitations", &request{})
	list := make([]keyserver.Invitation, len(all))
	for i := range all {
		list[i] = all[i].invitation()
	}
	return list, err
}

// RevokeInvitation implements Operator.
func (c *Client) RevokeInvitation(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, "invitation-revoke", &request{ID: id})
	return err
}

// Check implements Operator.
func (c *Client) Check(ctx context.Context) ([]string, error) {
	return call[[]string](ctx, c, "check", &request{})
}

// Backup implements Operator.
func (c *Client) Backup(ctx context.Context, to io.Writer) error {
	return c.copy(ctx, "backup", &request{}, to)
}
