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
	if err := r.writable(); err != nil {
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

// writable tells before anything is done whether the configuration can be
// written, which comes last: a user who was registered before that failed would
// have a recovery code and no configuration.
func (r *run) writable() error {
	if len(r.changes) == 0 {
		return nil
	}
	dir := filepath.Dir(r.ConfigFile)
	for up := filepath.Dir(dir); up != dir; up = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		dir = up // it is made there
	}
	probe, err := os.CreateTemp(dir, ".gateway-*")
	if err != nil {
		return fmt.Errorf("the configuration cannot be written to %s: %w; nothing was done", r.ConfigFile, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
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
		if err := config.WriteFile(r.localFile, nil, r.localText); err != nil { // whole or not at all: the next run uses it as it is
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
	prover := &device.MailProver{Origin: r.g.KeyServer.Origin, Progress: r.Progress, Password: r.readingPassword(d)}
	err = device.AddAccounts(ctx, client, r.g, prover.Prove)
	if device.Taken(err) {
		err = fmt.Errorf("%w: if that is you, set up with that user (--sign-in --user, and another --data-dir), else ask the key server's operator", err)
	}
	return errors.Join(err, client.Close(), d.Close())
}

// readingPassword is the one that was just checked, or the one that is stored.
func (r *run) readingPassword(d *device.Device) func(context.Context, config.Account) (secret.Secret, error) {
	stored := device.ReadingPassword(d.Vault)
	return func(ctx context.Context, a config.Account) (secret.Secret, error) {
		if a.Address == r.account.Address && !r.imap.IsZero() {
			return r.imap, nil
		}
		return stored(ctx, a)
	}
}

// client registers the user or signs in, asking again for a wrong password
// where somebody can be asked.
func (r *run) client(ctx context.Context, d *device.Device) (*cloudmls.Client, error) {
	known, err := d.Resume(ctx)
	if err == nil {
		if !strings.EqualFold(known.Username(), r.g.User.Name) {
			err := fmt.Errorf("the folder %s belongs to the user %s, from a set-up before: pass --user %s, or another folder with --data-dir", r.g.DataDir, known.Username(), known.Username())
			return nil, errors.Join(err, known.Close())
		}
	} else if !errors.Is(err, cloudmls.ErrNewDevice) && !r.register {
		return nil, err
	}
	if known != nil && (r.again || !r.register && !r.recover) {
		ended, err := r.sessionEnded(ctx, known)
		switch {
		case err != nil:
			return nil, errors.Join(err, known.Close())
		case !ended && r.again:
			r.did = append(r.did, "this device is signed in as "+r.g.User.Name+" already")
			return known, nil
		case ended:
			if err := known.Close(); err != nil {
				return nil, err
			}
			known, r.again = nil, true
			if r.password.IsZero() { // where it is known only now that it is needed
				if r.password, err = r.userPassword(); err != nil {
					return nil, err
				}
			}
		}
	}
	for n := 1; ; n++ {
		client, err := r.once(ctx, d, known)
		if err == nil {
			return client, nil
		}
		if !errors.Is(err, cloudmls.ErrCredentials) || r.recover || r.Asker == nil || r.Values.Password != nil || n == attempts {
			if known != nil {
				err = errors.Join(err, known.Close())
			}
			return nil, err
		}
		r.Progress("%v", err)
		if r.password, err = r.userPassword(); err != nil {
			return nil, err
		}
	}
}

// sessionEnded asks the key server whether a device that was signed in has to
// show the password again. Recovering always signs in.
func (r *run) sessionEnded(ctx context.Context, known *cloudmls.Client) (bool, error) {
	if r.recover {
		return true, nil
	}
	_, err := known.Devices(ctx)
	if errors.Is(err, cloudmls.ErrSignedOut) {
		return true, nil
	}
	return false, err
}

// once tries one password. known is the client of a device that was signed in
// by a run before.
func (r *run) once(ctx context.Context, d *device.Device, known *cloudmls.Client) (*cloudmls.Client, error) {
	if known != nil {
		if err := r.makeUp(ctx, d, known); err != nil {
			return nil, err
		}
		r.did = append(r.did, "continued as "+r.g.User.Name+", whose password stays as it is")
		return known, nil
	}
	var recovery *cloudmls.Recovery
	var client *cloudmls.Client
	var err error
	did := ""
	switch {
	case r.recover:
		r.Progress("recovering %s ...", r.g.User.Name)
		client, recovery, err = d.Recover(ctx, r.g.User.Name, r.code, r.password)
		did = "gave " + r.g.User.Name + " a new password and a new recovery code, and signed this device in"
	case r.register:
		r.Progress("registering %s ...", r.g.User.Name)
		client, recovery, err = d.Register(ctx, r.g.User.Name, r.password, r.invitation)
		did = "registered " + r.g.User.Name
	case r.again:
		r.Progress("signing in again as %s ...", r.g.User.Name)
		client, err = d.SignInAgain(ctx, r.g.User.Name, r.password)
		did = "signed this device in again as " + r.g.User.Name
	default:
		r.Progress("signing in as %s ...", r.g.User.Name)
		client, err = d.SignIn(ctx, r.g.User.Name, func() (secret.Secret, error) { return r.password, nil })
		did = "signed this device in as " + r.g.User.Name
	}
	if err != nil {
		if r.register && device.Taken(err) {
			err = fmt.Errorf("%w (is it you? --sign-in in place of --register; else choose another --user)", err)
		}
		return nil, err
	}
	if recovery != nil {
		err = r.show(d, recovery.Code)
	} else {
		err = r.makeUp(ctx, d, client)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	r.did = append(r.did, did)
	return client, nil
}

// makeUp shows a new recovery code where a run before was cut off between
// making one and showing it.
func (r *run) makeUp(ctx context.Context, d *device.Device, client *cloudmls.Client) error {
	code, err := d.MissedCode(ctx, client, r.password)
	if err != nil {
		return fmt.Errorf("the recovery code of a set-up before was not shown, and a new one could not be made: %w", err)
	}
	if code == "" {
		return nil
	}
	r.did = append(r.did, "made a new recovery code, since the one of a set-up before was not shown")
	return r.show(d, code)
}

// show shows a recovery code, which exists nowhere else.
func (r *run) show(d *device.Device, code string) error {
	if err := r.Recovery(code); err != nil {
		return fmt.Errorf("the recovery code could not be handed over (run this again, it makes another one): %w", err)
	}
	return d.CodeSeen()
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
