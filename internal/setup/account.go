package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
)

// attempts is how often a login is tried with another password.
const attempts = 3

// decideAccount finds out whose account this is about.
func (r *run) decideAccount(context.Context) error {
	address := r.Values.Address
	if address == "" && len(r.g.Accounts) == 1 {
		address = r.g.Accounts[0].Address
	}
	if address == "" {
		var err error
		if address, err = r.ask("mail address", "", "address"); err != nil {
			return err
		}
	}
	if _, err := groupid.Canonical(address); err != nil {
		return fmt.Errorf("mail address %q: %w", address, err)
	}
	for _, a := range r.g.Accounts {
		if strings.EqualFold(a.Address, address) {
			r.account, r.known = a, true
			return nil
		}
	}
	r.account = config.Account{Address: address}
	return nil
}

// decideProvider finds the servers and checks the login at both.
func (r *run) decideProvider(ctx context.Context) error {
	before := r.account
	merge(&r.account.IMAP, r.Values.IMAP)
	merge(&r.account.SMTP, r.Values.SMTP)
	if r.account.IMAP.Host == "" || r.account.SMTP.Host == "" {
		if err := r.find(ctx); err != nil {
			return err
		}
	}
	normalise(&r.account.IMAP, 993, 143)
	normalise(&r.account.SMTP, 465, 587)
	moved := !sameServer(before.IMAP, r.account.IMAP) || !sameServer(before.SMTP, r.account.SMTP)
	if r.known && !moved && r.Values.ProviderPassword == nil && r.Values.SMTPPassword == nil {
		return nil
	}
	if err := r.login(ctx); err != nil {
		return err
	}
	r.noteAccount(before)
	return nil
}

// find fills in what nobody has named.
func (r *run) find(ctx context.Context) error {
	r.Progress("looking for the mail servers of %s ...", r.account.Address)
	f, err := r.Find(ctx, r.account.Address)
	if err != nil {
		return fmt.Errorf("%w (name the servers with --imap HOST:PORT and --smtp HOST:PORT)", err)
	}
	if f.Refused != "" {
		return errors.New(f.Refused)
	}
	if r.account.IMAP.Host == "" {
		merge(&r.account.IMAP, f.IMAP)
		merge(&r.account.IMAP, Server{CAFile: r.Values.IMAP.CAFile, Username: r.Values.IMAP.Username})
	}
	if r.account.SMTP.Host == "" {
		merge(&r.account.SMTP, f.SMTP)
		merge(&r.account.SMTP, Server{CAFile: r.Values.SMTP.CAFile, Username: r.Values.SMTP.Username})
	}
	r.Progress("found in %s:\n  reading  %s\n  sending  %s", f.Source, describe(r.account.IMAP), describe(r.account.SMTP))
	for _, n := range f.Notes {
		r.Progress("note: %s", n)
	}
	if r.account.IMAP.Host == "" || r.account.SMTP.Host == "" {
		return fmt.Errorf("%s does not say all servers of %s: name the others with --imap HOST:PORT or --smtp HOST:PORT", f.Source, r.account.Address)
	}
	if f.Doubt == "" {
		return nil
	}
	if r.Asker == nil {
		return fmt.Errorf("%s: if these servers are right, name them with --imap %s and --smtp %s", f.Doubt, hostPort(r.account.IMAP), hostPort(r.account.SMTP))
	}
	yes, err := r.Asker.Confirm(f.Doubt+". Are these servers right", false)
	if err == nil && !yes {
		err = fmt.Errorf("name the right servers with --imap HOST:PORT and --smtp HOST:PORT")
	}
	return err
}

// login checks both servers with the passwords: the stored ones first, then
// those of the person, where somebody can be asked and another may help.
func (r *run) login(ctx context.Context) error {
	for n := 1; ; n++ {
		imap, smtp, fresh, err := r.providerPasswords(ctx, n == 1)
		if err != nil {
			return err
		}
		r.Progress("checking the login at %s and %s ...", r.account.IMAP.Host, r.account.SMTP.Host)
		err = r.Check(ctx, r.account, imap, smtp)
		if err == nil {
			if fresh {
				r.imap, r.smtp = imap, smtp
			}
			return nil
		}
		if r.Asker == nil || r.Values.ProviderPassword != nil || n == attempts || ctx.Err() != nil || !r.PasswordRefused(err) {
			return fmt.Errorf("%w; nothing was changed", err)
		}
		r.Progress("%v", err)
	}
}

