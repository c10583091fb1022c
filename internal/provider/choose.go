package provider

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// settings chooses among the servers of an autoconfig file. An error names
// why none of them can be used.
func (c *clientConfig) settings(a address, source string) (*Settings, error) {
	s := &Settings{Source: source}
	if c.name != "" {
		s.Source += " (" + c.name + ")"
	}
	var imapErr, smtpErr error
	s.IMAP, imapErr = choose(a, "IMAP", c.incoming)
	s.SMTP, smtpErr = choose(a, "SMTP", c.outgoing)
	if s.IMAP.IsZero() && s.SMTP.IsZero() {
		return nil, errors.Join(imapErr, smtpErr)
	}
	if c.documentation != "" {
		s.Notes = append(s.Notes, "The provider's help: "+c.documentation)
	}
	s.Notes = append(s.Notes, authNotes(s)...)
	return s, errors.Join(imapErr, smtpErr)
}

// choose takes the best server: one that takes passwords before one that does
// not, implicit TLS before STARTTLS (RFC 8314), else the file's order.
func choose(a address, protocol string, list []configServer) (Server, error) {
	var best Server
	var errs []error
	rank := -1
	for _, c := range list {
		s, err := c.server(a)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s server: %w", protocol, err))
			continue
		}
		r := 0
		if s.PasswordAuth {
			r += 2
		}
		if s.TLS == TLSImplicit {
			r++
		}
		if r > rank {
			best, rank = s, r
		}
	}
	if rank < 0 {
		errs = append(errs, fmt.Errorf("no %s server that can be used is named", protocol))
		return Server{}, errors.Join(errs...)
	}
	return best, nil
}

// server checks one server of the file.
func (c *configServer) server(a address) (Server, error) {
	var s Server
	host, err := a.expand(c.hostname)
	if err != nil {
		return s, err
	}
	if s.Host, err = canonicalHost(host); err != nil {
		return s, err
	}
	port, err := strconv.ParseUint(c.port, 10, 16)
	if err != nil || port == 0 {
		return s, fmt.Errorf("%s: %.20q is not a port", s.Host, c.port)
	}
	s.Port = int(port)
	switch strings.ToLower(c.socketType) {
	case "ssl", "tls":
		s.TLS = TLSImplicit
	case "starttls":
		s.TLS = TLSStartTLS
	case "plain":
		if !isLoopback(s.Host) {
			return s, fmt.Errorf("%s: it is offered without TLS, where passwords and mail could be read on the way", s.Host)
		}
		s.TLS = TLSNone
	default:
		return s, fmt.Errorf("%s: the socket type %.20q is not known", s.Host, c.socketType)
	}
	username := c.username
	if username == "" {
		username = "%EMAILADDRESS%"
	}
	if s.Username, err = a.expand(username); err != nil {
		return s, err
	}
	for _, method := range c.authentication {
		switch strings.ToLower(method) {
		case "password-cleartext", "plain", "password-encrypted", "secure":
			// Inside TLS the password is sent as it is; whether the server takes
			// that, the check tells.
			s.PasswordAuth = true
		case "oauth2":
			s.OAuth2 = true
		}
	}
	if len(c.authentication) == 0 {
		s.PasswordAuth = true
	}
	if !s.PasswordAuth && !s.OAuth2 {
		return s, fmt.Errorf("%s: none of its ways to sign in is known", s.Host)
	}
	return s, nil
}

// authNotes says where a provider wants what is not built yet.
func authNotes(s *Settings) []string {
	for _, server := range []Server{s.IMAP, s.SMTP} {
		if !server.IsZero() && server.OAuth2 && !server.PasswordAuth {
			return []string{"The provider takes OAuth2 only, which comes with a later release; until then this account cannot be used"}
		}
	}
	return nil
}
