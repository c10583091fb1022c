package keyclient

import (
	"context"
	"net/http"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Verify starts a proof of ownership: token1 goes out over the account's own
// platform, token2 comes back here.
func (c *Client) Verify(ctx context.Context, token string, r keyapi.VerifyRequest) (keyapi.VerifyChallenge, error) {
	var a keyapi.VerifyChallenge
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/accounts/verify", token: token, body: r, answer: &a})
	if err == nil && (len(a.ID) == 0 || len(a.Token2) == 0) {
		err = senseless("POST /v1/accounts/verify", "challenge is incomplete")
	}
	return a, err
}

// AddAccount claims an account for the signed-in user. Claiming the same
// account with the same identity key again changes nothing and succeeds.
func (c *Client) AddAccount(ctx context.Context, token string, r keyapi.AccountRequest) (keyapi.AccountInfo, error) {
	var a keyapi.AccountInfo
	err := c.do(ctx, request{method: http.MethodPost, path: "/v1/accounts", token: token, body: r, answer: &a})
	if err == nil && a.Account != r.Account {
		err = senseless("POST /v1/accounts", "another account")
	}
	return a, err
}

// Accounts lists the signed-in user's accounts.
func (c *Client) Accounts(ctx context.Context, token string) (keyapi.AccountList, error) {
	var a keyapi.AccountList
	err := c.do(ctx, request{method: http.MethodGet, path: "/v1/accounts", token: token, answer: &a})
	if err == nil && a.Accounts == nil {
		err = senseless("GET /v1/accounts", "no list")
	}
	return a, err
}

// UploadKeyPackages adds to the pool of an own account and may replace its
// last-resort KeyPackage. KeyPackages that the server had before are skipped,
// so the call may be repeated.
func (c *Client) UploadKeyPackages(ctx context.Context, token string, of keyapi.Account, r keyapi.KeyPackageUpload) (keyapi.KeyPackageCount, error) {
	var a keyapi.KeyPackageCount
	err := c.do(ctx, request{method: http.MethodPost, path: accountPath("/v1/keypackages", of, ""), token: token, body: r, answer: &a})
	return a, err
}

// KeyPackageCount tells how many KeyPackages of an own account are left.
func (c *Client) KeyPackageCount(ctx context.Context, token string, of keyapi.Account) (keyapi.KeyPackageCount, error) {
	a := struct {
		Available  *int  `json:"available"`
		LastResort *bool `json:"last_resort"`
	}{}
	path := accountPath("/v1/keypackages", of, "")
	err := c.do(ctx, request{method: http.MethodGet, path: path, token: token, answer: &a})
	if err != nil {
		return keyapi.KeyPackageCount{}, err
	}
	if a.Available == nil || a.LastResort == nil {
		return keyapi.KeyPackageCount{}, senseless("GET "+path, "no count")
	}
	return keyapi.KeyPackageCount{Available: *a.Available, LastResort: *a.LastResort}, nil
}

// ClaimKeyPackage takes one KeyPackage of another account. Each call uses one
// up; only CodeNoAccount and CodeNoKeyPackage say that there is none.
func (c *Client) ClaimKeyPackage(ctx context.Context, token string, of keyapi.Account) (keyapi.ClaimedKeyPackage, error) {
	var a keyapi.ClaimedKeyPackage
	path := accountPath("/v1/keypackages", of, "/claim")
	err := c.do(ctx, request{method: http.MethodPost, path: path, token: token, answer: &a})
	if err == nil && len(a.KeyPackage) == 0 {
		err = senseless("POST "+path, "no KeyPackage")
	}
	return a, err
}

// Reachable asks whether an account exists. Only a nil error together with
// HasAccount false says that it does not.
func (c *Client) Reachable(ctx context.Context, token string, of keyapi.Account) (keyapi.Reachability, error) {
	a := struct {
		Account     keyapi.Account `json:"account"`
		HasAccount  *bool          `json:"has_account"`
		IdentityKey []byte         `json:"identity_key"`
	}{}
	path := accountPath("/v1/reachable", of, "")
	err := c.do(ctx, request{method: http.MethodGet, path: path, token: token, answer: &a})
	switch {
	case err != nil:
	case a.Account != of || a.HasAccount == nil:
		err = senseless("GET "+path, "not about this account")
	case *a.HasAccount != (len(a.IdentityKey) == 32):
		err = senseless("GET "+path, "identity key does not fit the answer")
	}
	if err != nil {
		return keyapi.Reachability{}, err
	}
	return keyapi.Reachability{Account: of, HasAccount: *a.HasAccount, IdentityKey: a.IdentityKey}, nil
}
