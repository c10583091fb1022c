package provider

import (
	_ "embed"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"
)

//go:embed providers.toml
var providersFile []byte

// row is one provider of the list, see providers.toml.
type row struct {
	Name         string   `toml:"name"`
	Domains      []string `toml:"domains"`
	MX           []string `toml:"mx"`
	IMAP         string   `toml:"imap"`
	SMTP         string   `toml:"smtp"`
	Username     string   `toml:"username"`
	SMTPUsername string   `toml:"smtp_username"`
	Auth         []string `toml:"auth"`
	Notes        []string `toml:"notes"`
	Unsupported  string   `toml:"unsupported"`
}

// builtin returns the list. It is part of the program: that it is well formed
// is what a test shows.
var builtin = sync.OnceValue(func() []row {
	var list struct {
		Provider []row `toml:"provider"`
	}
	d := toml.NewDecoder(strings.NewReader(string(providersFile))).DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		panic("provider: providers.toml: " + err.Error())
	}
	return list.Provider
})

// byDomain returns the row of an address's domain, or nil.
func byDomain(domain string) *row {
	for i, r := range builtin() {
		if slices.Contains(r.Domains, domain) {
			return &builtin()[i]
		}
	}
	return nil
}

// byExchanger returns the row with the longest match for a mail exchanger, or
// nil.
func byExchanger(host string) *row {
	var best *row
	longest := 0
	for i, r := range builtin() {
		for _, mx := range r.MX {
			if inDomain(host, mx) && len(mx) > longest {
				best, longest = &builtin()[i], len(mx)
			}
		}
	}
	return best
}

// settings applies a row to an address.
func (r *row) settings(a address, source string) (*Settings, error) {
	if r.Unsupported != "" {
		return nil, &UnsupportedError{Provider: r.Name, Reason: r.Unsupported}
	}
	s := &Settings{Source: source, Notes: slices.Clone(r.Notes)}
	var err error
	if s.IMAP, err = r.server(a, r.IMAP, r.Username); err != nil {
		return nil, err
	}
	username := r.SMTPUsername
	if username == "" {
		username = r.Username
	}
	s.SMTP, err = r.server(a, r.SMTP, username)
	return s, err
}

func (r *row) server(a address, addr, username string) (Server, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Server{}, fmt.Errorf("provider list, %s: %w", r.Name, err)
	}
	s := Server{Host: host, PasswordAuth: slices.Contains(r.Auth, "password"), OAuth2: slices.Contains(r.Auth, "oauth2")}
	if s.Port, err = strconv.Atoi(port); err != nil {
		return Server{}, fmt.Errorf("provider list, %s: %w", r.Name, err)
	}
	s.TLS = TLSImplicit
	if s.Port == 143 || s.Port == 587 {
		s.TLS = TLSStartTLS
	}
	if username == "" {
		username = "%EMAILADDRESS%"
	}
	s.Username, err = a.expand(username)
	return s, err
}
