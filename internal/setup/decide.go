package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
)

// Listeners of mail clients, if nothing else is there.
const (
	imapPort = 1993
	smtpPort = 1465
)

// vaultKeys are the places where the vault's key can lie.
var vaultKeys = []string{"file", "keyring", "passphrase", "credential"}

// decideDevice finds out how this device belongs to its user.
func (r *run) decideDevice(context.Context) error {
	dir, err := r.dataDir()
	if err != nil {
		return err
	}
	if r.old == nil {
		r.change("", config.Set(dir, "data_dir"))
	} else if r.Values.DataDir != "" && filepath.Clean(r.Values.DataDir) != filepath.Clean(dir) {
		return fmt.Errorf("the data folder of this device is %s; to move it, stop the gateway, move the folder and change data_dir in %s", dir, r.ConfigFile)
	}
	if err := r.decideListeners(); err != nil {
		return err
	}
	if err := r.decideVault(dir); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(dir, "device.db"))
	if err == nil && r.g.User.Name != "" {
		return r.knownDevice()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.decideUser()
}

// knownDevice checks that nothing is asked that a device cannot change.
func (r *run) knownDevice() error {
	if r.Values.User != "" && r.Values.User != r.g.User.Name {
		return fmt.Errorf("this device belongs to the user %s; for another user set up another one: --config FILE --data-dir FOLDER", r.g.User.Name)
	}
	if r.Values.Register {
		return fmt.Errorf("this device is signed in as %s already; without --register the rest is done", r.g.User.Name)
	}
	if !r.Values.SignIn && !r.Values.Recover {
		return nil
	}
	r.device, r.again, r.recover = true, true, r.Values.Recover
	if !r.recover {
		return nil // whether a password is needed at all shows later
	}
	var err error
	if r.code, err = r.secret("recovery code", "recovery-code", r.Values.RecoveryCode, false); err != nil {
		return err
	}
	r.password, err = r.userPassword()
	return err
}

// decideListeners chooses where mail clients connect.
func (r *run) decideListeners() error {
	for _, l := range []struct {
		key, asked string
		now        *string
		port       int
	}{{"imap", r.Values.ListenIMAP, &r.g.Listen.IMAP, imapPort}, {"smtp", r.Values.ListenSMTP, &r.g.Listen.SMTP, smtpPort}} {
		addr := l.asked
		switch {
		case addr != "" && addr == *l.now, addr == "" && *l.now != "":
			continue
		case addr == "":
			var err error
			if addr, err = freePort(l.port); err != nil {
				return err
			}
		default:
			if _, _, err := net.SplitHostPort(addr); err != nil {
				return fmt.Errorf("--listen-%s: %w (it looks like 127.0.0.1:%d)", l.key, err, l.port)
			}
			if err := occupied(l.key, addr); err != nil {
				return err
			}
		}
		*l.now = addr
		said := ""
		if r.old != nil {
			said = fmt.Sprintf("mail clients connect to %s for %s", addr, l.key)
		}
		r.change(said, config.Set(addr, "listen", l.key))
	}
	if r.g.Listen.TLS == "" {
		r.g.Listen.TLS = "implicit"
	}
	return nil
}

// occupied says who is in the way of a listener that was asked for.
func occupied(key, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("--listen-%s: another program listens on %s; end it, or name another port", key, addr)
	}
	if err != nil {
		return nil // the configuration's rules say what is wrong, or 'cloudmls run' does
	}
	return ln.Close()
}

// decideVault chooses where the vault's key lies. A device keeps its choice.
func (r *run) decideVault(dir string) error {
	asked := r.Values.VaultKey
	if asked != "" && !slices.Contains(vaultKeys, asked) {
		return fmt.Errorf("--vault %q: it is one of %s", asked, strings.Join(vaultKeys, ", "))
	}
	if r.old != nil {
		if asked != "" && asked != r.g.Vault.Key {
			return fmt.Errorf("the vault of this device has its key from %s; move it with 'cloudmls vault move %s'", r.g.Vault.Key, asked)
		}
		return nil
	}
	if asked == "" {
		asked = "file"
	}
	r.g.Vault.Key = asked
	r.change("", config.Set(asked, "vault", "key"))
	return nil
}

func (r *run) passphrase(newOne bool) (secret.Secret, error) {
	switch {
	case r.Values.Passphrase != nil:
		return r.Values.Passphrase()
	case r.g.Vault.PassphraseFile != "":
		return secret.FromFile(r.g.Vault.PassphraseFile)
	case r.g.Vault.PassphraseEnv != "":
		return secret.FromEnv(r.g.Vault.PassphraseEnv)
	}
	return r.secret("passphrase of the vault", "passphrase", nil, newOne)
}

// decideUser finds out who signs in, and whether they are new.
func (r *run) decideUser() error {
	name := r.Values.User
	if name == "" {
		name = r.g.User.Name
	}
	if name == "" {
		var err error
		if name, err = r.ask("user name at the key server", r.account.Address, "user"); err != nil {
			return err
		}
	}
	if name != r.g.User.Name {
		r.change("", config.Set(name, "user", "name"))
	}
	r.g.User.Name = name
	r.device, r.register, r.recover = true, r.Values.Register, r.Values.Recover
	if !r.Values.Register && !r.Values.SignIn && !r.Values.Recover {
		if r.Asker == nil {
			return fmt.Errorf("say whether the user %s is new (--register), has used this key server before (--sign-in), or has forgotten the password (--recover)", name)
		}
		known, err := r.Asker.Confirm(fmt.Sprintf("Has %s used this key server before", name), false)
		if err != nil {
			return err
		}
		r.register = !known
	}
	var err error
	if r.recover {
		if r.code, err = r.secret("recovery code", "recovery-code", r.Values.RecoveryCode, false); err != nil {
			return err
		}
	}
	if r.password, err = r.userPassword(); err != nil {
		return err
	}
	return r.decideInvitation()
}

// decideInvitation gets what the key server wants of a new user.
func (r *run) decideInvitation() (err error) {
	switch {
	case !r.register:
	case r.registration == "closed":
		return fmt.Errorf("the key server %s takes no new users", r.g.KeyServer.URL)
	case r.registration == "invitation" || r.Values.Invitation != nil:
		r.invitation, err = r.secret("invitation to the key server", "invitation", r.Values.Invitation, false)
	}
	return err
}

func (r *run) userPassword() (secret.Secret, error) {
	what := "password of " + r.g.User.Name + " at the key server"
	fresh := r.register || r.recover
	if fresh {
		what = "new " + what
	}
	for n := 1; ; n++ {
		s, err := r.secret(what, "password", r.Values.Password, fresh)
		if err != nil || !fresh {
			return s, err
		}
		if err = CheckNewPassword(s); err == nil || r.Asker == nil || r.Values.Password != nil || n == attempts {
			return s, err
		}
		r.Progress("%v", err)
	}
}

// deviceOptions open the data folder, which may have to be made.
func (r *run) deviceOptions() device.Options {
	return device.Options{Create: true, Passphrase: r.passphrase, Logger: r.Logger}
}
