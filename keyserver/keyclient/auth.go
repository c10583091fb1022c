package keyclient

import (
	"context"
	"net/http"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Server asks what the key server says of itself.
func (c *Client) Server(ctx context.Context) (keyapi.ServerInfo, error) {
	var a keyapi.ServerInfo
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/server", answer: &a})
	if err == nil && (a.Origin == "" || len(a.Versions) == 0) {
		err = senseless("GET /v1/server", "no origin or no versions")
	}
	return a, err
}

// Params asks for the derivation parameters of a user name. Unknown names get
// an answer too.
func (c *Client) Params(ctx context.Context, r keyapi.ParamsRequest) (keyapi.AuthParams, error) {
	var a keyapi.AuthParams
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/auth/params", body: r, answer: &a})
	if err == nil && (len(a.UserID) != 16 || len(a.KDF.Salt) != 16 || a.KDF.Algorithm == "") {
		err = senseless("POST /v1/auth/params", "parameters are incomplete")
	}
	return a, err
}

// Register creates a user and a first session.
func (c *Client) Register(ctx context.Context, r keyapi.RegisterRequest) (keyapi.Session, error) {
	return c.session(ctx, "/v1/auth/register", r)
}

// Login opens a session for a device.
func (c *Client) Login(ctx context.Context, r keyapi.LoginRequest) (keyapi.Session, error) {
	return c.session(ctx, "/v1/auth/login", r)
}

// Refresh rotates the refresh token. Within 30 seconds the same request may be
// sent again and gives the same refresh token.
func (c *Client) Refresh(ctx context.Context, r keyapi.RefreshRequest) (keyapi.Session, error) {
	return c.session(ctx, "/v1/auth/refresh", r)
}

func (c *Client) session(ctx context.Context, path string, body any) (keyapi.Session, error) {
	var a keyapi.Session
	err := c.do(ctx, request{method: http.MethodPost, path: path, body: body, answer: &a})
	if err == nil && (len(a.UserID) != 16 || len(a.SessionID) != 16 || a.AccessToken == "" || len(a.RefreshToken) == 0) {
		return keyapi.Session{}, senseless("POST "+path, "session is incomplete")
	}
	return a, err
}

// Logout revokes the session of the token, at once and for good.
func (c *Client) Logout(ctx context.Context, token string) error {
	return c.do(ctx, request{method: http.MethodPost, path: "/v1/auth/logout", token: token})
}

// senseless is for an answer that is well-formed but not possible.
func senseless(op, reason string) error {
	return &ResponseError{Op: op, Status: http.StatusOK, Reason: reason}
}
