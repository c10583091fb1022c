//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

const (
	maxUsers   = 5
	maxDevices = 3
	serverURL  = "https://keys.test.example"
	password   = "password 0"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is one run: a key server, and users with devices.
type world struct {
	now    time.Time // the key server's
	server *keyserver.Server
	store  *boltstore.Store
	path   string // of its file
	liar   *liar  // the key server lies; nil: it does not
	users  []*user
	// busy are the operations under way, the innermost last.
	busy     []*frame
	delayed  []*letter
	messages []*message
	places   map[string]*message
	used     map[string]bool // handshake generations, by name
	talks    map[cloudmls.ConversationID]*talk
	log      strings.Builder
	json     bool  // bodies travel as JSON
	forget   bool  // at the end, time passes until what is kept for a while is gone
	broken   error // the first thing that should not be
	counts   map[string]int
	rotated  bool // somebody replaced identity keys, or tried
	// submitted is how often somebody gave the key server something for others.
	submitted int
	healthy   bool // all trouble is over, and everybody was told
	// unsteady: somebody's clock is, or was, off by minutes or more. When a group was
	// entered and when a key was replaced is then not certain, and a key that was
	// replaced vouches for nobody in a group entered since (docs/spec/sdk.md).
	unsteady bool
	skewed   bool          // somebody's calendar is, or was, wrong
	away     time.Duration // how much time passed in which nobody did anything
}

type user struct {
	w       *world
	name    string
	self    cloudmls.Account
	devices []*device
	// passwords that may be the user's: more than one where a change was cut off.
	passwords []string
	rotated   bool // all keys were replaced, or were to be
}

// device is one installation.
type device struct {
	w      *world
	u      *user
	name   string
	disk   *disk
	client *cloudmls.Client // nil: not running
	skew   time.Duration    // of its clock
	backup map[string][]byte
	frame  *frame // the operation under way
	// stale: its disk was set back, so that without the key server it may
	// repeat itself.
	stale bool
	// forked: it was shown another world, and has not been made anew since.
	forked bool
	lives  int // how often it was made anew
	// knows are the true keys that it has pinned, by account.
	knows map[cloudmls.Account]string
	// head and shown are what it has seen, and said, of the state.
	head  headSeen
	shown map[cloudmls.ConversationID]*shown
}

// template is a world in which everybody has signed in, made once.
type template struct {
	file  []byte // the key server's, up to its last octet that is not zero
	size  int64  // of the whole file
	disks [maxUsers][maxDevices]map[string][]byte
	now   time.Time
}

// folder for key servers' files, in memory where the system has that.
func folder(tb testing.TB) string {
	const shm = "/dev/shm"
	if _, err := os.Stat(shm); err != nil {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "model-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	return dir
}

func newWorld(path string, now time.Time) (*world, func() error, error) {
	w := &world{now: now, counts: map[string]int{}, places: map[string]*message{}, used: map[string]bool{}, talks: map[cloudmls.ConversationID]*talk{}}
	store, err := boltstore.Open(path)
	if err != nil {
		return nil, nil, err
	}
	w.store, w.path = store, path
	w.server, err = keyserver.New(keyserver.Options{
		Store: store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		Limits: keyservertest.Unlimited(), Now: w.clock,
	})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return w, func() error { return errors.Join(w.server.Close(), store.Close()) }, nil
}

// usedOnce is told of whatever must not be used twice.
func (w *world) usedOnce(name string) {
	if l := w.liar; l != nil && len(w.busy) > 0 {
		own := w.busy[len(w.busy)-1].d.life() + ": " + name
		if l.ownUse[own] {
			w.fail("%s is used twice by one device", own)
		}
		l.ownUse[own] = true
	}
	if w.used[name] && (w.liar == nil || !w.liar.split) {
		w.fail("%s is used twice", name)
	}
	w.used[name] = true
	w.counts["used once"]++
}

// clock is the key server's. Each look at it takes a millisecond.
func (w *world) clock() time.Time {
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func (w *world) addUser(n int) *user {
	name := string(rune('a' + n))
	u := &user{
		w: w, name: name, passwords: []string{password},
		self: cloudmls.Account{Platform: "chat", ID: "account of " + name},
	}
	w.users = append(w.users, u)
	return u
}

func (u *user) addDevice() *device {
	d := &device{w: u.w, u: u, name: fmt.Sprintf("%s%d", u.name, len(u.devices)), disk: newDisk(), knows: map[cloudmls.Account]string{}, shown: map[cloudmls.ConversationID]*shown{}}
	u.devices = append(u.devices, d)
	return d
}

func (d *device) options() (cloudmls.Options, error) {
	server, err := keyclient.New(keyclient.Options{URL: serverURL, CBOR: !d.w.json, HTTPClient: &http.Client{Transport: &wire{d}}})
	if err != nil {
		return cloudmls.Options{}, err
	}
	key := vaultKey(d.name)
	return cloudmls.Options{
		Server: server, Store: d.disk, VaultKey: key, Origin: keyservertest.Origin, DeviceName: d.name, KeyPackages: 3,
		Now: func() time.Time { return d.w.clock().Add(d.skew) },
	}, nil
}

// user is who has an account.
func (w *world) user(a cloudmls.Account) *user {
	return w.users[slices.IndexFunc(w.users, func(u *user) bool { return u.self == a })]
}

// vaultKey seals what a device keeps.
func vaultKey(device string) []byte {
	key := sha256.Sum256([]byte("vault key of " + device))
	return key[:]
}

// makeTemplate signs everybody in.
func makeTemplate(tb testing.TB, dir string) *template {
	tb.Helper()
	path := filepath.Join(dir, "template.db")
	w, end, err := newWorld(path, begin)
	if err != nil {
		tb.Fatal(err)
	}
	t := &template{}
	for n := range maxUsers {
		u := w.addUser(n)
		for k := range maxDevices {
			d := u.addDevice()
			o, err := d.options()
			if err != nil {
				tb.Fatal(err)
			}
			var c *cloudmls.Client
			if k == 0 {
				if c, _, err = cloudmls.Register(tb.Context(), u.name, password, o); err == nil {
					err = c.AddAccount(tb.Context(), u.self)
				}
			} else {
				c, err = cloudmls.Open(tb.Context(), u.name, password, o)
			}
			if err != nil {
				tb.Fatal(err)
			}
			if err := c.Close(); err != nil {
				tb.Fatal(err)
			}
			t.disks[n][k] = d.disk.copy()
		}
	}
	t.now = w.now
	if err := end(); err != nil {
		tb.Fatal(err)
	}
	if t.file, err = os.ReadFile(path); err != nil {
		tb.Fatal(err)
	}
	t.size = int64(len(t.file))
	t.file = bytes.TrimRight(t.file, "\x00")
	return t
}

// lay puts the key server's file there. Most of it is room to grow.
func (t *template) lay(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(t.file)
	return errors.Join(err, f.Truncate(t.size), f.Close())
}

// world makes a copy of the template with so many users and devices.
func (t *template) world(path string, users, devices int) (*world, func() error, error) {
	if err := t.lay(path); err != nil {
		return nil, nil, err
	}
	w, end, err := newWorld(path, t.now)
	if err != nil {
		return nil, nil, err
	}
	for n := range users {
		u := w.addUser(n)
		for k := range devices {
			d := u.addDevice()
			d.disk.values = (&disk{values: t.disks[n][k]}).copy()
		}
	}
	return w, end, nil
}

// fail notes the first thing that should not be.
func (w *world) fail(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
	w.note("FAIL: "+format, args...)
}

func (w *world) note(format string, args ...any) {
	fmt.Fprintf(&w.log, strings.Repeat("  ", len(w.busy))+format+"\n", args...)
}
