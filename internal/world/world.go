package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/proxy"
)

// Spec says who lives in a world.
type Spec struct {
	// Name is what the caller calls the person.
	Name string
	// Address at a provider; each domain has one.
	Address string
	// Outsider has a mailbox and nothing else.
	Outsider bool
	// Policy of the person's gateways.
	Policy proxy.Policy
}

// Options of a World.
type Options struct {
	// Dir holds the files of the key server and of the devices. Required.
	Dir string
	// People; at least one.
	People []Spec
	// Provider changes the options of a provider before it starts; may be nil.
	Provider func(o *mailtest.Options)
	// Logger gets what all parts say; nil discards.
	Logger *slog.Logger
	// Now is the one clock; nil means time.Now.
	Now func() time.Time
	// Progress, if set, is told what is being started.
	Progress func(what string)
}

// World is made by New and ends with Close. It is safe for concurrent use as
// far as its parts are; people are fixed.
type World struct {
	o         Options
	mail      *mailtest.World
	authority *mailtest.Authority
	providers map[string]*mailtest.Provider // by domain
	keys      *KeyServer
	people    map[string]*Person
	order     []*Person
}

// New starts the providers, the key server, and a first device for each person
// who is no outsider. After an error everything has been stopped.
func New(ctx context.Context, o Options) (*World, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Dir == "" || len(o.People) == 0 {
		return nil, errors.New("world: Dir or People is missing")
	}
	w := &World{
		o: o, mail: mailtest.NewWorld(), providers: make(map[string]*mailtest.Provider),
		people: make(map[string]*Person),
	}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("world: %w", err), w.Close())
	}
	return w, nil
}

func (w *World) start(ctx context.Context) (err error) {
	if w.authority, err = w.mail.Authority(); err != nil {
		return err
	}
	w.o.Progress("mail providers")
	if err := w.startProviders(); err != nil {
		return err
	}
	w.o.Progress("key server")
	if w.keys, err = startKeyServer(w.o); err != nil {
		return err
	}
	for _, s := range w.o.People {
		p, err := w.newPerson(s)
		if err != nil {
			return err
		}
		w.people[s.Name] = p
		w.order = append(w.order, p)
		if s.Outsider {
			continue
		}
		w.o.Progress("gateway of " + s.Name)
		if err := p.register(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

func (w *World) startProviders() error {
	users := make(map[string][]mailtest.User)
	var domains []string
	for _, s := range w.o.People {
		_, domain, _ := strings.Cut(s.Address, "@")
		if users[domain] == nil {
			domains = append(domains, domain)
		}
		users[domain] = append(users[domain], mailtest.User{Address: s.Address, Password: providerPassword(s.Name)})
	}
	for _, domain := range domains {
		o := mailtest.Options{World: w.mail, Domain: domain, Users: users[domain], Now: w.o.Now, Logger: w.o.Logger}
		if w.o.Provider != nil {
			w.o.Provider(&o)
		}
		p, err := mailtest.NewProvider(o)
		if err != nil {
			return err
		}
		w.providers[domain] = p
	}
	return nil
}

// Person gives a person by name; nil if there is none.
func (w *World) Person(name string) *Person { return w.people[name] }

// People gives everybody, in the order of Options.People.
func (w *World) People() []*Person { return append([]*Person(nil), w.order...) }

// Provider gives the provider of a domain; nil if there is none.
func (w *World) Provider(domain string) *mailtest.Provider { return w.providers[domain] }

// KeyServer gives the key server.
func (w *World) KeyServer() *KeyServer { return w.keys }

// Everything gives each octet sequence that any provider was ever handed: what
// must not hold a canary.
func (w *World) Everything() [][]byte {
	var all [][]byte
	for _, p := range w.providers {
		all = append(all, p.Everything()...)
	}
	return all
}

// Close stops all parts, gateways first. The files stay.
func (w *World) Close() error {
	var errs []error
	for _, p := range w.order {
		for _, d := range p.Devices() {
			errs = append(errs, d.Stop())
		}
	}
	if w.keys != nil {
		errs = append(errs, w.keys.Stop())
	}
	for _, p := range w.providers {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
