package state

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Config is what a Store needs. Server, Local, VaultKey and Origin are required.
type Config struct {
	Server Server
	Local  LocalStore
	// VaultKey, 32 octets, seals everything this device keeps. The caller holds
	// it in the keyring of the operating system or an equal place.
	VaultKey []byte
	// DeviceName is shown to the user's other devices; "" is allowed.
	DeviceName string
	// Invitation is shown to a key server that wants one of new users.
	Invitation string
	// Origin is the key server's name as configured by the user, never as told
	// by the server; it enters all key derivations.
	Origin string
	// KDF says how a new user's password is stretched; zero: the default. It
	// may be stronger than the default, never below the floors of package keys.
	KDF keyapi.KDF
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// SignedOut, if set, is called once when the server has ended this device's
	// session, by the call that found out. It must return at once and not call
	// the Store.
	SignedOut func()
	// Logger gets alarms and conflicts, no names; nil discards.
	Logger *slog.Logger

	// DialStore reaches a store of the user's own by its origin, and makes sure, as
	// by TLS, that nobody else answers for it; what is sent there signs in there.
	// nil: the state stays at the home store.
	DialStore func(ctx context.Context, origin string) (StoreServer, error)

	// Pause waits between two attempts; nil: with a timer. Tests do not sleep.
	Pause func(ctx context.Context, d time.Duration) error
}

func (c *Config) check() error {
	switch {
	case c.Server == nil:
		return errors.New("open state: Server is missing")
	case c.Local == nil:
		return errors.New("open state: Local is missing")
	case len(c.VaultKey) != secretSize:
		return fmt.Errorf("open state: VaultKey of %d octets, want %d", len(c.VaultKey), secretSize)
	case c.Origin == "":
		return errors.New("open state: Origin is missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Pause == nil {
		c.Pause = pause
	}
	return nil
}

// Store is a signed-in user's state. It is safe for concurrent use.
//
// Locks, in the order in which they may be taken: updates (one Update at a
// time, held across its network calls: updates of one user conflict with each
// other anyway, by the head), a sender's turn (one Swap at a time per object,
// across the network too), refreshes, follows, a depot's turn and the session's
// lock (one call at a time each), and publishing, which guards the LocalStore and the current view
// and is never held across the network.
type Store struct {
	cfg    Config
	locals *locals
	scope  keys.Scope
	slot   uint16

	updates    lock
	refreshes  lock
	publishing sync.Mutex
	now        atomic.Pointer[snapshot]
	ids        idCache
	alarm      atomic.Pointer[RollbackError]
	closed     atomic.Bool
	// wiped: SignOut has deleted this device's records; what a call that was under
	// way still wants to write stays unwritten. Read with publishing or vaultMu held.
	wiped atomic.Bool

	session session

	depot   atomic.Pointer[depot]     // which store has the objects, as far as is known
	follows lock                      // held while that is looked up
	blocked atomic.Pointer[time.Time] // since when a move keeps this device from writing; nil: none does
	opener  atomic.Pointer[keys.Wrapper]

	depotsMu sync.Mutex
	depots   map[string]*depot

	deferred deferred
	caches   sync.Map // *Cache by namespace; as many as the program names

	vaultMu sync.Mutex
	vault   *vault

	sendersMu sync.Mutex
	senders   map[keyapi.ObjectID]*sender
}

// snapshot is one consistent, verified state. It never changes.
type snapshot struct {
	view    *view
	ring    *keyring
	profile *profile
	roots   map[uint32][]byte
	newest  uint32 // version of ROOT that seals
}

// ErrClosed: Close was called, or the device signed out.
var ErrClosed = errors.New("client is closed")

func newStore(c Config, l *locals, v *vault) *Store {
	s := &Store{
		cfg: c, locals: l, vault: v, slot: v.Slot,
		scope:   keys.Scope{Origin: c.Origin, User: slices.Clone(v.UserID)},
		updates: newLock(), refreshes: newLock(), session: session{turn: newLock()},
		senders: map[keyapi.ObjectID]*sender{}, follows: newLock(), depots: map[string]*depot{},
	}
	s.depot.Store(s.homeDepot())
	if v.Directions != nil {
		if p, err := s.depotOf(v.Directions, v.Directions.At); err == nil {
			s.depot.Store(p)
		}
	}
	s.session.refresh = slices.Clone(v.Refresh)
	return s
}

// Close ends the use of the store; calls that follow fail. It does not close
// Config.Local.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// UserID is the user's 16 octets at this key server.
func (s *Store) UserID() []byte { return slices.Clone(s.scope.User) }

// Username is the name the user signs in with.
func (s *Store) Username() string {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	return s.vault.Username
}

// Origin is Config.Origin.
func (s *Store) Origin() string { return s.cfg.Origin }

// Slot is this device's number among the user's devices, never 0 and never
// shared with another of the user's devices, past ones included.
func (s *Store) Slot() uint16 { return s.slot }

// Err is the sticky *RollbackError, or nil.
func (s *Store) Err() error {
	if e := s.alarm.Load(); e != nil {
		return e
	}
	return nil
}

// usable says why nothing may be sent through the store, if so.
func (s *Store) usable() error {
	if s.closed.Load() {
		return ErrClosed
	}
	return s.Err()
}

// trip remembers an alarm and returns err as it is.
func (s *Store) trip(err error) error {
	var e *RollbackError
	if errors.As(err, &e) && s.alarm.CompareAndSwap(nil, e) {
		s.cfg.Logger.Error("key server state refused", "reason", e.Reason, "seen", e.Seen, "got", e.Got)
	}
	return err
}

// changeVault applies fn to the vault, durably, or not at all.
func (s *Store) changeVault(fn func(v *vault)) error {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	if s.wiped.Load() {
		return ErrClosed
	}
	next := *s.vault
	fn(&next)
	if err := s.locals.saveVault(&next); err != nil {
		return err
	}
	s.vault = &next
	return nil
}

// Derive gives a secret of the user, the same on all devices and for ever, one
// per label and bind.
func (s *Store) Derive(label string, bind []byte) [32]byte {
	info := binary.BigEndian.AppendUint32([]byte("cloudmls/1 derived"), uint32(len(label)))
	info = append(append(info, label...), bind...)
	m := hmac.New(sha256.New, s.now.Load().ring.Secret)
	m.Write(info)
	return [32]byte(m.Sum(nil))
}

// Backing off between attempts, with full jitter.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 2 * time.Second
)

func (s *Store) backOff(ctx context.Context, attempt int) error {
	d := min(firstPause<<min(attempt, 10), maxPause)
	return s.cfg.Pause(ctx, rand.N(d))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
