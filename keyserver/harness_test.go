package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/mls"
)

const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// clock is the injected time of a server; it stands still unless moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now().Truncate(time.Second)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a server, its clock and a client.
type world struct {
	*keyservertest.Server
	t     *testing.T
	clock *clock
	c     *keyclient.Client
}

func newWorld(t *testing.T, o keyserver.Options) *world {
	t.Helper()
	clock := newClock()
	o.Now = clock.now
	s := keyservertest.NewServer(t, keyservertest.Options{Server: o})
	return &world{Server: s, t: t, clock: clock, c: s.Client()}
}

// person is a user with one device and, after account, an account.
type person struct {
	w        *world
	name     string
	auth     []byte
	recovery []byte // what the recovery code derives
	device   ed25519.PrivateKey
	session  keyapi.Session
	identity ed25519.PrivateKey
	account  keyapi.Account
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func newKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(random(32)) }

func public(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }

func (p *person) deviceInfo() keyapi.Device {
	return keyapi.Device{Name: "device", Key: public(p.device)}
}

func (w *world) register(name string) *person {
	w.t.Helper()
	p := &person{w: w, name: name, auth: random(32), recovery: random(32), device: newKey(), identity: newKey()}
	s, err := w.c.Register(w.t.Context(), keyapi.RegisterRequest{
		Username: name, AuthVersion: 1, UserID: random(16), Auth: p.auth, Device: p.deviceInfo(),
		RecoveryAuth: p.recovery, KDFTag: random(32),
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	if err != nil {
		w.t.Fatalf("register: %v", err)
	}
	p.session = s
	return p
}

// person registers a user with the e-mail account name@example.org.
func (w *world) person(name string) *person {
	w.t.Helper()
	p := w.register(name)
	p.claim(keyapi.Account{Platform: "email", ID: name + "@example.org"})
	return p
}

func (p *person) claim(a keyapi.Account) {
	p.w.t.Helper()
	p.account = a
	_, err := p.w.c.AddAccount(p.w.t.Context(), p.token(), keyapi.AccountRequest{Account: a, IdentityKey: public(p.identity)})
	if err != nil {
		p.w.t.Fatalf("claim account: %v", err)
	}
}

func (p *person) token() string { return p.session.AccessToken }

func (p *person) login(device ed25519.PrivateKey, auth []byte) (keyapi.Session, error) {
	return p.w.c.Login(p.w.t.Context(), keyapi.LoginRequest{
		Username: p.name, AuthVersion: 1, Auth: auth, Device: keyapi.Device{Name: "device", Key: public(device)},
	})
}

func (p *person) refresh(token []byte, device ed25519.PrivateKey) (keyapi.Session, error) {
	r := keyapi.RefreshRequest{RefreshToken: token, Time: p.w.clock.now()}
	r.Signature = ed25519.Sign(device, keyapi.RefreshSigningInput(p.w.Origin, r))
	return p.w.c.Refresh(p.w.t.Context(), r)
}

// credential makes the leaf certificate of an account for a leaf key.
func credential(t *testing.T, identity ed25519.PrivateKey, a keyapi.Account, leaf []byte, now time.Time) mls.Credential {
	t.Helper()
	c := keyapi.LeafCert{
		Platform: a.Platform, AccountID: a.ID, LeafKey: leaf, Suite: uint16(suite),
		NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(90 * 24 * time.Hour).Unix()),
	}
	if err := c.Sign(identity); err != nil {
		t.Fatalf("sign leaf certificate: %v", err)
	}
	b, err := c.MarshalBinary()
	if err != nil {
		t.Fatalf("encode leaf certificate: %v", err)
	}
	return mls.NewBasicCredential(b)
}

// keyPackage makes a published form; change, if set, alters the options.
func (p *person) keyPackage(change func(*mls.KeyPackageOptions)) []byte {
	p.w.t.Helper()
	private, leaf, err := mls.GenerateSignatureKey(suite)
	if err != nil {
		p.w.t.Fatal(err)
	}
	now := p.w.clock.now()
	o := mls.KeyPackageOptions{
		CipherSuite: suite, SignatureKey: private, Credential: credential(p.w.t, p.identity, p.account, leaf, now),
		Lifetime: mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(90 * 24 * time.Hour).Unix())},
	}
	if change != nil {
		change(&o)
	}
	kp, _, err := mls.NewKeyPackage(o)
	if err != nil {
		p.w.t.Fatalf("make KeyPackage: %v", err)
	}
	b, err := kp.MarshalBinary()
	if err != nil {
		p.w.t.Fatal(err)
	}
	return b
}

