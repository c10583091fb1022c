package device

import (
	"context"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
)

// Server is one of an account's servers at the provider.
type Server string

// The servers of an account.
const (
	IMAP Server = "imap"
	SMTP Server = "smtp"
)

// ProviderSecret is the name in the vault of the password for one server.
func ProviderSecret(address string, s Server) string {
	return "account/" + address + "/" + string(s)
}

// ClientSecret is the name in the vault of the hash of a mail client's password.
func ClientSecret(address, client string) string {
	return clientPrefix(address) + client
}

func clientPrefix(address string) string { return "client/" + address + "/" }

// ProviderPassword reads the password for a server: from the file or the
// environment variable that the configuration names, else from the vault. It
// is read anew for each connection, so a changed one needs no restart.
func ProviderPassword(v *vault.Vault, address string, s Server, p config.Provider) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		got, err := providerPassword(v, address, s, p)
		return got.RevealString(), err
	}
}

// ReadingPassword is the provider's password for IMAP.
func ReadingPassword(v *vault.Vault) func(context.Context, config.Account) (secret.Secret, error) {
	return func(_ context.Context, a config.Account) (secret.Secret, error) {
		return providerPassword(v, a.Address, IMAP, a.IMAP)
	}
}

func providerPassword(v *vault.Vault, address string, s Server, p config.Provider) (secret.Secret, error) {
	switch {
	case p.PasswordFile != "":
		return secret.FromFile(p.PasswordFile)
	case p.PasswordEnv != "":
		return secret.FromEnv(p.PasswordEnv)
	}
	got, ok, err := v.Get(ProviderSecret(address, s))
	if err != nil {
		return secret.Secret{}, err
	}
	if !ok {
		return secret.Secret{}, fmt.Errorf("no password for the provider's %s server: run 'cloudmls account password %s'", strings.ToUpper(string(s)), address)
	}
	return got, nil
}

// Clients lists the names of the mail clients that may log in for an account:
// those of the configuration and those in the vault.
func Clients(v *vault.Vault, a config.Account) (configured, stored []string, err error) {
	for _, c := range a.Clients {
		configured = append(configured, c.Name)
	}
	names, err := v.Names(clientPrefix(a.Address))
	if err != nil {
		return nil, nil, err
	}
	for _, n := range names {
		stored = append(stored, strings.TrimPrefix(n, clientPrefix(a.Address)))
	}
	return configured, stored, nil
}

// CheckClient returns a function that tells whether a password is that of one
// of an account's mail clients, in the same time whichever of them it is. A
// client added to the vault or revoked counts from the next login on. Where the
// vault cannot be read, only those of the configuration can log in; failed
// hears of it.
func CheckClient(v *vault.Vault, a config.Account, failed func(error)) (func(password string) bool, error) {
	var fixed []secret.PasswordHash
	for _, c := range a.Clients {
		h, err := secret.ParsePasswordHash(c.PasswordSHA256)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", c.Name, err)
		}
		fixed = append(fixed, h)
	}
	prefix := clientPrefix(a.Address)
	return func(password string) bool {
		hashes, err := storedHashes(v, prefix)
		if err != nil {
			failed(err)
		}
		ok := false
		for _, h := range append(hashes, fixed...) {
			ok = h.Matches([]byte(password)) || ok
		}
		return ok
	}, nil
}

func storedHashes(v *vault.Vault, prefix string) ([]secret.PasswordHash, error) {
	names, err := v.Names(prefix)
	if err != nil {
		return nil, err
	}
	var hashes []secret.PasswordHash
	for _, n := range names {
		text, ok, err := v.Get(n)
		if err != nil {
			return nil, err
		}
		if !ok { // revoked between the two reads
			continue
		}
		h, err := secret.ParsePasswordHash(text.RevealString())
		if err != nil {
			return nil, fmt.Errorf("vault entry %s: %w", n, err)
		}
		hashes = append(hashes, h)
	}
	return hashes, nil
}
