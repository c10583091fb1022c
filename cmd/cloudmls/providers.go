package main

import (
	"context"
	"errors"
	"strings"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/provider"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/setup"
)

// findProvider looks for the servers of an address's provider.
func findProvider(ctx context.Context, address string) (*setup.Found, error) {
	s, err := provider.Find(ctx, address, provider.FindOptions{})
	if err != nil {
		return nil, err
	}
	f := &setup.Found{IMAP: found(s.IMAP, address), SMTP: found(s.SMTP, address), Source: s.Source, Notes: s.Notes, Doubt: strings.Join(s.Confirm, "; ")}
	if s.IMAP.OAuth2 && !s.IMAP.PasswordAuth {
		f.Refused = address + ": " + strings.Join(s.Notes, "; ")
	}
	return f, nil
}

func found(s provider.Server, address string) setup.Server {
	out := setup.Server{Host: s.Host, Port: s.Port, TLS: s.TLS}
	if s.Username != address {
		out.Username = s.Username
	}
	return out
}

// checkProvider logs in at both servers of an account.
func checkProvider(ctx context.Context, a config.Account, imap, smtp secret.Secret) error {
	return errors.Join(
		checkServer(a, a.IMAP, func(s provider.Server, o provider.CheckOptions) error {
			_, err := provider.CheckIMAP(ctx, s, imap, o)
			return err
		}),
		checkServer(a, a.SMTP, func(s provider.Server, o provider.CheckOptions) error {
			_, err := provider.CheckSMTP(ctx, s, smtp, o)
			return err
		}))
}

func checkServer(a config.Account, p config.Provider, check func(provider.Server, provider.CheckOptions) error) error {
	tlsConfig, err := device.Trust(p.CAFile)
	if err != nil {
		return err
	}
	s := provider.Server{Host: p.Host, Port: p.Port, TLS: p.TLS, Username: p.Username}
	if s.Username == "" {
		s.Username = a.Address
	}
	return check(s, provider.CheckOptions{TLSConfig: tlsConfig})
}

// passwordRefused reports whether a server of the provider refused the
// password: another may help, which it does not against anything else.
func passwordRefused(err error) bool {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			if passwordRefused(e) {
				return true
			}
		}
		return false
	}
	var e *provider.CheckError
	return errors.As(err, &e) && (e.Problem == provider.ProblemPassword || e.Problem == provider.ProblemAppPassword)
}
