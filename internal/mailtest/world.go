package mailtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
)

// World is the set of providers that can reach one another. The zero value is
// empty and ready; it is safe for concurrent use.
type World struct {
	mu        sync.Mutex
	authority *Authority
	providers map[string]*Provider
}

// NewWorld returns a world without providers.
func NewWorld() *World { return &World{} }

// Authority returns the certificate authority of the world, made on first use.
func (w *World) Authority() (*Authority, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.authority == nil {
		a, err := NewAuthority()
		if err != nil {
			return nil, err
		}
		w.authority = a
	}
	return w.authority, nil
}

func (w *World) add(p *Provider) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.providers == nil {
		w.providers = make(map[string]*Provider)
	}
	if w.providers[p.domain] != nil {
		return fmt.Errorf("mailtest: the world has a provider for %s already", p.domain)
	}
	w.providers[p.domain] = p
	return nil
}

func (w *World) remove(p *Provider) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.providers[p.domain] == p {
		delete(w.providers, p.domain)
	}
}

var (
	errNoDomain  = errors.New("no such domain")
	errNoMailbox = errors.New("no such user")
)

// route returns the provider and the user that take mail for an address.
func (w *World) route(address string) (*Provider, *user, error) {
	local, domain := splitAddress(address)
	w.mu.Lock()
	p := w.providers[domain]
	w.mu.Unlock()
	if p == nil {
		return nil, nil, errNoDomain
	}
	u := p.users[local+"@"+domain]
	if u == nil {
		return nil, nil, errNoMailbox
	}
	return p, u, nil
}

// splitAddress returns both sides of an address in lower case.
func splitAddress(address string) (local, domain string) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return strings.ToLower(address), ""
	}
	return strings.ToLower(address[:i]), strings.ToLower(address[i+1:])
}

func canonical(address string) string {
	local, domain := splitAddress(address)
	return local + "@" + domain
}
