package device

import (
	"context"
	"errors"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

// codeUnseen is the name in the vault of the note that a recovery code was made,
// or may have been, and nobody has seen it. The note comes before the code: a
// process that dies in between leaves the note, never a code that is lost
// without a word.
const codeUnseen = "recovery-code/unseen"

// CodeUnseen reports whether a recovery code was made that nobody has seen.
func CodeUnseen(v *vault.Vault) (bool, error) {
	_, unseen, err := v.Get(codeUnseen)
	return unseen, err
}

// CodeSeen notes that the person has the recovery code.
func (d *Device) CodeSeen() error {
	_, err := d.Vault.Delete(codeUnseen)
	return err
}

// MissedCode makes another recovery code where nobody has seen the one that was
// made; the empty string says that there is nothing to make up for. It takes
// the user's password. The caller shows the code and calls CodeSeen.
func (d *Device) MissedCode(ctx context.Context, client *cloudmls.Client, password secret.Secret) (string, error) {
	unseen, err := CodeUnseen(d.Vault)
	if err != nil || !unseen {
		return "", err
	}
	return d.NewCode(ctx, client, password)
}

// NewCode makes another recovery code; the one before is void. The caller shows
// it and calls CodeSeen.
func (d *Device) NewCode(ctx context.Context, client *cloudmls.Client, password secret.Secret) (string, error) {
	var code string
	err := d.expectCode(func() error {
		recovery, err := client.ReplaceRecoveryCode(ctx, password.RevealString())
		if err == nil {
			code = recovery.Code
		}
		return err
	}, refused)
	return code, err
}

// expectCode notes that make may make a recovery code. If it fails and nothing
// tells certain that the code before is valid still, the note stays.
func (d *Device) expectCode(make func() error, unchanged func(error) bool) error {
	before, err := CodeUnseen(d.Vault)
	if err != nil {
		return err
	}
	if err := d.Vault.Set(codeUnseen, secret.New([]byte("1"))); err != nil {
		return err
	}
	err = make()
	if err == nil || before || !unchanged(err) {
		return err
	}
	return errors.Join(err, d.CodeSeen())
}

// refused reports whether an error came before anything was changed.
func refused(err error) bool {
	for _, e := range []error{cloudmls.ErrCredentials, cloudmls.ErrPassword, cloudmls.ErrRecovery, cloudmls.ErrRecoveryCode} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
