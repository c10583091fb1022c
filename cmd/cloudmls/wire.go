package main

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/vault"
	"github.com/cloudmls/gateway/proxy"
	"github.com/cloudmls/gateway/smtpd"
)

// gatewayAccounts turns the accounts of a configuration into the gateway's.
func gatewayAccounts(g *config.Gateway, v *vault.Vault, client *cloudmls.Client, log *slog.Logger) ([]proxy.AccountConfig, error) {
	var accounts []proxy.AccountConfig
	for _, a := range g.Accounts {
		account := proxy.AccountConfig{
			Client: client, Address: a.Address,
			Policy: proxy.Policy{
				Default: proxy.Mode(a.Policy), Omitted: proxy.Omitted(a.Omitted), Recipients: modes(a.Recipients),
				Domains: modes(a.Domains), KnownLists: a.KnownLists, HideThreading: a.HideThreading,
			},
		}
		var err error
		if account.CheckPassword, err = device.CheckClient(v, a, func(err error) {
			log.Error("passwords of mail clients could not be read", "err", err)
		}); err != nil {
			return nil, fmt.Errorf("account %s: %w", a.Address, err)
		}
		if account.IMAP, err = imapUpstream(v, a); err != nil {
			return nil, fmt.Errorf("account %s, imap: %w", a.Address, err)
		}
		if account.SMTP, err = smtpUpstream(v, a); err != nil {
			return nil, fmt.Errorf("account %s, smtp: %w", a.Address, err)
		}
		accounts = append(accounts, account)
	}
	return accounts, nil
}

func modes(m map[string]string) map[string]proxy.Mode {
	out := make(map[string]proxy.Mode, len(m))
	for k, v := range m {
		out[k] = proxy.Mode(v)
	}
	return out
}

var tlsModes = map[string]smtpd.TLSMode{"implicit": smtpd.TLSImplicit, "starttls": smtpd.TLSStartTLS, "none": smtpd.TLSNone}

func imapUpstream(v *vault.Vault, a config.Account) (proxy.IMAPUpstream, error) {
	tlsConfig, err := device.Trust(a.IMAP.CAFile)
	return proxy.IMAPUpstream{
		Addr: net.JoinHostPort(a.IMAP.Host, strconv.Itoa(a.IMAP.Port)), Mode: tlsModes[a.IMAP.TLS], TLSConfig: tlsConfig,
		Username: a.IMAP.Username, Password: device.ProviderPassword(v, a.Address, device.IMAP, a.IMAP),
	}, err
}

func smtpUpstream(v *vault.Vault, a config.Account) (smtpd.Upstream, error) {
	tlsConfig, err := device.Trust(a.SMTP.CAFile)
	return smtpd.Upstream{
		Addr: net.JoinHostPort(a.SMTP.Host, strconv.Itoa(a.SMTP.Port)), Mode: tlsModes[a.SMTP.TLS], TLSConfig: tlsConfig,
		Username: a.SMTP.Username, Password: device.ProviderPassword(v, a.Address, device.SMTP, a.SMTP),
	}, err
}
