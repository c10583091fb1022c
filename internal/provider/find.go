package provider

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	autoconfigPath = "/mail/config-v1.1.xml"
	wellKnownPath  = "/.well-known/autoconfig/mail/config-v1.1.xml"
	defaultTimeout = 10 * time.Second
)

// FindOptions configures [Find]; the zero value is right for people.
type FindOptions struct {
	// HTTP is used with redirects and cookies restricted; nil means a client of
	// its own with the system's roots and proxy.
	HTTP *http.Client
	// Resolver is nil for the system's.
	Resolver Resolver
	// NoBuiltin leaves the list in this package out.
	NoBuiltin bool
	// AllowHTTP asks by plain http as well. What is found there can be forged
	// by anybody on the way and has to be confirmed.
	AllowHTTP bool
	// Timeout bounds all look-ups together; 0 means 10 s.
	Timeout time.Duration
}

// Find looks for the servers of a mail address, see the package's
// documentation for where and in which order. It fails with
// *[UnsupportedError] where the provider has no way in, with *[NotFoundError]
// where nothing complete was found, and with the error of ctx if that ended.
func Find(ctx context.Context, mailAddress string, o FindOptions) (*Settings, error) {
	a, err := parseAddress(mailAddress)
	if err != nil {
		return nil, err
	}
	if !o.NoBuiltin {
		if row := byDomain(a.domain); row != nil {
			return row.settings(a, "built-in list, "+row.Name)
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	s, err := first(limited, a, o.lookups(a))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return s, err
}

// lookup is one way to find the servers.
type lookup struct {
	source string
	run    func(context.Context) (*Settings, error)
}

// lookups lists the ways in the order of trust.
func (o FindOptions) lookups(a address) []lookup {
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	secure := newWeb(o.HTTP, "https")
	places := []struct{ host, path string }{{"autoconfig." + a.domain, autoconfigPath}, {a.domain, wellKnownPath}}
	var list []lookup
	for _, p := range places {
		list = append(list, lookup{"https://" + p.host, func(ctx context.Context) (*Settings, error) {
			return secure.autoconfig(ctx, a, p.host, p.path, true)
		}})
	}
	if o.AllowHTTP {
		plain := newWeb(o.HTTP, "http")
		for _, p := range places {
			list = append(list, lookup{"http://" + p.host, func(ctx context.Context) (*Settings, error) {
				s, err := plain.autoconfig(ctx, a, p.host, p.path, false)
				if s != nil {
					s.Confirm = append(s.Confirm, fmt.Sprintf("%s answered without TLS; such an answer can be forged", p.host))
				}
				return s, err
			}})
		}
	}
	return append(list,
		lookup{"SRV records", func(ctx context.Context) (*Settings, error) { return bySRV(ctx, o.Resolver, a) }},
		lookup{"MX records", func(ctx context.Context) (*Settings, error) {
			return byMX(ctx, o.Resolver, secure, a, !o.NoBuiltin)
		}})
}

// first runs all look-ups at once and returns the first success in their
// order, without waiting for those behind it: they end with ctx.
func first(ctx context.Context, a address, list []lookup) (*Settings, error) {
	type result struct {
		s   *Settings
		err error
	}
	results := make([]chan result, len(list))
	for i, l := range list {
		results[i] = make(chan result, 1)
		go func() {
			s, err := l.run(ctx)
			results[i] <- result{s, err}
		}()
	}
	missing := &NotFoundError{Domain: a.domain}
	for i, l := range list {
		var r result
		select {
		case r = <-results[i]:
		case <-ctx.Done():
			// What is there already counts; who is late does not.
			select {
			case r = <-results[i]:
			default:
				r.err = errors.New("no answer in time")
			}
		}
		if r.err == nil && r.s != nil && r.s.complete() {
			return r.s, nil
		}
		var unsupported *UnsupportedError
		if errors.As(r.err, &unsupported) {
			return nil, unsupported
		}
		if r.s != nil && missing.Partial == nil {
			missing.Partial = r.s
		}
		missing.Tried = append(missing.Tried, Attempt{l.source, r.err})
	}
	return nil, missing
}
