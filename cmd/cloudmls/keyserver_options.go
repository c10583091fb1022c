package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/mailproof"
)

// keyServerOptions makes the server's options but the store; its keys are made
// if there is no database yet either.
func keyServerOptions(f *config.KeyServerFile, log *slog.Logger) (*keyserver.Options, error) {
	if f.Store.Kind == "file" {
		if err := sameKeys(f.DataFile, f.KeyFile); err != nil {
			return nil, err
		}
	}
	key, created, err := secret.EnsureVaultKey(f.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the server's keys: %w", err)
	}
	if created {
		log.Info("made the server's keys; keep a copy apart from the database", "file", f.KeyFile)
	}
	pepper, err := derive(key, "keyserver pepper", 32)
	if err != nil {
		return nil, err
	}
	o := &keyserver.Options{
		Origin: f.Origin, Pepper: pepper, RequireProof: f.RequireProof, Logger: log,
		Registration: keyserver.Registration(f.Registration), Browsers: f.Browsers, Origins: f.Origins,
		Limits: keyserver.Limits{
			Objects: f.Limits.Objects, ObjectBytes: f.Limits.ObjectBytes, Accounts: f.Limits.Accounts, Sessions: f.Limits.Sessions,
			KeyPackages: f.Limits.KeyPackages, Inbox: f.Limits.Inbox, InboxBytes: f.Limits.InboxBytes,
			Connections: f.Limits.Connections, ConnectionsFrom: f.Limits.ConnectionsFrom, LongPollsFrom: f.Limits.LongPollsFrom,
		},
	}
	for _, r := range f.Roles {
		o.Roles = append(o.Roles, keyserver.Role(r))
	}
	if f.Auth.URL != "" {
		o.Auth = &keyserver.RemoteAuth{URL: f.Auth.URL, Origin: f.Auth.Origin}
	}
	for _, p := range f.TrustedProxies {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %w", err)
		}
		o.TrustedProxies = append(o.TrustedProxies, prefix)
	}
	if f.MailProof.Relay == "" {
		return o, nil
	}
	sender, err := mailSender(&f.MailProof)
	if err != nil {
		return nil, configError{fmt.Errorf("mail_proof: %w", err)}
	}
	o.Challengers = map[string]keyserver.Challenger{"email": sender}
	return o, nil
}

// mailSender sends the challenges that prove mail addresses.
func mailSender(m *config.Mail) (*mailproof.Sender, error) {
	o := mailproof.Options{Relay: m.Relay, TLS: m.TLS, Username: m.Username, From: m.From}
	var err error
	if o.Roots, err = rootsFrom(m.CAFile); err != nil {
		return nil, err
	}
	if m.PasswordFile != "" || m.PasswordEnv != "" {
		password, err := configuredSecret(m.PasswordFile, m.PasswordEnv)
		if err != nil {
			return nil, err
		}
		o.Password = password.RevealString()
	}
	if m.DKIMKeyFile != "" {
		key, err := signingKey(m.DKIMKeyFile)
		if err != nil {
			return nil, err
		}
		o.DKIM = &mailproof.DKIM{Domain: m.DKIMDomain, Selector: m.DKIMSelector, Key: key}
	}
	return mailproof.New(o)
}

// signingKey reads a private key that only its owner may read.
func signingKey(file string) (crypto.Signer, error) {
	text, err := secret.TextFromFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(text.RevealString()))
	if block == nil {
		return nil, fmt.Errorf("%s holds no key in PEM", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New(file + " holds a key that cannot sign")
	}
	return signer, nil
}

// configuredSecret reads a secret that a pair of keys of the configuration names.
func configuredSecret(file, env string) (secret.Secret, error) {
	if file != "" {
		return secret.FromFile(file)
	}
	return secret.FromEnv(env)
}
