package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// checks collects what is wrong with one file.
type checks struct {
	file     string
	at       *positions
	problems Problems
	ok       bool
}

func (c *checks) failf(key, format string, args ...any) {
	c.problems = append(c.problems, Problem{
		File: c.file, Line: c.at.line(key), Key: key, Text: fmt.Sprintf(format, args...),
	})
}

// oneOf reports whether value is one of the words allowed.
func (c *checks) oneOf(key, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	c.failf(key, "%q is not one of %s", value, strings.Join(allowed, ", "))
	return false
}

func (c *checks) required(key, value string) bool {
	if value == "" {
		c.failf(key, "is required")
	}
	return value != ""
}

func (c *checks) absolute(key, path string) {
	if path != "" && !filepath.IsAbs(path) {
		c.failf(key, "%q is not an absolute path", path)
	}
}

func (c *checks) log(key string, l *Log) {
	c.oneOf(key+".level", l.Level, "debug", "info", "warn", "error")
	c.oneOf(key+".format", l.Format, "text", "json")
}

// loopbackHost reports whether a host can only be this machine.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// address checks host:port to listen on and returns the host.
func (c *checks) address(key, addr string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		c.failf(key, "%q is not of the form host:port", addr)
		return "", false
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		c.failf(key, "the port of %q is not between 1 and 65535", addr)
		return "", false
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		c.failf(key, "%q is not an IP address or localhost", host)
		return "", false
	}
	return host, true
}

// origin checks the URL of a key server and returns its origin in canonical
// form.
func (c *checks) origin(key, value string) string {
	u, err := url.Parse(value)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		c.failf(key, "%q is not an address of the form https://host", value)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/":
		c.failf(key, "only scheme, host and port may stand here")
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		c.failf(key, "without https the host must be a loopback address")
	default:
		return u.Scheme + "://" + strings.ToLower(u.Host)
	}
	return ""
}

