package keyclient

import (
	"context"
	"encoding/hex"

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

// Recover opens a session with the recovery code, which serves to read objects
// and for ChangePassword, and for nothing else until then.
func (c *Client) Recover(ctx context.Context, r keyapi.RecoverRequest) (keyapi.Session, error) {
	return call(ctx, c, request{op: "POST /v1/auth/recover", body: r}, checkSession)
}

// ChangePassword replaces what the user signs in with and the objects that are
// sealed to it, and ends all other sessions.
func (c *Client) ChangePassword(ctx context.Context, token string, r keyapi.PasswordRequest) (keyapi.TxResult, error) {
	if (c.store != c.base || c.storeToken != nil) && len(r.Tx.Expect)+len(r.Tx.Put)+len(r.Tx.Delete) > 0 {
		return keyapi.TxResult{}, ErrSplit
	}
	return call(ctx, c, request{op: "POST /v1/auth/password", token: token, body: r}, func(a *keyapi.TxResult) string {
		return unless(a.Applied, "it does not say that the change was made")
	})
}

// Sessions lists the devices that are signed in.
func (c *Client) Sessions(ctx context.Context, token string) (keyapi.SessionList, error) {
	return call(ctx, c, request{op: "GET /v1/sessions", token: token}, func(a *keyapi.SessionList) string {
		for _, s := range a.Sessions {
			if len(s.SessionID) != 16 || len(s.Device.Key) != 32 {
				return "a session is incomplete"
			}
		}
		return unless(a.Sessions != nil, "no list")
	})
}

// EndSession ends one of the user's sessions, at once and for good. That there
// is no such session is no error.
func (c *Client) EndSession(ctx context.Context, token string, id []byte) error {
	const op = "DELETE /v1/sessions/{session}"
	return c.do(ctx, request{op: op, path: "/v1/sessions/" + hex.EncodeToString(id), token: token})
}