// providerPasswords gives those for both servers; fresh says that they are not
// the stored ones, which serve only where stored is set.
func (r *run) providerPasswords(ctx context.Context, stored bool) (imap, smtp secret.Secret, fresh bool, err error) {
	if stored && r.known && r.Values.ProviderPassword == nil && r.Values.SMTPPassword == nil {
		imap, smtp, err = r.storedPasswords(ctx)
		if err == nil {
			return imap, smtp, false, nil
		}
		if r.Asker == nil {
			return imap, smtp, false, err
		}
	}
	if imap, err = r.secret("password of "+r.account.Address+" at the mail provider", "provider-password", r.Values.ProviderPassword, false); err != nil {
		return imap, smtp, false, err
	}
	if r.Values.SMTPPassword == nil {
		return imap, imap, true, nil
	}
	smtp, err = r.Values.SMTPPassword()
	return imap, smtp, true, err
}

func (r *run) storedPasswords(ctx context.Context) (imap, smtp secret.Secret, err error) {
	v, err := device.OpenVault(r.g, device.Options{Passphrase: r.passphrase})
	if err != nil {
		return imap, smtp, err
	}
	for _, s := range []struct {
		to   *secret.Secret
		name device.Server
		p    config.Provider
	}{{&imap, device.IMAP, r.account.IMAP}, {&smtp, device.SMTP, r.account.SMTP}} {
		text, err := device.ProviderPassword(v, r.account.Address, s.name, s.p)(ctx)
		if err != nil {
			return imap, smtp, err
		}
		*s.to = secret.New([]byte(text))
	}
	return imap, smtp, nil
}

// noteAccount writes down what becomes of the account.
func (r *run) noteAccount(before config.Account) {
	a := r.account
	if !r.known {
		r.change("added the account "+a.Address, config.AddAccount(a))
		return
	}
	for _, s := range []struct {
		key, what string
		old, new  config.Provider
	}{{"imap", "reading", before.IMAP, a.IMAP}, {"smtp", "sending", before.SMTP, a.SMTP}} {
		if sameServer(s.old, s.new) {
			continue
		}
		r.change(fmt.Sprintf("%s of %s goes through %s", s.what, a.Address, describe(s.new)),
			config.SetAccount(a.Address, s.new.Host, s.key, "host"), config.SetAccount(a.Address, s.new.Port, s.key, "port"),
			config.SetAccount(a.Address, s.new.TLS, s.key, "tls"))
		if s.new.Username != s.old.Username {
			r.change("", config.SetAccount(a.Address, s.new.Username, s.key, "username"))
		}
		if s.new.CAFile != s.old.CAFile {
			r.change("", config.SetAccount(a.Address, s.new.CAFile, s.key, "ca_file"))
		}
	}
	if r.imap.IsZero() { // nothing new is stored
		return
	}
	for key, p := range map[string]config.Provider{"imap": before.IMAP, "smtp": before.SMTP} {
		if p.PasswordFile != "" || p.PasswordEnv != "" { // the vault's would not count
			r.change("", config.UnsetAccount(a.Address, key, "password_file"), config.UnsetAccount(a.Address, key, "password_env"))
		}
	}
}

// merge takes over what is decided.
func merge(p *config.Provider, s Server) {
	if s.Host != "" {
		p.Host, p.Port, p.TLS = s.Host, s.Port, s.TLS
	}
	if s.Host == "" && s.Port != 0 {
		p.Port = s.Port
	}
	if s.Host == "" && s.TLS != "" {
		p.TLS = s.TLS
	}
	if s.Username != "" {
		p.Username = s.Username
	}
	if s.CAFile != "" {
		p.CAFile = s.CAFile
	}
}

// normalise fills in the port or the kind of TLS from each other.
func normalise(p *config.Provider, implicit, starttls int) {
	if p.TLS == "" {
		p.TLS = "implicit"
		if p.Port == starttls {
			p.TLS = "starttls"
		}
	}
	if p.Port == 0 {
		p.Port = implicit
		if p.TLS != "implicit" {
			p.Port = starttls
		}
	}
}

func sameServer(a, b config.Provider) bool {
	return a.Host == b.Host && a.Port == b.Port && a.TLS == b.TLS && a.Username == b.Username && a.CAFile == b.CAFile
}

func hostPort(p config.Provider) string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

func describe(p config.Provider) string {
	if p.Host == "" {
		return "unknown"
	}
	how := map[string]string{"implicit": "TLS", "starttls": "STARTTLS", "none": "no TLS"}[p.TLS]
	if p.Username != "" {
		return fmt.Sprintf("%s (%s, user %s)", hostPort(p), how, p.Username)
	}
	return fmt.Sprintf("%s (%s)", hostPort(p), how)
}
