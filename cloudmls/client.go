package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// Recovery is shown to the user once, at registration.
type Recovery struct {
	Code string // 160 bits; replaces a forgotten password
}

// Client is one user signed in on one device. It is safe for concurrent use.
type Client struct {
	o      Options
	store  *state.Store
	locks  locks
	epochs epochCache
	memo   memo
	certs  certified
	asked  asked
	closed atomic.Bool
	apart  atomic.Bool // deliveries and objects are two servers'

	moveStep int // octets of history that are sealed anew at once

	mu       sync.Mutex
	health   map[Account]Status         // without Problems
	reserved map[string]blockID         // by blockName: the block that this Client reserved last
	blocks   map[string]generationBlock // by blockName: what is on the disk
	taken    map[string]taken           // by blockName: how far this Client is in its block
	began    Moment                     // of the Sync that began last, whichever account's
	synced   map[Account]Moment         // of the Sync that began last of those that went through
	queued   map[Account]uint64         // up to where what was delivered is in the state, or changed nothing
	named    map[string]naming          // what the key server said of identity keys lately
	resting  map[string]time.Time       // by conversationLock: when mend last failed
	behind   map[string]behindMark      // by conversationLock: see noteBehind
	deleted  []ConversationID           // see DeletedHistory
	waiters  map[*waiter]bool           // calls of Wait
	waiting  waitingList                // messages that could not be opened yet; nil: not read yet
}

// Register creates a user at the key server and signs this device in. The
// password never leaves the device. The recovery code exists nowhere else.
func Register(ctx context.Context, username, password string, o Options) (*Client, *Recovery, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	s, code, err := state.Register(ctx, username, password, o.config())
	if err != nil {
		return nil, nil, fmt.Errorf("register: %w", err)
	}
	c, err := newClient(s, o)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return c, &Recovery{Code: code}, nil
}

// Open signs this device in with name and password; a new device needs nothing
// else to read the whole history.
func Open(ctx context.Context, username, password string, o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := state.Open(ctx, username, password, o.config())
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return openClient(s, o)
}

// Resume continues on a device that was signed in before, without the
// password. It works without the key server; cached state can be read, and
// messages can be encrypted while a reserved block of generations lasts.
func Resume(ctx context.Context, o Options) (*Client, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := state.Resume(ctx, o.config())
	if err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	return openClient(s, o)
}

func (o *Options) config() state.Config {
	return state.Config{
		Server: o.Server, Local: o.Store, VaultKey: o.VaultKey, DeviceName: o.DeviceName, Invitation: o.Invitation,
		Origin: o.Origin, Now: o.Now, Logger: o.Logger, SignedOut: o.SignedOut, DialStore: o.DialStore,
		Pause: o.pause,
	}
}

func openClient(s *state.Store, o Options) (*Client, error) {
	c, err := newClient(s, o)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return c, nil
}

func newClient(s *state.Store, o Options) (*Client, error) {
	c := &Client{
		o: o, store: s, health: map[Account]Status{}, reserved: map[string]blockID{},
		synced: map[Account]Moment{}, named: map[string]naming{}, taken: map[string]taken{}, blocks: map[string]generationBlock{}, resting: map[string]time.Time{},
		behind: map[string]behindMark{}, queued: map[Account]uint64{}, waiters: map[*waiter]bool{}, moveStep: moveStep,
	}
	if err := c.markDevice(); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the use of the client; the device stays signed in. Options.Store
// stays open. It waits for nothing: Wait ends at once, and calls under way before
// their next step, with ErrClosed; Options.Store is closed best when they have ended.
func (c *Client) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	defer c.endWaits()
	return c.store.Close()
}

