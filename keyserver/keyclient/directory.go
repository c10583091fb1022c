package keyclient

import (
	"bytes"
	"context"
	"strconv"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Verify starts a proof of ownership: token1 goes out over the account's own
// platform, token2 comes back here.
func (c *Client) Verify(ctx context.Context, token string, r keyapi.VerifyRequest) (keyapi.VerifyChallenge, error) {
	return call(ctx, c, request{op: "POST /v1/accounts/verify", token: token, body: r}, func(a *keyapi.VerifyChallenge) string {
		return unless(len(a.ID) == 16 && len(a.Token2) == 16, "challenge is incomplete")
	})
}

// AddAccount claims an account for the signed-in user. Claiming the same
// account with the same identity key again changes nothing and succeeds.
func (c *Client) AddAccount(ctx context.Context, token string, r keyapi.AccountRequest) (keyapi.AccountInfo, error) {
	return call(ctx, c, request{op: "POST /v1/accounts", token: token, body: r}, func(a *keyapi.AccountInfo) string {
		return unless(a.Account == r.Account && bytes.Equal(a.IdentityKey, r.IdentityKey), "another account or key")
	})
}

// RotateIdentity replaces the identity key of an own account and removes its
// KeyPackages. Sending the same rotation again changes nothing and succeeds.
func (c *Client) RotateIdentity(ctx context.Context, token string, r keyapi.RotationRequest) (keyapi.AccountInfo, error) {
	return call(ctx, c, request{op: "POST /v1/accounts/rotate", token: token, body: r}, func(a *keyapi.AccountInfo) string {
		return unless(a.Account == r.Account && bytes.Equal(a.IdentityKey, r.Rotation.Next), "another account or key")
	})
}

// Accounts lists the signed-in user's accounts.
func (c *Client) Accounts(ctx context.Context, token string) (keyapi.AccountList, error) {
	return call(ctx, c, request{op: "GET /v1/accounts", token: token}, func(a *keyapi.AccountList) string {
		return unless(a.Accounts != nil, "no list")
	})
}

const (
	keyPackagesRoute = "/v1/keypackages"
	claimRoute       = "POST /v1/keypackages/{platform}/{id}/claim"
)

// UploadKeyPackages adds to the pool of an own account and may replace its
// last-resort KeyPackage. KeyPackages that the server had before are skipped,
// so the call may be repeated.
func (c *Client) UploadKeyPackages(ctx context.Context, token string, of keyapi.Account, r keyapi.KeyPackageUpload) (keyapi.KeyPackageCount, error) {
	return c.keyPackageCount(ctx, request{
		op: "POST /v1/keypackages/{platform}/{id}", path: accountPath(keyPackagesRoute, of, ""), token: token, body: r,
	})
}

// KeyPackageCount tells how many KeyPackages of an own account are left.
func (c *Client) KeyPackageCount(ctx context.Context, token string, of keyapi.Account) (keyapi.KeyPackageCount, error) {
	return c.keyPackageCount(ctx, request{
		op: "GET /v1/keypackages/{platform}/{id}", path: accountPath(keyPackagesRoute, of, ""), token: token,
	})
}

func (c *Client) keyPackageCount(ctx context.Context, r request) (keyapi.KeyPackageCount, error) {
	type count struct {
		Available  *int                `json:"available"`
		LastResort *bool               `json:"last_resort"`
		Suites     []keyapi.SuiteCount `json:"suites"`
	}
	a, err := call(ctx, c, r, func(a *count) string {
		return unless(a.Available != nil && *a.Available >= 0 && a.LastResort != nil, "no count")
	})
	if err != nil {
		return keyapi.KeyPackageCount{}, err
	}
	return keyapi.KeyPackageCount{Available: *a.Available, LastResort: *a.LastResort, Suites: a.Suites}, nil
}

// ClaimKeyPackage takes one KeyPackage of another account. Each call uses one
// up; only CodeNoAccount and CodeNoKeyPackage say that there is none.
func (c *Client) ClaimKeyPackage(ctx context.Context, token string, of keyapi.Account) (keyapi.ClaimedKeyPackage, error) {
	r := request{op: claimRoute, path: accountPath(keyPackagesRoute, of, "/claim"), token: token}
	return call(ctx, c, r, func(a *keyapi.ClaimedKeyPackage) string {
		return unless(len(a.KeyPackage) > 0, "no KeyPackage")
	})
}

// ClaimKeyPackageOf is ClaimKeyPackage for one cipher suite.
func (c *Client) ClaimKeyPackageOf(ctx context.Context, token string, of keyapi.Account, suite uint16) (keyapi.ClaimedKeyPackage, error) {
	path := accountPath(keyPackagesRoute, of, "/claim") + "?suite=" + strconv.Itoa(int(suite))
	return call(ctx, c, request{op: claimRoute, path: path, token: token}, func(a *keyapi.ClaimedKeyPackage) string {
		return unless(len(a.KeyPackage) > 0, "no KeyPackage")
	})
}

// Reachable asks whether an account exists. Only a nil error together with
// HasAccount false says that it does not.
func (c *Client) Reachable(ctx context.Context, token string, of keyapi.Account) (keyapi.Reachability, error) {
	type reachability struct {
		Account     keyapi.Account    `json:"account"`
		HasAccount  *bool             `json:"has_account"`
		IdentityKey []byte            `json:"identity_key"`
		Rotations   []keyapi.Rotation `json:"rotations"`
		Suites      []uint16          `json:"suites"`
	}
	r := request{op: "GET /v1/reachable/{platform}/{id}", path: accountPath("/v1/reachable", of, ""), token: token}
	a, err := call(ctx, c, r, func(a *reachability) string {
		switch {
		case a.Account != of || a.HasAccount == nil:
			return "not about this account"
		case *a.HasAccount && len(a.IdentityKey) != 32, !*a.HasAccount && len(a.IdentityKey) != 0:
			return "identity key does not fit the answer"
		case !*a.HasAccount && len(a.Rotations) != 0 || keyapi.VerifyRotations(of, a.Rotations, a.IdentityKey) != nil:
			return "rotations do not lead to the identity key"
		}
		return ""
	})
	if err != nil {
		return keyapi.Reachability{}, err
	}
	return keyapi.Reachability{Account: of, HasAccount: *a.HasAccount, IdentityKey: a.IdentityKey, Rotations: a.Rotations, Suites: a.Suites}, nil
}
