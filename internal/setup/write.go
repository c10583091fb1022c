package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/localtls"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

// DefaultClient is the name of the first mail client.
const DefaultClient = "mail"

// write does what has been decided. The order lets a run that was interrupted
// be repeated: the configuration comes last.
func (r *run) write(ctx context.Context) (*Result, error) {
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	stop, err := r.startLocal(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	res := &Result{ConfigFile: r.ConfigFile, Address: r.account.Address, IMAP: r.g.Listen.IMAP, SMTP: r.g.Listen.SMTP, Device: r.device}
	if r.device {
		if err := r.signIn(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.fillVault(res); err != nil {
		return nil, err
	}
	pair, err := localtls.Ensure(filepath.Join(r.g.DataDir, "tls"), time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate for mail clients: %w", err)
	}
	res.Authority = pair.AuthorityFile
	if len(r.changes) > 0 {
		if err := os.MkdirAll(filepath.Dir(r.ConfigFile), 0o700); err != nil {
			return nil, err
		}
		if err := config.WriteFile(r.ConfigFile, r.old, text); err != nil {
			return nil, err
		}
	}
	res.Changed = r.did
	return res, nil
}

// text is the configuration file as it will be.
func (r *run) text() ([]byte, error) {
	if len(r.changes) == 0 {
		return r.old, nil
	}
	var text []byte
	var err error
	if r.old == nil {
		r.g.Accounts = []config.Account{r.account}
		text, err = config.NewGatewayFile(r.g)
	} else {
		text, err = config.EditGateway(r.old, r.changes...)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	g, err := config.ParseGateway(r.ConfigFile, text)
	if err != nil {
		return nil, err
	}
	r.g = g
	return text, nil
}

// startLocal runs the local key server while this device signs in.
func (r *run) startLocal(ctx context.Context) (stop func(), err error) {
	if r.localFile == "" || !r.device {
		return func() {}, nil
	}
	if r.localText != nil {
		if err := os.MkdirAll(filepath.Dir(r.localFile), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(r.localFile, r.localText, 0o600); err != nil {
			return nil, err
		}
	}
	r.Progress("starting the local key server ...")
	return r.StartKeyServer(ctx, r.localFile)
}

// signIn makes this a device of the user, with the accounts.
func (r *run) signIn(ctx context.Context) error {
	_, err := os.Stat(r.g.DataDir)
	fresh := errors.Is(err, fs.ErrNotExist)
	d, err := device.Open(r.g, r.deviceOptions())
	if err != nil {
		return err
	}
	client, err := r.client(ctx, d)
	if err != nil {
		err = errors.Join(err, d.Close())
		if fresh && errors.Is(err, cloudmls.ErrCredentials) { // nothing in it is of use to anybody
			err = errors.Join(err, os.RemoveAll(r.g.DataDir))
		}
		return err
	}
	r.Progress("adding your accounts at the key server ...")
	return errors.Join(device.AddAccounts(ctx, client, r.g), client.Close(), d.Close())
}

// client registers the user or signs in, asking again for a wrong password
// where somebody can be asked.
func (r *run) client(ctx context.Context, d *device.Device) (*cloudmls.Client, error) {
	if client, err := d.Resume(ctx); err == nil {
		r.did = append(r.did, "continued as "+r.g.User.Name)
		return client, nil
	} else if !errors.Is(err, cloudmls.ErrNewDevice) && !r.register {
		return nil, err
	}
	for n := 1; ; n++ {
		client, err := r.once(ctx, d)
		if !errors.Is(err, cloudmls.ErrCredentials) || r.recover || r.Asker == nil || r.Values.Password != nil || n == attempts {
			return client, err
		}
		r.Progress("%v", err)
		if r.password, err = r.userPassword(); err != nil {
			return nil, err
		}
	}
}

func (r *run) once(ctx context.Context, d *device.Device) (*cloudmls.Client, error) {
	if !r.register && !r.recover {
		r.Progress("signing in as %s ...", r.g.User.Name)
		client, err := d.SignIn(ctx, r.g.User.Name, func() (secret.Secret, error) { return r.password, nil })
		if err == nil {
			r.did = append(r.did, "signed this device in as "+r.g.User.Name)
		}
		return client, err
	}
	var recovery *cloudmls.Recovery
	var client *cloudmls.Client
	var err error
	if r.recover {
		r.Progress("recovering %s ...", r.g.User.Name)
		client, recovery, err = d.Recover(ctx, r.g.User.Name, r.code, r.password)
	} else {
		r.Progress("registering %s ...", r.g.User.Name)
		client, recovery, err = d.Register(ctx, r.g.User.Name, r.password)
	}
	if err != nil {
		return nil, err
	}
	if err := r.Recovery(recovery.Code); err != nil { // it exists nowhere else
		return nil, errors.Join(err, client.Close())
	}
	if r.recover {
		r.did = append(r.did, "gave "+r.g.User.Name+" a new password and a new recovery code, and signed this device in")
	} else {
		r.did = append(r.did, "registered "+r.g.User.Name)
	}
	return client, nil
}

// fillVault stores the provider's passwords and makes the mail client's.
func (r *run) fillVault(res *Result) error {
	name := r.Values.Client
	if name == "" && !r.known {
		name = DefaultClient
	}
	if name == "" && r.imap.IsZero() {
		return nil
	}
	v, err := device.OpenVault(r.g, r.deviceOptions())
	if err != nil {
		return err
	}
	if err := v.Update(func(tx *vault.Tx) error {
		if !r.imap.IsZero() {
			if err := tx.Set(device.ProviderSecret(r.account.Address, device.IMAP), r.imap); err != nil {
				return err
			}
			if err := tx.Set(device.ProviderSecret(r.account.Address, device.SMTP), r.smtp); err != nil {
				return err
			}
			r.did = append(r.did, "stored the provider's password of "+r.account.Address)
		}
		if name == "" {
			return nil
		}
		var err error
		res.Client = name
		res.ClientPassword, err = NewClient(tx, r.account.Address, name)
		return err
	}); err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	if name != "" {
		r.did = append(r.did, fmt.Sprintf("made a password for the mail client %q", name))
	}
	return nil
}

// NewClient makes a password for a mail client of an account and stores its
// hash. A client of that name gets a new one; the old one ends.
func NewClient(tx *vault.Tx, address, name string) (secret.Secret, error) {
	if name == "" || strings.ContainsAny(name, "/\n") {
		return secret.Secret{}, fmt.Errorf("%q cannot be the name of a mail client: it must not be empty or hold a slash", name)
	}
	password, hash, err := secret.NewPassword()
	if err != nil {
		return password, err
	}
	return password, tx.Set(device.ClientSecret(address, name), secret.New([]byte(hash.String())))
}
