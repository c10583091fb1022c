package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Resolver asks the DNS; *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, records []*net.SRV, err error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
}

// maxRecords bounds the records that are looked at.
const maxRecords = 16

// service is one name of SRV records, in the order of preference (RFC 8314).
type service struct{ name, tls string }

var (
	imapServices = []service{{"imaps", TLSImplicit}, {"imap", TLSStartTLS}}
	smtpServices = []service{{"submissions", TLSImplicit}, {"submission", TLSStartTLS}}
)

// bySRV asks for the SRV records of a domain (RFC 6186, RFC 8314).
func bySRV(ctx context.Context, r Resolver, a address) (*Settings, error) {
	s := &Settings{Source: "SRV records of " + a.domain}
	imap := make(chan error, 1)
	go func() {
		var err error
		s.IMAP, err = srvServer(ctx, r, a, "IMAP", imapServices)
		imap <- err
	}()
	var smtpErr error
	s.SMTP, smtpErr = srvServer(ctx, r, a, "SMTP", smtpServices)
	err := errors.Join(<-imap, smtpErr)
	if s.IMAP.IsZero() && s.SMTP.IsZero() {
		return nil, err
	}
	for _, server := range []Server{s.IMAP, s.SMTP} {
		if !server.IsZero() && !inDomain(server.Host, a.domain) {
			s.Confirm = append(s.Confirm, fmt.Sprintf(
				"the DNS names %s for %s; it belongs to another domain, and such an answer can be forged", server.Host, a.domain))
		}
	}
	s.Confirm = slices.Compact(s.Confirm)
	s.Notes = append(s.Notes, fmt.Sprintf("If the sign-in is refused, the user name may be %q alone", a.local))
	return s, err
}

// srvServer returns the preferred server among services. The choice among
// records of one priority is the heaviest one, not a random one: it is written
// to a file and stays.
func srvServer(ctx context.Context, r Resolver, a address, protocol string, services []service) (Server, error) {
	var errs []error
	for _, service := range services {
		_, records, err := r.LookupSRV(ctx, service.name, "tcp", a.domain)
		if err != nil {
			errs = append(errs, dnsError("_"+service.name+"._tcp", err))
			continue
		}
		s, err := bestRecord(records)
		if err != nil {
			errs = append(errs, fmt.Errorf("_%s._tcp: %w", service.name, err))
			continue
		}
		s.TLS, s.Username, s.PasswordAuth = service.tls, a.whole, true
		return s, nil
	}
	return Server{}, fmt.Errorf("%s: %w", protocol, errors.Join(errs...))
}

// errNotOffered is the target "." of an SRV record.
var errNotOffered = errors.New("the domain says that it does not offer this")

func bestRecord(records []*net.SRV) (Server, error) {
	sorted := slices.Clone(records[:min(len(records), maxRecords)])
	slices.SortFunc(sorted, func(a, b *net.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.Weight, a.Weight), strings.Compare(a.Target, b.Target))
	})
	err := errors.New("no record")
	for _, record := range sorted {
		if record.Target == "." || record.Target == "" {
			return Server{}, errNotOffered
		}
		host, hostErr := canonicalHost(record.Target)
		if hostErr == nil && record.Port > 0 {
			return Server{Host: host, Port: int(record.Port)}, nil
		}
		err = errors.Join(hostErr, err)
	}
	return Server{}, err
}

// dnsError shortens the errors of look-ups.
func dnsError(name string, err error) error {
	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound {
		return fmt.Errorf("%s: no record", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// byMX looks at who receives the domain's mail: a provider of the list, or one
// that publishes an autoconfig file.
func byMX(ctx context.Context, r Resolver, w *web, a address, useList bool) (*Settings, error) {
	records, err := r.LookupMX(ctx, a.domain)
	if err != nil {
		return nil, dnsError("MX", err)
	}
	sorted := slices.Clone(records[:min(len(records), maxRecords)])
	slices.SortFunc(sorted, func(a, b *net.MX) int {
		return cmp.Or(cmp.Compare(a.Pref, b.Pref), strings.Compare(a.Host, b.Host))
	})
	for _, record := range sorted {
		host, err := canonicalHost(record.Host)
		if err != nil {
			continue // "." for a domain without mail (RFC 7505) as well
		}
		if row := byExchanger(host); row != nil && useList {
			s, err := row.settings(a, fmt.Sprintf("built-in list, %s, which receives the mail of %s", row.Name, a.domain))
			return confirmMX(s, host, a), err
		}
		base, err := publicsuffix.EffectiveTLDPlusOne(host)
		if err != nil || base == a.domain {
			continue
		}
		s, err := w.autoconfig(ctx, a, "autoconfig."+base, autoconfigPath, false)
		return confirmMX(s, host, a), err
	}
	return nil, errors.New("MX: no mail exchanger of another provider")
}

func confirmMX(s *Settings, host string, a address) *Settings {
	if s != nil {
		s.Confirm = append(s.Confirm, fmt.Sprintf(
			"the DNS says that %s receives the mail of %s; such an answer can be forged", host, a.domain))
	}
	return s
}
