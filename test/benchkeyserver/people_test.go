package benchkeyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

// person is a user with an account, one object and a group of the own. Its
// methods are for one goroutine at a time.
type person struct {
	token   string
	account keyapi.Account
	next    *person // who gets the Commits

	counter uint64
	epoch   uint64
	group   [32]byte
	text    []byte // what is written, payload octets
}

// register makes a person, over HTTP.
func register(ctx context.Context, c *keyclient.Client, name string) (*person, error) {
	device, identity := ed25519.NewKeyFromSeed(random(32)), ed25519.NewKeyFromSeed(random(32))
	s, err := c.Register(ctx, keyapi.RegisterRequest{
		Username: name, AuthVersion: 1, UserID: random(16), Auth: random(32), RecoveryAuth: random(32), KDFTag: random(32),
		Device: keyapi.Device{Name: "device", Key: device.Public().(ed25519.PublicKey)},
		KDF:    keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	if err != nil {
		return nil, err
	}
	p := &person{token: s.AccessToken, account: keyapi.Account{Platform: "email", ID: name + "@example.org"}, group: [32]byte(random(32)), text: random(payload)}
	_, err = c.AddAccount(ctx, p.token, keyapi.AccountRequest{Account: p.account, IdentityKey: identity.Public().(ed25519.PublicKey)})
	return p, err
}

// registerMany makes n people, some at once; each one's next is the one behind.
func registerMany(b testing.TB, url, prefix string, n int) []*person {
	b.Helper()
	c, err := keyclient.New(keyclient.Options{URL: url})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	people, errs := make([]*person, n), make([]error, n)
	var wg sync.WaitGroup
	turns := make(chan struct{}, 32)
	for i := range n {
		turns <- struct{}{}
		wg.Go(func() {
			people[i], errs[i] = register(context.Background(), c, fmt.Sprintf("%s%d", prefix, i))
			<-turns
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			b.Fatal(err)
		}
		people[i].next = people[(i+1)%n]
	}
	return people
}

// prepare makes people in a store that no server has open, each with a stock of
// KeyPackages, which the store takes as they are.
func prepare(b testing.TB, c process.Config, n, stock int) []*person {
	b.Helper()
	store, err := c.Open()
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	}()
	s, err := keyserver.New(process.Server(store))
	if err != nil {
		b.Fatal(err)
	}
	h := httptest.NewServer(s)
	defer h.Close()
	people := registerMany(b, h.URL, "user", n)
	end := time.Now().Add(90 * 24 * time.Hour)
	for _, p := range people {
		err := store.Update(context.Background(), func(w keyserver.Writer) error {
			for range stock {
				if err := w.AddKeyPackage(p.account, &keyserver.KeyPackage{Ref: random(32), NotAfter: end, Data: random(payload)}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return people
}

func body(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	return b
}

// put changes the person's object.
func (p *person) put(w *wire) error {
	o := keyapi.Object{ID: keyapi.ObjectID(p.group), Counter: p.counter + 1, Data: p.text}
	if _, err := w.ask("POST", "/v1/tx", p.token, body(keyapi.Tx{Put: []keyapi.Object{o}})); err != nil {
		return err
	}
	p.counter++
	return nil
}

func (p *person) commitToken(epoch uint64) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "%x %d", p.group, epoch))
	return h[:]
}

// post opens the next epoch of the person's group; the Commit goes to next.
func (p *person) post(w *wire) error {
	hash := sha256.Sum256(p.commitToken(p.epoch + 1))
	c := &keyapi.CommitSubmission{
		Conversation: p.group[:16], Kind: keyapi.KindGroup, Sender: p.account, Group: p.group[:], Epoch: p.epoch, Create: p.epoch == 0,
		Token: p.commitToken(p.epoch), TokenHash: hash[:], Commit: p.text, Recipients: []keyapi.Account{p.next.account},
	}
	if _, err := w.ask("POST", "/v1/tx", p.token, body(keyapi.Tx{Commit: c})); err != nil {
		return err
	}
	p.epoch++
	return nil
}

// fetch reads the first message of the person's inbox.
func (p *person) fetch(w *wire) error {
	b, err := w.ask("GET", "/v1/delivery/email/"+p.account.ID+"?after=0&limit=1", p.token, nil)
	if err == nil && len(b) < payload {
		err = fmt.Errorf("an inbox of %d octets", len(b))
	}
	return err
}

// claim takes a KeyPackage of somebody.
func (p *person) claim(w *wire, of *person) error {
	b, err := w.ask("POST", "/v1/keypackages/email/"+of.account.ID+"/claim", p.token, nil)
	if err == nil && len(b) < payload {
		err = fmt.Errorf("a KeyPackage of %d octets", len(b))
	}
	return err
}
