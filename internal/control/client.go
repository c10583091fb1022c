package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Client asks a running gateway. It is safe for concurrent use.
type Client struct {
	http *http.Client
}

var _ Service = (*Client)(nil)

// Dial connects to the gateway that listens on a socket. It is ErrNotRunning
// if there is none.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := dialSocket(ctx, socket)
	if err != nil {
		return nil, err
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	transport := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, socket) },
		MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, MaxIdleConns: 1,
	}
	return &Client{http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// call runs one operation. Its errors are *Error where the gateway answered.
func call[A any](ctx context.Context, c *Client, name string, request any) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// The host is a name of no meaning: the connection is the socket's.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cloudmls"+pathPrefix+name, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	r.Header.Set("Content-Type", contentType)
	response, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the running gateway: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("ask the running gateway: %w", err)
	}
	if len(b) > maxAnswer {
		return nil, &Error{Code: CodeVersion, Message: "the running gateway's answer is too long"}
	}
	return read[A](response.StatusCode, b)
}

func read[A any](status int, b []byte) (*A, error) {
	if status != http.StatusOK {
		e := &Error{}
		if err := decode(b, e); err != nil || e.Code == "" || e.Message == "" {
			return nil, &Error{Code: CodeVersion, Message: fmt.Sprintf("the running gateway answered %d without a reason", status), Hint: unknownOperationFix}
		}
		return nil, e
	}
	var a A
	if err := decode(b, &a); err != nil {
		return nil, &Error{Code: CodeVersion, Message: "the running gateway's answer is malformed: " + err.Error(), Hint: unknownOperationFix}
	}
	return &a, nil
}

func callList[T any](ctx context.Context, c *Client, name string, request any) ([]T, error) {
	l, err := call[list[T]](ctx, c, name, request)
	if err != nil {
		return nil, err
	}
	return l.Items, nil
}

// Status implements Service.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[Status](ctx, c, opStatus, nothing{})
}

// Reload implements Service.
func (c *Client) Reload(ctx context.Context) (*Reloaded, error) {
	return call[Reloaded](ctx, c, opReload, nothing{})
}

// Sync implements Service.
func (c *Client) Sync(ctx context.Context, account string) (*Synced, error) {
	return call[Synced](ctx, c, opSync, accountRequest{account})
}

// Conversations implements Service.
func (c *Client) Conversations(ctx context.Context, account string) ([]Conversation, error) {
	return callList[Conversation](ctx, c, opConversations, accountRequest{account})
}

// Conversation implements Service.
func (c *Client) Conversation(ctx context.Context, account, id string) (*Conversation, error) {
	return call[Conversation](ctx, c, opConversation, conversationRequest{account, id})
}

// RemoveMembers implements Service.
func (c *Client) RemoveMembers(ctx context.Context, account, id string, members []string) (*Conversation, error) {
	return call[Conversation](ctx, c, opRemoveMembers, membersRequest{account, id, members})
}

// LeaveConversation implements Service.
func (c *Client) LeaveConversation(ctx context.Context, account, id string) error {
	_, err := call[nothing](ctx, c, opLeave, conversationRequest{account, id})
	return err
}

// RenewConversation implements Service.
func (c *Client) RenewConversation(ctx context.Context, account, id string) (*Conversation, error) {
	return call[Conversation](ctx, c, opRenew, conversationRequest{account, id})
}

// Contacts implements Service.
func (c *Client) Contacts(ctx context.Context, account string) ([]Contact, error) {
	return callList[Contact](ctx, c, opContacts, accountRequest{account})
}

// Contact implements Service.
func (c *Client) Contact(ctx context.Context, account, address string) (*Contact, error) {
	return call[Contact](ctx, c, opContact, contactRequest{account, address})
}

// ContactCode implements Service.
func (c *Client) ContactCode(ctx context.Context, account, address string) (*ContactCode, error) {
	return call[ContactCode](ctx, c, opContactCode, contactRequest{account, address})
}

// VerifyContact implements Service.
func (c *Client) VerifyContact(ctx context.Context, account, address, code string, key []byte) (*Contact, error) {
	return call[Contact](ctx, c, opVerifyContact, verifyRequest{account, address, code, key})
}

// UnverifyContact implements Service.
func (c *Client) UnverifyContact(ctx context.Context, account, address string) (*Contact, error) {
	return call[Contact](ctx, c, opUnverifyContact, contactRequest{account, address})
}

// AcceptContact implements Service.
func (c *Client) AcceptContact(ctx context.Context, account, address string, key []byte) (*Contact, error) {
	return call[Contact](ctx, c, opAcceptContact, acceptRequest{account, address, key})
}

// Devices implements Service.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	return callList[Device](ctx, c, opDevices, nothing{})
}

// Store implements Service.
func (c *Client) Store(ctx context.Context) (*StoreStatus, error) {
	return call[StoreStatus](ctx, c, opStore, nothing{})
}

// RevokeDevice implements Service.
func (c *Client) RevokeDevice(ctx context.Context, id string) error {
	_, err := call[nothing](ctx, c, opRevokeDevice, deviceRequest{id})
	return err
}

// ChangePassword implements Service.
func (c *Client) ChangePassword(ctx context.Context, old, new Secret) error {
	_, err := call[nothing](ctx, c, opChangePassword, passwordRequest{string(old), string(new)})
	return err
}
