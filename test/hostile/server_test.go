package hostile

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

// patience bounds what may take long on a busy machine.
const patience = 2 * time.Minute

// start starts a server with the limits that operators have, but for the rates
// of registration, which the neighbours would run into.
func start(t *testing.T) *process.Process {
	t.Helper()
	l := keyserver.DefaultLimits()
	l.Registrations = keyservertest.Unlimited().Registrations
	p, err := process.Start(process.Config{File: filepath.Join(t.TempDir(), "keyserver.db"), Limits: l})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// dial connects from an address of loopback; the server takes each /24 for a
// network.
func dial(t *testing.T, p *process.Process, network, host int) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(10+network>>8), byte(network), byte(1+host%250))}}
	c, err := d.DialContext(t.Context(), "tcp", p.Address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.SetDeadline(time.Now().Add(patience))
}

func mustDial(t *testing.T, p *process.Process, network, host int) net.Conn {
	t.Helper()
	c, err := dial(t, p, network, host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// person is a well-behaved user.
type person struct {
	token   string
	account keyapi.Account
	object  keyapi.ObjectID
	counter uint64
}

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
	p := &person{token: s.AccessToken, account: keyapi.Account{Platform: "email", ID: name + "@example.org"}, object: keyapi.ObjectID(random(32))}
	_, err = c.AddAccount(ctx, p.token, keyapi.AccountRequest{Account: p.account, IdentityKey: identity.Public().(ed25519.PublicKey)})
	return p, err
}

func client(t *testing.T, p *process.Process) *keyclient.Client {
	t.Helper()
	c, err := keyclient.New(keyclient.Options{URL: "http://" + p.Address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newPerson(t *testing.T, c *keyclient.Client, name string) *person {
	t.Helper()
	p, err := register(t.Context(), c, name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// neighbours is a person from another network, at work until the attack is over.
// No request of hers may fail, and she does get on.
func neighbours(t *testing.T, server *process.Process) (done func()) {
	t.Helper()
	c := client(t, server)
	her := newPerson(t, c, "neighbour")
	stop := make(chan struct{})
	served := 0
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if failed = her.visit(context.WithoutCancel(t.Context()), c, served); failed != nil {
				return
			}
			served++
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return func() {
		t.Helper()
		close(stop)
		wg.Wait()
		if failed != nil {
			t.Errorf("after %d visits the neighbour was not served: %v", served, failed)
		}
		t.Logf("the neighbour was served %d times", served)
	}
}

// visit asks what needs no token, now and then, writes and reads.
func (p *person) visit(ctx context.Context, c *keyclient.Client, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if n%20 == 0 {
		if _, err := c.Params(ctx, keyapi.ParamsRequest{Username: "neighbour"}); err != nil {
			return err
		}
	}
	put := keyapi.Tx{Put: []keyapi.Object{{ID: p.object, Counter: p.counter + 1, Data: []byte("state")}}}
	if _, err := c.Tx(ctx, p.token, put); err != nil {
		return err
	}
	p.counter++
	_, err := c.Deliveries(ctx, p.token, keyapi.DeliveryQuery{Account: p.account})
	return err
}

// answer reads an answer; of an error the problem.
func answer(t *testing.T, c net.Conn, r *bufio.Reader) (status int, problem keyapi.Problem, err error) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, problem, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return resp.StatusCode, problem, err
	}
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		err = json.Unmarshal(b, &problem)
	}
	return resp.StatusCode, problem, err
}

// wantProblem reads an answer that must be this problem.
func wantProblem(t *testing.T, c net.Conn, status int, code string) {
	t.Helper()
	got, p, err := answer(t, c, bufio.NewReader(c))
	if err != nil || got != status || p.Code != code || p.Status != status || p.Detail == "" {
		t.Errorf("%v: status %d, %+v; want %d %s", err, got, p, status, code)
	}
}

// bounded fails where a server holds more memory than most octets beyond what it
// held before.
func bounded(t *testing.T, what string, server *process.Process, before process.Memory, most int64) process.Memory {
	t.Helper()
	m, err := server.Memory()
	if err != nil {
		t.Fatal(err)
	}
	grown := m.Total() - before.Total()
	t.Logf("%s: heap grew by %.1f MiB, stacks by %.1f, %d goroutines", what, float64(m.Heap-before.Heap)/(1<<20), float64(m.Stack-before.Stack)/(1<<20), m.Goroutines)
	if grown > most {
		t.Errorf("%s: heap and stacks grew by %d octets, more than %d", what, grown, most)
	}
	return m
}

func memory(t *testing.T, server *process.Process) process.Memory {
	t.Helper()
	m, err := server.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
