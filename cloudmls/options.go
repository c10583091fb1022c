package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Account is a pair (platform, account id), e.g. ("email", "alice@example.org").
// Ids of PlatformEmail are brought into canonical form (groupid.Canonical) by
// every call; those of other platforms are compared octet by octet.
type Account = keyapi.Account

// PlatformEmail is the platform whose account ids are mail addresses.
const PlatformEmail = "email"

// Options of a Client.
type Options struct {
	// Server speaks to the key server; *keyclient.Client does. Required.
	Server Server
	// Store keeps this device's sealed local state; boltstore.Open gives one.
	// Required. The caller closes it, after the Client.
	Store LocalStore
	// VaultKey, 32 octets, seals everything in Store. It belongs into the
	// operating system's key ring. Required.
	VaultKey []byte
	// Origin is the configured name of the key server, e.g.
	// "https://keys.example.org"; all sealed state, and what signs in, is bound to it,
	// so all users of a key server, on all their devices, give the same octets. Required.
	Origin string
	// DialStore reaches a store of the user's own (MoveStore) by its origin, such as
	// "https://store.example.org". It makes sure, as by TLS, that nobody but that
	// origin answers: what is sent there signs in there. It is called from any
	// call, once for each store. nil: the state stays at the key server's store.
	DialStore func(ctx context.Context, origin string) (StoreServer, error)
	// DeviceName is shown in the user's list of devices, and the key server sees it:
	// UTF-8, 128 octets at most.
	DeviceName string
	// Invitation is what Register shows to a key server that wants one.
	Invitation string
	// KeyPackages is how many single-use KeyPackages are kept published per
	// account and cipher suite; 0 means 20, and more than 200 means 200. The pool is
	// refilled when fewer than a third are left.
	KeyPackages int
	// SignedOut, if set, is called once when it turns out that the key server has
	// ended this device's session: it was revoked, the password was changed on
	// another device, or the session was not used for too long. It is called by
	// the call that found out, must return at once and must not call the Client.
	// What is cached can still be read; Open continues with the password.
	SignedOut func()
	// Logger gets no names, addresses or secrets above debug level; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	pause func(ctx context.Context, d time.Duration) error // tests do not sleep
}

const (
	defaultKeyPackages = 20
	maxDeviceName      = 128 // that of the key server
)

func (o *Options) check() error {
	switch {
	case o.Server == nil:
		return errors.New("options: Server is missing")
	case o.Store == nil:
		return errors.New("options: Store is missing")
	case len(o.VaultKey) != 32:
		return errors.New("options: VaultKey must have 32 octets")
	case o.Origin == "":
		return errors.New("options: Origin is missing")
	case !utf8.ValidString(o.DeviceName) || strings.ContainsFunc(o.DeviceName, unicode.IsControl) || len(o.DeviceName) > maxDeviceName:
		return fmt.Errorf("options: DeviceName must be UTF-8 without control characters, of %d octets at most", maxDeviceName)
	case o.KeyPackages < 0:
		return errors.New("options: KeyPackages is negative")
	}
	if o.KeyPackages == 0 {
		o.KeyPackages = defaultKeyPackages
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
