package world

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/mailtest"
)

// Person is somebody with a mailbox, and unless they are an outsider a user at
// the key server with one or more devices.
type Person struct {
	Spec
	// Password at the key server: all that a new device needs.
	Password string
	// Recovery is the recovery code that registration gave.
	Recovery string

	world *World

	mu      sync.Mutex
	devices []*Device
}

func providerPassword(name string) string { return "provider-" + name }

func (w *World) newPerson(s Spec) (*Person, error) {
	password, err := randomHex(12)
	if err != nil {
		return nil, err
	}
	return &Person{Spec: s, world: w, Password: password}, nil
}

// Provider is where the person's mailbox is.
func (p *Person) Provider() *mailtest.Provider {
	for domain, provider := range p.world.providers {
		if len(p.Address) > len(domain) && p.Address[len(p.Address)-len(domain)-1:] == "@"+domain {
			return provider
		}
	}
	return nil
}

// Direct is a mail program at the provider itself, without a gateway: what an
// outsider uses, and what shows the ciphertext to everybody else.
func (p *Person) Direct() *MailProgram {
	provider := p.Provider()
	return &MailProgram{
		IMAPAddr: provider.IMAPAddr(), SMTPAddr: provider.SMTPAddr(), TLS: provider.ClientTLS(),
		Username: p.Address, Password: providerPassword(p.Name),
	}
}

// Stored gives a mailbox as the provider stores it.
func (p *Person) Stored(mailbox string) ([]mailtest.Stored, error) {
	return p.Provider().Messages(p.Address, mailbox)
}

// Device gives the person's first device; nil for outsiders.
func (p *Person) Device() *Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.devices) == 0 {
		return nil
	}
	return p.devices[0]
}

// Devices gives all of them.
func (p *Person) Devices() []*Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Device(nil), p.devices...)
}

// register makes the person a user, with a first device.
func (p *Person) register(ctx context.Context) error {
	return p.addDevice(func(o cloudmls.Options) (*cloudmls.Client, error) {
		c, recovery, err := cloudmls.Register(ctx, p.Name, p.Password, o)
		if err != nil {
			return nil, err
		}
		p.Recovery = recovery.Code
		if err := c.AddAccount(ctx, cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: p.Address}); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	})
}

// AddDevice signs in on a new device with name and password and nothing else.
func (p *Person) AddDevice(ctx context.Context) (*Device, error) {
	err := p.addDevice(func(o cloudmls.Options) (*cloudmls.Client, error) {
		return cloudmls.Open(ctx, p.Name, p.Password, o)
	})
	if err != nil {
		return nil, fmt.Errorf("world: new device of %s: %w", p.Name, err)
	}
	all := p.Devices()
	return all[len(all)-1], nil
}

// signIn gives a device its client.
type signIn func(cloudmls.Options) (*cloudmls.Client, error)

func (p *Person) addDevice(signIn signIn) error {
	p.mu.Lock()
	n := len(p.devices) + 1
	p.mu.Unlock()
	d := &Device{
		person: p, dir: filepath.Join(p.world.o.Dir, fmt.Sprintf("%s-%d", p.Name, n)), vaultKey: make([]byte, 32),
		imapAddr: "127.0.0.1:0", smtpAddr: "127.0.0.1:0",
	}
	if _, err := rand.Read(d.vaultKey); err != nil {
		return err
	}
	var err error
	if d.password, err = randomHex(12); err != nil {
		return err
	}
	if d.token, err = randomHex(16); err != nil {
		return err
	}
	if err := d.start(signIn); err != nil {
		return err
	}
	p.mu.Lock()
	p.devices = append(p.devices, d)
	p.mu.Unlock()
	return nil
}

func randomHex(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

// constantTime compares in a time that tells nothing of the secret, its length
// included.
func constantTime(secret string) func(string) bool {
	want := sha256.Sum256([]byte(secret))
	return func(got string) bool {
		have := sha256.Sum256([]byte(got))
		return subtle.ConstantTimeCompare(want[:], have[:]) == 1
	}
}
