package keyclient

import (
	"context"
	"net/http"
	"strings"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrSplit is keyapi.ErrSplit.
var ErrSplit = keyapi.ErrSplit

// baseOf gives the server that a route is asked at, and the token for it.
func (c *Client) baseOf(ctx context.Context, route, token string) (base, tokenThere string, err error) {
	switch {
	case route == "/v1/server", route == "/v1/keys", strings.HasPrefix(route, "/v1/auth/"), strings.HasPrefix(route, "/v1/sessions"):
		return c.base, token, nil
	case strings.HasPrefix(route, "/v1/objects"), strings.HasPrefix(route, "/v1/store"):
		return c.atStore(ctx, token)
	}
	return c.delivery, token, nil
}

func (c *Client) atStore(ctx context.Context, token string) (string, string, error) {
	if c.storeToken == nil {
		return c.store, token, nil
	}
	token, err := c.storeToken(ctx)
	return c.store, token, err
}

// together tells whether objects and deliveries are one server's.
func (c *Client) together() bool { return c.store == c.delivery && c.storeToken == nil }

// splitTx carries out a transaction at two servers: objects at the store, then
// acknowledgements where the inboxes are. Both may be repeated, and what is
// acknowledged too late is read again. A Commit goes alone.
func (c *Client) splitTx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	objects := keyapi.Tx{Expect: tx.Expect, Put: tx.Put, Delete: tx.Delete, Nonce: tx.Nonce}
	rest := keyapi.Tx{Commit: tx.Commit, Ack: tx.Ack, Nonce: tx.Nonce}
	hasObjects := len(tx.Expect)+len(tx.Put)+len(tx.Delete) > 0
	if hasObjects && tx.Commit != nil {
		return keyapi.TxResult{}, ErrSplit
	}
	if hasObjects {
		base, there, err := c.atStore(ctx, token)
		if err != nil {
			return keyapi.TxResult{}, err
		}
		r, err := c.txAt(ctx, base, there, objects)
		if err != nil || len(tx.Ack) == 0 {
			return r, err
		}
	}
	return c.txAt(ctx, c.delivery, token, rest)
}

func (c *Client) txAt(ctx context.Context, base, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	return call(ctx, c, request{op: "POST /v1/tx", base: base, token: token, body: tx}, func(a *keyapi.TxResult) string {
		return unless(a.Applied, "does not say that it was applied")
	})
}

// TokenKeys asks for the keys that access tokens are signed with.
func (c *Client) TokenKeys(ctx context.Context) (keyapi.TokenKeys, error) {
	return call(ctx, c, request{op: "GET /v1/keys"}, func(a *keyapi.TokenKeys) string {
		return unless(a.Issuer != "" && len(a.Keys) > 0, "no issuer or no keys")
	})
}

// StorePlace asks where the user's objects are.
func (c *Client) StorePlace(ctx context.Context, token string) (keyapi.StorePlace, error) {
	return call(ctx, c, request{op: "GET /v1/store", token: token}, checkPlace)
}

// MoveStore takes one step of a move; package keyapi says which there are.
func (c *Client) MoveStore(ctx context.Context, token string, m keyapi.StoreMove) (keyapi.StorePlace, error) {
	return call(ctx, c, request{op: "POST /v1/store", token: token, body: m}, checkPlace)
}

// ImportObjects brings objects to a store where they are arriving. It may be
// repeated.
func (c *Client) ImportObjects(ctx context.Context, token string, o keyapi.StoreImport) (keyapi.StorePlace, error) {
	return call(ctx, c, request{op: "POST /v1/store/import", token: token, body: o}, checkPlace)
}

// SetDirections replaces what the user's devices left for each other. Conflict:
// another device was faster.
func (c *Client) SetDirections(ctx context.Context, token string, d keyapi.Directions) (keyapi.StorePlace, error) {
	return call(ctx, c, request{op: "POST /v1/store/directions", token: token, body: d}, checkPlace)
}

func checkPlace(a *keyapi.StorePlace) string {
	return unless(a.Place != "" && len(a.IndexHash) == 32, "no place or no hash")
}

type idempotencyKey struct{}

// WithIdempotencyKey makes calls under ctx carry a key: 16 to 128 printable
// ASCII characters, random, for one request. Where a call of that context was
// carried out, the same call again, with the same key within 24 hours, gives
// the same answer instead of being carried out twice: Register, Login, Recover,
// ChangePassword, Verify and ClaimKeyPackage heed it.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

func setIdempotencyKey(ctx context.Context, h http.Header) {
	if key, ok := ctx.Value(idempotencyKey{}).(string); ok {
		h.Set("Idempotency-Key", key)
	}
}