func (p *person) tx(t keyapi.Tx) (keyapi.TxResult, error) {
	return p.w.c.Tx(p.w.t.Context(), p.token(), t)
}

func (p *person) inbox(after uint64) []keyapi.Delivery {
	p.w.t.Helper()
	d, err := p.w.c.Deliveries(p.w.t.Context(), p.token(), keyapi.DeliveryQuery{Account: p.account, After: after})
	if err != nil {
		p.w.t.Fatalf("read inbox: %v", err)
	}
	return d.Messages
}

// object reads one object; counter 0 means that there is none.
func (p *person) object(id keyapi.ObjectID) (counter uint64, data []byte) {
	p.w.t.Helper()
	l, err := p.w.c.Objects(p.w.t.Context(), p.token(), []keyapi.ObjectID{id})
	if err != nil {
		p.w.t.Fatalf("read object: %v", err)
	}
	if len(l.Objects) == 0 {
		return 0, nil
	}
	return l.Objects[0].Counter, l.Objects[0].Data
}

func objectID(name string) keyapi.ObjectID { return sha256.Sum256([]byte(name)) }

func put(name string, counter uint64, data string) keyapi.Object {
	return keyapi.Object{ID: objectID(name), Counter: counter, Data: []byte(data)}
}

// group is what a member knows of a group's instance: enough to commit.
type group struct {
	conversation, id []byte
	kind             keyapi.Kind
	pair             []keyapi.Account
	epoch            uint64
	secret           []byte
}

func newGroup() *group {
	return &group{conversation: random(16), id: random(32), kind: keyapi.KindGroup, secret: random(32)}
}

func newDialog(a, b keyapi.Account) *group {
	id := groupid.Dialog(a.Platform, a.ID, b.ID)
	return &group{conversation: id[:], id: random(32), kind: keyapi.KindDialog, pair: []keyapi.Account{a, b}, secret: random(32)}
}

func (g *group) token(epoch uint64) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "%x %d", g.secret, epoch))
	return h[:]
}

// commit prepares the Commit that leaves the group's epoch; create makes the
// instance with it.
func (g *group) commit(sender keyapi.Account, message string, to ...keyapi.Account) *keyapi.CommitSubmission {
	hash := sha256.Sum256(g.token(g.epoch + 1))
	return &keyapi.CommitSubmission{
		Conversation: g.conversation, Kind: g.kind, Pair: g.pair, Sender: sender, Group: g.id, Epoch: g.epoch,
		Token: g.token(g.epoch), TokenHash: hash[:], Commit: []byte(message), Recipients: to,
	}
}

func (g *group) create(sender keyapi.Account, message string, joiners ...keyapi.Account) *keyapi.CommitSubmission {
	c := g.commit(sender, message, sender)
	c.Create, c.Token = true, nil
	if len(joiners) > 0 {
		c.Welcome, c.Joiners = []byte("welcome of "+message), joiners
	}
	return c
}

func (p *person) mustCommit(g *group, c *keyapi.CommitSubmission) {
	p.w.t.Helper()
	r, err := p.tx(keyapi.Tx{Commit: c})
	if err != nil {
		p.w.t.Fatalf("commit in epoch %d: %v", c.Epoch, err)
	}
	if r.Epoch != g.epoch+1 {
		p.w.t.Fatalf("commit opened epoch %d, want %d", r.Epoch, g.epoch+1)
	}
	g.epoch = r.Epoch
}

// wantCode fails unless err is the key server's own problem with this code.
func wantCode(t *testing.T, err error, code string) *keyapi.Problem {
	t.Helper()
	var p *keyapi.Problem
	if !errors.As(err, &p) || p.Code != code {
		t.Fatalf("got error %v, want problem %s", err, code)
	}
	return p
}

func wantMessages(t *testing.T, got []keyapi.Delivery, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d messages, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].Message, []byte(want[i])) {
			t.Fatalf("message %d is %q, want %q", i, got[i].Message, want[i])
		}
	}
}

func sha256Of(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// awaitPolls returns once n long-polls wait at the server.
func (w *world) awaitPolls(n int) {
	for w.Handler.Waiting() != n {
		if w.t.Context().Err() != nil {
			return
		}
		runtime.Gosched()
	}
}
