package keyclient

import (
	"context"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Server asks what the key server says of itself.
func (c *Client) Server(ctx context.Context) (keyapi.ServerInfo, error) {
	return call(ctx, c, request{op: "GET /v1/server"}, func(a *keyapi.ServerInfo) string {
		return unless(a.Origin != "" && len(a.Versions) > 0, "no origin or no versions")
	})
}

// Params asks for the derivation parameters of a user name. Unknown names get
// an answer too.
func (c *Client) Params(ctx context.Context, r keyapi.ParamsRequest) (keyapi.AuthParams, error) {
	return call(ctx, c, request{op: "POST /v1/auth/params", body: r}, func(a *keyapi.AuthParams) string {
		return unless(len(a.UserID) == 16 && len(a.KDF.Salt) == 16 && a.KDF.Algorithm != "", "parameters are incomplete")
	})
}

// Register creates a user and a first session.
func (c *Client) Register(ctx context.Context, r keyapi.RegisterRequest) (keyapi.Session, error) {
	return call(ctx, c, request{op: "POST /v1/auth/register", body: r}, checkSession)
}

// Login opens a session for a device.
func (c *Client) Login(ctx context.Context, r keyapi.LoginRequest) (keyapi.Session, error) {
	return call(ctx, c, request{op: "POST /v1/auth/login", body: r}, checkSession)
}

// Refresh rotates the refresh token. Within 30 seconds the same token may be
// presented again and gives the same successor.
func (c *Client) Refresh(ctx context.Context, r keyapi.RefreshRequest) (keyapi.Session, error) {
	return call(ctx, c, request{op: "POST /v1/auth/refresh", body: r}, checkSession)
}

func checkSession(a *keyapi.Session) string {
	return unless(len(a.UserID) == 16 && len(a.SessionID) == 16 && a.AccessToken != "" && len(a.RefreshToken) > 0,
		"session is incomplete")
}

// Logout revokes the session of the token, at once and for good.
func (c *Client) Logout(ctx context.Context, token string) error {
	return c.do(ctx, request{op: "POST /v1/auth/logout", token: token})
}