// SignOut ends this device's session, destroys its data, takes it out of the user's devices and
// wipes its local records, but for sealed notes by which a roll-back would show when
// the user signs in on it again. The records are wiped, and the Client is closed, even
// where the key server cannot be told; the error then says so, and RevokeDevice
// on another device does the rest.
func (c *Client) SignOut(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	err := c.store.SignOut(ctx)
	c.closed.Store(true)
	c.endWaits()
	if s, ok := c.o.Store.(Scrubber); ok { // the vault is deleted, not yet overwritten
		if e := s.Scrub(); e != nil {
			err = errors.Join(err, fmt.Errorf("clean local store: %w", e))
		}
	}
	if err != nil {
		return fmt.Errorf("sign out: %w", err)
	}
	return nil
}

// EndSession signs this device out and keeps its data: it ends the session at
// the key server and closes the Client. What is cached can be read after Resume,
// and Open continues with the password; the device stays one of the user's. Where
// the key server cannot be told, the session is forgotten here all the same, and
// the error says so.
func (c *Client) EndSession(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	err := c.store.EndSession(ctx)
	if err != nil {
		err = fmt.Errorf("end session: %w", err)
	}
	return errors.Join(err, c.Close())
}

// SignedIn tells whether this device has a session at the key server, as far as
// is known without asking.
func (c *Client) SignedIn() bool { return c.store.SignedIn() }

func (c *Client) usable() error {
	if c.closed.Load() {
		return ErrClosed
	}
	return nil
}

// own brings one of the user's accounts into canonical form and checks that it
// was added.
func (c *Client) own(ctx context.Context, a Account) (Account, error) {
	if err := c.usable(); err != nil {
		return Account{}, err
	}
	self, err := canonical(a)
	if err != nil {
		return Account{}, err
	}
	id, err := c.knownIdentity(ctx, self)
	if err != nil {
		return Account{}, err
	}
	if id == nil || !id.Registered {
		return Account{}, fmt.Errorf("%w: %s", ErrNoAccount, self)
	}
	return self, nil
}

// reader is the account's records as last verified, for reading.
func (c *Client) reader(ctx context.Context, self Account) *view {
	return &view{
		self:   self,
		source: func(k state.Key) ([]byte, error) { return c.store.Get(ctx, k) },
		puts:   map[state.Key][]byte{},
		certs:  &c.certs,
	}
}

// update runs fn in one transaction; see state.Store.Update.
func (c *Client) update(ctx context.Context, self Account, fn func(tx *state.Tx, v *view) error) error {
	return c.store.Update(ctx, func(tx *state.Tx) error {
		v := newView(tx, self, &c.certs)
		if err := fn(tx, v); err != nil {
			return err
		}
		return v.flush(tx)
	})
}

func (c *Client) now() time.Time { return c.o.Now() }

// Accounts lists the user's accounts, sorted.
func (c *Client) Accounts(ctx context.Context) ([]Account, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	keys, err := c.store.List(ctx, state.TypeIdentity)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	var accounts []Account
	for _, k := range keys {
		id, err := c.identity(ctx, k.Account)
		if err != nil {
			return nil, err
		}
		if id != nil && id.Registered {
			accounts = append(accounts, k.Account)
		}
	}
	slices.SortFunc(accounts, compareAccounts)
	return accounts, nil
}

// SealPersonal seals data that only this user's devices can open; no ratchet
// is touched and the key server is not needed. For drafts and other own uploads.
func (c *Client) SealPersonal(ctx context.Context, self Account, plaintext []byte) ([]byte, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	sealed, err := c.store.SealPersonal(ctx, plaintext, personalBinding(self))
	if err != nil {
		return nil, fmt.Errorf("seal own data: %w", err)
	}
	return sealed, nil
}

// OpenPersonal opens what SealPersonal made for the same account, on any
// device of the user.
func (c *Client) OpenPersonal(ctx context.Context, self Account, sealed []byte) ([]byte, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	plaintext, err := c.store.OpenPersonal(ctx, sealed, personalBinding(self))
	if err != nil {
		return nil, fmt.Errorf("open own data: %w", err)
	}
	return plaintext, nil
}

func personalBinding(self Account) []byte { return []byte(self.Platform + "\x00" + self.ID) }