var (
	emailPattern = regexp.MustCompile(`^[^\s@<>"(),:;\\\[\]\x00-\x1f\x7f]+@[^\s@<>"(),:;\\\[\]\x00-\x1f\x7f]+$`)
	envPattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	hostPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	// systemd wants a file name: no slash, no dot at the front.
	credentialPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}$`)
	wordPattern       = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

// password checks a pair of password_file and password_env.
func (c *checks) password(key, file, env string) { c.source(key+".password", file, env) }

// source checks the pair of keys that name where a secret is read from; prefix
// is what their names have in common.
func (c *checks) source(prefix, file, env string) {
	if file != "" && env != "" {
		name := prefix[strings.LastIndex(prefix, ".")+1:]
		c.failf(prefix+"_env", "%s_file is set as well; only one of them may be", name)
	}
	c.absolute(prefix+"_file", file)
	if env != "" && !envPattern.MatchString(env) {
		c.failf(prefix+"_env", "is not the name of an environment variable")
	}
}

// vault refuses what would have no effect: who sets a passphrase's file wants
// it used.
func (c *checks) vault(v *Vault) {
	if !c.oneOf("vault.key", v.Key, "file", "keyring", "passphrase", "credential") {
		return
	}
	c.source("vault.passphrase", v.PassphraseFile, v.PassphraseEnv)
	if v.Key != "passphrase" {
		if v.PassphraseFile != "" {
			c.failf("vault.passphrase_file", "has no effect without key = \"passphrase\"")
		}
		if v.PassphraseEnv != "" {
			c.failf("vault.passphrase_env", "has no effect without key = \"passphrase\"")
		}
	}
	if !credentialPattern.MatchString(v.Credential) {
		c.failf("vault.credential", "%q is not the name of a credential", v.Credential)
	}
	if v.Key != "credential" && v.Credential != DefaultCredential {
		c.failf("vault.credential", "has no effect without key = \"credential\"")
	}
}

// gateway checks the gateway's file and completes it.
func (c *checks) gateway(g *Gateway) {
	if c.required("data_dir", g.DataDir) {
		c.absolute("data_dir", g.DataDir)
	}
	c.listen(&g.Listen)
	c.keyServerRef(&g.KeyServer)
	c.required("user.name", g.User.Name)
	c.password("user", g.User.PasswordFile, g.User.PasswordEnv)
	c.vault(&g.Vault)
	c.log("log", &g.Log)
	if len(g.Accounts) == 0 {
		c.failf("accounts", "at least one account is required")
	}
	seen := make(map[string]bool)
	for i := range g.Accounts {
		a := &g.Accounts[i]
		key := fmt.Sprintf("accounts[%d]", i)
		c.account(key, a)
		if folded := strings.ToLower(a.Address); a.Address != "" {
			if seen[folded] {
				c.failf(key+".address", "this account is there twice")
			}
			seen[folded] = true
		}
	}
}

func (c *checks) listen(l *Listen) {
	c.oneOf("listen.tls", l.TLS, "implicit", "none")
	for _, x := range []struct{ key, addr string }{{"listen.imap", l.IMAP}, {"listen.smtp", l.SMTP}} {
		if host, ok := c.address(x.key, x.addr); ok && !loopbackHost(host) {
			c.failf(x.key, "%s is not a loopback address; mail programs on other machines are not served", host)
		}
	}
	if l.IMAP == l.SMTP {
		c.failf("listen.smtp", "is the same address as listen.imap")
	}
}

func (c *checks) keyServerRef(k *KeyServer) {
	if !c.required("keyserver.url", k.URL) {
		return
	}
	origin := c.origin("keyserver.url", k.URL)
	if k.Origin != "" {
		origin = c.origin("keyserver.origin", k.Origin)
	}
	k.Origin = origin
	for _, x := range []struct{ key, url string }{{"keyserver.delivery_url", k.DeliveryURL}, {"keyserver.store_url", k.StoreURL}} {
		if x.url != "" {
			c.origin(x.key, x.url)
		}
	}
	c.absolute("keyserver.ca_file", k.CAFile)
	c.absolute("keyserver.store_ca_file", k.StoreCAFile)
	c.absolute("keyserver.local", k.Local)
}

func (c *checks) account(key string, a *Account) {
	if c.required(key+".address", a.Address) && !emailPattern.MatchString(a.Address) {
		c.failf(key+".address", "%q is not a mail address", a.Address)
	}
	c.oneOf(key+".policy", a.Policy, "prefer", "require", "never")
	c.oneOf(key+".omitted", a.Omitted, "leave-out", "remove")
	for address, policy := range a.Recipients {
		if !emailPattern.MatchString(address) {
			c.failf(key+".recipients."+address, "%q is not a mail address", address)
		}
		c.oneOf(key+".recipients."+address, policy, "prefer", "require", "never")
	}
	for domain, policy := range a.Domains {
		if strings.ContainsAny(domain, "@ \t") || domain == "" {
			c.failf(key+".domains."+domain, "%q is not a domain", domain)
		}
		c.oneOf(key+".domains."+domain, policy, "prefer", "require", "never")
	}
	c.provider(key+".imap", a, &a.IMAP, map[string]int{"implicit": 993, "starttls": 143, "none": 143})
	c.provider(key+".smtp", a, &a.SMTP, map[string]int{"implicit": 465, "starttls": 587, "none": 587})
	c.clients(key+".clients", a.Clients)
}

func (c *checks) provider(key string, a *Account, p *Provider, ports map[string]int) {
	known := c.oneOf(key+".tls", p.TLS, "implicit", "starttls", "none")
	if c.required(key+".host", p.Host) {
		_, err := netip.ParseAddr(p.Host)
		switch {
		case err != nil && !hostPattern.MatchString(p.Host):
			c.failf(key+".host", "%q is not a host name", p.Host)
		case p.TLS == "none" && !loopbackHost(p.Host):
			c.failf(key+".tls", "without TLS the host must be a loopback address")
		}
	}
	if p.Port == 0 && known {
		p.Port = ports[p.TLS]
	}
	if p.Port < 1 || p.Port > 65535 {
		c.failf(key+".port", "%d is not between 1 and 65535", p.Port)
	}
	if p.Username == "" {
		p.Username = a.Address
	}
	c.password(key, p.PasswordFile, p.PasswordEnv)
	c.absolute(key+".ca_file", p.CAFile)
}

func (c *checks) clients(key string, clients []Client) {
	names, hashes := make(map[string]bool), make(map[string]bool)
	for i := range clients {
		cl := &clients[i]
		key := fmt.Sprintf("%s[%d]", key, i)
		if c.required(key+".name", cl.Name) && names[cl.Name] {
			c.failf(key+".name", "two programs have the name %q", cl.Name)
		}
		names[cl.Name] = true
		cl.PasswordSHA256 = strings.ToLower(cl.PasswordSHA256)
		if !c.required(key+".password_sha256", cl.PasswordSHA256) {
			continue
		}
		// The value is not repeated: it may be a password, put here by mistake.
		b, err := hex.DecodeString(cl.PasswordSHA256)
		switch {
		case err != nil || len(b) != 32:
			c.failf(key+".password_sha256", "must have 64 hexadecimal digits")
		case sha256.Sum256(nil) == [32]byte(b):
			c.failf(key+".password_sha256", "is that of the empty password")
		case hashes[cl.PasswordSHA256]:
			c.failf(key+".password_sha256", "two programs have the same password")
		}
		hashes[cl.PasswordSHA256] = true
	}
}

// keyServer checks the key server's file and completes it.
// store checks where the data lies, and fills in where the keys do.
func (c *checks) store(k *KeyServerFile) {
	c.oneOf("store.kind", k.Store.Kind, "file", "postgresql")
	c.source("store.dsn", k.Store.DSNFile, k.Store.DSNEnv)
	if k.Store.MaxConnections < 1 {
		c.failf("store.max_connections", "must be at least 1")
	}
	if k.Store.PollSeconds < 0 {
		c.failf("store.poll_seconds", "must not be negative")
	}
	if k.Store.Kind == "postgresql" {
		c.required("key_file", k.KeyFile)
		if k.Store.DSNFile == "" && k.Store.DSNEnv == "" {
			c.failf("store.dsn_file", "is required for postgresql, or dsn_env")
		}
		return
	}
	if c.required("data_file", k.DataFile) {
		c.absolute("data_file", k.DataFile)
		if k.KeyFile == "" {
			k.KeyFile = k.DataFile + ".keys"
		}
	}
}

func (c *checks) roles(k *KeyServerFile) {
	for i, r := range k.Roles {
		c.oneOf(fmt.Sprintf("roles[%d]", i), r, "auth", "delivery", "store")
	}
	away := len(k.Roles) > 0 && !slices.Contains(k.Roles, "auth")
	switch {
	case away && k.Auth.URL == "":
		c.failf("auth.url", "is required, because this server does not have the role auth")
	case k.Auth.URL != "":
		c.origin("auth.url", k.Auth.URL)
	}
	if k.Auth.Origin != "" {
		k.Auth.Origin = c.origin("auth.origin", k.Auth.Origin)
	} else if k.Auth.URL != "" {
		k.Auth.Origin = k.Auth.URL
	}
}

func (c *checks) mailProof(k *KeyServerFile) {
	m := &k.MailProof
	c.absolute("mail_proof.ca_file", m.CAFile)
	c.source("mail_proof.password", m.PasswordFile, m.PasswordEnv)
	c.absolute("mail_proof.dkim_key_file", m.DKIMKeyFile)
	c.oneOf("mail_proof.tls", m.TLS, "starttls", "implicit", "none")
	if m.Relay == "" {
		if slices.Contains(k.RequireProof, "email") {
			c.failf("mail_proof.relay", "is required, because require_proof names email")
		}
		return
	}
	c.address("mail_proof.relay", m.Relay)
	if c.required("mail_proof.from", m.From) && !emailPattern.MatchString(m.From) {
		c.failf("mail_proof.from", "%q is not a mail address", m.From)
	}
	if m.DKIMDomain != "" || m.DKIMSelector != "" || m.DKIMKeyFile != "" {
		c.required("mail_proof.dkim_domain", m.DKIMDomain)
		c.required("mail_proof.dkim_selector", m.DKIMSelector)
		c.required("mail_proof.dkim_key_file", m.DKIMKeyFile)
	}
}

func (c *checks) acme(k *KeyServerFile) {
	c.absolute("acme.ca_file", k.ACME.CAFile)
	c.absolute("acme.cache_dir", k.ACME.CacheDir)
	if k.ACME.Directory != "" {
		if u, err := url.Parse(k.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			c.failf("acme.directory", "%q is not an address of the form https://host/path", k.ACME.Directory)
		}
	}
	if !k.ACME.Enabled {
		return
	}
	if !strings.HasPrefix(k.Origin, "https://") {
		c.failf("acme.enabled", "origin must be an https address whose host the certificate is for")
	}
	if k.ACME.CacheDir == "" && k.KeyFile != "" {
		k.ACME.CacheDir = filepath.Join(filepath.Dir(k.KeyFile), "acme")
	}
}

func (c *checks) keyServer(k *KeyServerFile) {
	host, ok := c.address("listen", k.Listen)
	if c.required("origin", k.Origin) {
		if origin := c.origin("origin", k.Origin); origin != "" {
			k.Origin = origin
		}
	}
	c.store(k)
	c.absolute("key_file", k.KeyFile)
	if k.KeyFile != "" && k.KeyFile == k.DataFile {
		c.failf("key_file", "is the same file as data_file")
	}
	c.absolute("tls_cert", k.TLSCert)
	c.absolute("tls_key", k.TLSKey)
	switch {
	case k.TLSCert != "" && k.TLSKey == "":
		c.failf("tls_key", "is required together with tls_cert")
	case k.TLSCert == "" && k.TLSKey != "":
		c.failf("tls_cert", "is required together with tls_key")
	case k.ACME.Enabled && k.TLSCert != "":
		c.failf("acme.enabled", "tls_cert is set as well")
	case k.BehindProxy && len(k.TrustedProxies) == 0:
		c.failf("behind_proxy", "trusted_proxies must name the proxies")
	case k.TLSCert == "" && !k.ACME.Enabled && !k.BehindProxy && ok && !loopbackHost(host):
		c.failf("listen", "without tls_cert, acme or behind_proxy it must be a loopback address")
	}
	c.acme(k)
	if k.Metrics.Listen != "" {
		c.address("metrics.listen", k.Metrics.Listen)
	}
	for i, network := range k.TrustedProxies {
		prefix, err := netip.ParsePrefix(network)
		switch {
		case err != nil:
			c.failf(fmt.Sprintf("trusted_proxies[%d]", i), "%q is not a network such as 10.0.0.0/8", network)
		case prefix.Bits() == 0:
			c.failf(fmt.Sprintf("trusted_proxies[%d]", i), "%s is everybody: anyone could claim any address and evade every limit; name your proxies", network)
		}
	}
	for i, platform := range k.RequireProof {
		if !wordPattern.MatchString(platform) {
			c.failf(fmt.Sprintf("require_proof[%d]", i), "%q is not a platform", platform)
		}
	}
	c.oneOf("registration", k.Registration, "open", "invitation", "closed")
	for i, o := range k.Origins {
		k.Origins[i] = c.origin(fmt.Sprintf("origins[%d]", i), o)
	}
	c.roles(k)
	c.mailProof(k)
	for _, l := range []struct {
		key   string
		value int64
	}{
		{"objects", int64(k.Limits.Objects)}, {"object_bytes", k.Limits.ObjectBytes}, {"accounts", int64(k.Limits.Accounts)},
		{"sessions", int64(k.Limits.Sessions)}, {"keypackages", int64(k.Limits.KeyPackages)},
		{"inbox", int64(k.Limits.Inbox)}, {"inbox_bytes", k.Limits.InboxBytes},
	} {
		if l.value < 0 {
			c.failf("limits."+l.key, "must not be negative")
		}
	}
	for _, l := range []struct {
		key   string
		value int
	}{
		{"connections", k.Limits.Connections}, {"connections_from", k.Limits.ConnectionsFrom}, {"long_polls_from", k.Limits.LongPollsFrom},
	} {
		if l.value < -1 {
			c.failf("limits."+l.key, "must be -1 (no limit), 0 (the default) or a number")
		}
	}
	c.log("log", &k.Log)
}
