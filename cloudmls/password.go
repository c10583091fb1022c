package cloudmls

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

var (
	// ErrRecoveryCode: the recovery code is mistyped, as its check characters
	// tell. Nothing was sent.
	ErrRecoveryCode = keys.ErrRecoveryCode
	// ErrRecovery: wrong user name or recovery code, or a code used before.
	ErrRecovery = state.ErrRecovery
	// ErrPassword is matched by complaints about a password's form, such as an
	// empty one.
	ErrPassword = keys.ErrPassword
)

// ChangePassword replaces the user's password and ends all sessions but this
// device's: the others sign in again with the new one. Nothing else is sealed
// anew. At whatever point it is cut off, either the old password works or the
// new one. ErrCredentials: old is not the password.
//
// Whoever knows the old password, and has what the key server kept under it
// until now, can still read that.
func (c *Client) ChangePassword(ctx context.Context, old, password string) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.store.ChangePassword(ctx, old, password)
}

// ReplaceRecoveryCode makes another recovery code; the one before is void. Like
// ChangePassword it ends the sessions of all other devices.
func (c *Client) ReplaceRecoveryCode(ctx context.Context, password string) (*Recovery, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	code, err := c.store.ReplaceRecoveryCode(ctx, password)
	if err != nil {
		return nil, err
	}
	return &Recovery{Code: code}, nil
}

// Recover signs this device in with the recovery code in place of a forgotten
// password, and sets a new password. The code serves once; Recovery holds the
// one that replaces it. All other sessions end. ErrRecoveryCode and ErrPassword
// are found before anything is sent.
//
// Where it is cut off, try Open with the new password: if that is refused,
// nothing has changed and the code serves still; if it works, the new code was
// lost, and ReplaceRecoveryCode makes another.
func Recover(ctx context.Context, username, code, password string, o Options) (*Client, *Recovery, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	s, fresh, err := state.Recover(ctx, username, code, password, o.config())
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	c, err := openClient(s, o)
	if err != nil {
		return nil, nil, err
	}
	return c, &Recovery{Code: fresh}, nil
}
