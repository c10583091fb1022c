package cloudmls

import (
	"context"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// query is any type with the fields of DeliveryQuery. Thereby this package
// need not import the HTTP client that it usually talks through.
type query interface {
	~struct {
		Account keyapi.Account
		After   uint64
		Limit   int
		Wait    time.Duration
	}
}

// client is what *keyclient.Client offers of a Server.
type client[Q query] interface {
	Params(ctx context.Context, r keyapi.ParamsRequest) (*keyapi.AuthParams, error)
	Register(ctx context.Context, r keyapi.RegisterRequest) (*keyapi.Session, error)
	Login(ctx context.Context, r keyapi.LoginRequest) (*keyapi.Session, error)
	Refresh(ctx context.Context, r keyapi.RefreshRequest) (*keyapi.Session, error)
	Logout(ctx context.Context, token string) error
	ObjectIndex(ctx context.Context, token string) (*keyapi.ObjectIndex, error)
	Objects(ctx context.Context, token string, r keyapi.ObjectsRequest) (*keyapi.ObjectList, error)
	Tx(ctx context.Context, token string, tx keyapi.Tx) (*keyapi.TxResult, error)
	AddAccount(ctx context.Context, token string, r keyapi.AccountRequest) (*keyapi.AccountInfo, error)
	UploadKeyPackages(ctx context.Context, token string, of keyapi.Account, r keyapi.KeyPackageUpload) (*keyapi.KeyPackageCount, error)
	KeyPackageCount(ctx context.Context, token string, of keyapi.Account) (*keyapi.KeyPackageCount, error)
	ClaimKeyPackage(ctx context.Context, token string, of keyapi.Account) (*keyapi.ClaimedKeyPackage, error)
	Reachable(ctx context.Context, token string, of keyapi.Account) (*keyapi.Reachability, error)
	Deliveries(ctx context.Context, token string, q Q) (*keyapi.Deliveries, error)
}

// Remote makes a Server of a *keyclient.Client:
//
//	kc, err := keyclient.New(keyclient.Options{URL: "https://keys.example.org"})
//	...
//	o := cloudmls.Options{Server: cloudmls.Remote(kc), ...}
func Remote[Q query](c client[Q]) Server { return remote[Q]{c} }

// remote gives the answers of a client by value.
type remote[Q query] struct{ c client[Q] }

func value[T any](p *T, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return *p, nil
}

// Params implements Server, as do the methods below.
func (r remote[Q]) Params(ctx context.Context, q keyapi.ParamsRequest) (keyapi.AuthParams, error) {
	return value(r.c.Params(ctx, q))
}

func (r remote[Q]) Register(ctx context.Context, q keyapi.RegisterRequest) (keyapi.Session, error) {
	return value(r.c.Register(ctx, q))
}

func (r remote[Q]) Login(ctx context.Context, q keyapi.LoginRequest) (keyapi.Session, error) {
	return value(r.c.Login(ctx, q))
}

func (r remote[Q]) Refresh(ctx context.Context, q keyapi.RefreshRequest) (keyapi.Session, error) {
	return value(r.c.Refresh(ctx, q))
}

func (r remote[Q]) Logout(ctx context.Context, token string) error { return r.c.Logout(ctx, token) }

func (r remote[Q]) ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error) {
	return value(r.c.ObjectIndex(ctx, token))
}

func (r remote[Q]) Objects(ctx context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error) {
	return value(r.c.Objects(ctx, token, keyapi.ObjectsRequest{IDs: ids}))
}

func (r remote[Q]) Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	return value(r.c.Tx(ctx, token, tx))
}

func (r remote[Q]) AddAccount(ctx context.Context, token string, q keyapi.AccountRequest) (keyapi.AccountInfo, error) {
	return value(r.c.AddAccount(ctx, token, q))
}

func (r remote[Q]) UploadKeyPackages(ctx context.Context, token string, of keyapi.Account, q keyapi.KeyPackageUpload) (keyapi.KeyPackageCount, error) {
	return value(r.c.UploadKeyPackages(ctx, token, of, q))
}

func (r remote[Q]) KeyPackageCount(ctx context.Context, token string, of keyapi.Account) (keyapi.KeyPackageCount, error) {
	return value(r.c.KeyPackageCount(ctx, token, of))
}

func (r remote[Q]) ClaimKeyPackage(ctx context.Context, token string, of keyapi.Account) (keyapi.ClaimedKeyPackage, error) {
	return value(r.c.ClaimKeyPackage(ctx, token, of))
}

func (r remote[Q]) Reachable(ctx context.Context, token string, of keyapi.Account) (keyapi.Reachability, error) {
	return value(r.c.Reachable(ctx, token, of))
}

func (r remote[Q]) Deliveries(ctx context.Context, token string, q DeliveryQuery) (keyapi.Deliveries, error) {
	return value(r.c.Deliveries(ctx, token, Q(q)))
}
