package state

import (
	"context"
	"errors"
	"log/slog"
	"time"

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
	// Origin is the key server's name as configured by the user, never as told
	// by the server; it enters all key derivations.
	Origin string
	// KDF says how a new user's password is stretched; zero: the default. It
	// may be stronger than the default, never below the floors of package keys.
	KDF keyapi.KDF
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Logger; nil discards.
	Logger *slog.Logger
}

// Store is a signed-in user's state. It is safe for concurrent use.
type Store struct{}

var errUnbuilt = errors.New("unbuilt")

// Register creates the user and an empty state. The recovery code is returned
// once and is not kept anywhere. After a crash or a lost answer, Register with
// the same arguments and LocalStore continues.
func Register(ctx context.Context, username, password string, c Config) (*Store, string, error) {
	return nil, "", errUnbuilt
}

// Open signs in with the password, on a new device or a known one.
func Open(ctx context.Context, username, password string, c Config) (*Store, error) {
	return nil, errUnbuilt
}

// Resume opens a device that has signed in before, without the password and
// without the network: the state is the one last verified. ErrNoVault if there
// is none.
func Resume(ctx context.Context, c Config) (*Store, error) { return nil, errUnbuilt }

// Close wipes what keys it can. It does not close Config.Local.
func (s *Store) Close() error { return nil }

// SignOut removes this device from the user's state, ends its session and wipes
// its local records, the cache included.
func (s *Store) SignOut(ctx context.Context) error { return errUnbuilt }

// UserID is the user's 16 octets at this key server.
func (s *Store) UserID() []byte { return nil }

// Username is the name the user signs in with.
func (s *Store) Username() string { return "" }

// Origin is Config.Origin.
func (s *Store) Origin() string { return "" }

// Slot is this device's number among the user's devices, never 0 and never
// shared with another of the user's devices.
func (s *Store) Slot() uint16 { return 0 }

// Authorized runs call with a valid access token. Where the server refuses the
// token, it is refreshed and call runs again, once.
func (s *Store) Authorized(ctx context.Context, call func(ctx context.Context, token string) error) error {
	return errUnbuilt
}

// Get returns the object's data from the verified state: from the local cache
// if that has it (no network), else from the server. ErrNotFound if the
// verified head says that there is none.
func (s *Store) Get(ctx context.Context, k Key) ([]byte, error) { return nil, errUnbuilt }

// List returns the keys of all objects of a type, sorted by account and name.
// Types other than group, epoch and sender cost no network once cached.
func (s *Store) List(ctx context.Context, t Type) ([]Key, error) { return nil, errUnbuilt }

// Refresh asks the server for a newer head and verifies it. changed tells
// whether anything but sender objects differs from before. A *RollbackError
// sticks.
func (s *Store) Refresh(ctx context.Context) (changed bool, err error) { return false, errUnbuilt }

// Err is the sticky *RollbackError, or nil.
func (s *Store) Err() error { return nil }

// Update runs fn on a consistent view and applies what it changed in one
// atomic step, together with the head. Where another device was faster
// (conflict), the view is refreshed and fn runs again, a bounded number of
// times, then ErrBusy. An error of fn changes nothing and is returned as it
// is. epoch_conflict and instance_conflict are returned as *keyapi.Problem
// without running fn again. Updates of one Store run one after another, across
// the network round trip too; fn must not call Update or Swap.
func (s *Store) Update(ctx context.Context, fn func(tx *Tx) error) error { return errUnbuilt }

// Swap changes one sender object without touching the head: fn gets the
// current data (nil where the verified state has none) and returns the new. fn
// runs again when another device was faster. When Swap returns nil, the new
// counter is durable on this device.
func (s *Store) Swap(ctx context.Context, k Key, fn func(old []byte) ([]byte, error)) error {
	return errUnbuilt
}

// SealPersonal seals data that only this user reads (own uploads) with the
// personal archive key, bound to bind. No network.
func (s *Store) SealPersonal(ctx context.Context, plaintext, bind []byte) ([]byte, error) {
	return nil, errUnbuilt
}

// OpenPersonal opens what SealPersonal sealed with the same bind, on any of
// the user's devices.
func (s *Store) OpenPersonal(ctx context.Context, sealed, bind []byte) ([]byte, error) {
	return nil, errUnbuilt
}

// Derive gives a secret of the user, the same on all devices and for ever, one
// per label and bind.
func (s *Store) Derive(label string, bind []byte) [32]byte { return [32]byte{} }

// Cache gives the sealed local key/value space of a namespace.
func (s *Store) Cache(namespace string) *Cache { return nil }

// Tx is the view and the changes of one Update. It is valid during fn only and
// not safe for concurrent use.
type Tx struct{}

// Get returns the object's data as of this transaction, its own writes
// included. ErrNotFound as for Store.Get.
func (t *Tx) Get(k Key) ([]byte, error) { return nil, errUnbuilt }

// List is Store.List as of this transaction.
func (t *Tx) List(ty Type) ([]Key, error) { return nil, errUnbuilt }

// Put sets the object's data. Sender objects may be put too.
func (t *Tx) Put(k Key, data []byte) error { return errUnbuilt }

// Delete removes the object; an absent one is no error.
func (t *Tx) Delete(k Key) error { return errUnbuilt }

// SetCommit submits a Commit (or creates an instance) in the same step. At
// most one per transaction.
func (t *Tx) SetCommit(c keyapi.CommitSubmission) error { return errUnbuilt }

// Ack acknowledges the account's deliveries up to seq in the same step.
func (t *Tx) Ack(a keyapi.Account, seq uint64) {}

// Cache is a namespace of sealed local records. It is this device's alone, a
// hint that may be lost, and safe for concurrent use.
type Cache struct{}

// Get returns nil, nil where there is no such record.
func (c *Cache) Get(key string) ([]byte, error) { return nil, errUnbuilt }

// Put stores a record durably.
func (c *Cache) Put(key string, v []byte) error { return errUnbuilt }

// Delete of an absent record is no error.
func (c *Cache) Delete(key string) error { return errUnbuilt }

// ForEach calls fn for each record of the namespace, in any order. fn must not
// call the cache.
func (c *Cache) ForEach(fn func(key string, v []byte) error) error { return errUnbuilt }
