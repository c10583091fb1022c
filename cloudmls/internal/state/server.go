package state

import (
	"context"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Server is the part of the key server's API that this package uses. A failed
// call returns *keyapi.Problem where, and only where, the key server itself
// answered with one. Implementations are safe for concurrent use, keep no
// tokens, repeat nothing by themselves and bound the size of answers.
type Server interface {
	Params(ctx context.Context, r keyapi.ParamsRequest) (keyapi.AuthParams, error)
	Register(ctx context.Context, r keyapi.RegisterRequest) (keyapi.Session, error)
	Login(ctx context.Context, r keyapi.LoginRequest) (keyapi.Session, error)
	Refresh(ctx context.Context, r keyapi.RefreshRequest) (keyapi.Session, error)
	Logout(ctx context.Context, token string) error
	ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error)
	Objects(ctx context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error)
	Recover(ctx context.Context, r keyapi.RecoverRequest) (keyapi.Session, error)
	ChangePassword(ctx context.Context, token string, r keyapi.PasswordRequest) (keyapi.TxResult, error)
	Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error)
}
