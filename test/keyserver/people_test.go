package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/mls"
)

const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// person is a user with an account, signed in.
type person struct {
	token    string
	account  keyapi.Account
	identity ed25519.PrivateKey
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// newPerson registers before anything is killed.
func newPerson(t *testing.T, c *keyclient.Client, name string) *person {
	t.Helper()
	identity := ed25519.NewKeyFromSeed(random(32))
	device := ed25519.NewKeyFromSeed(random(32))
	s, err := c.Register(t.Context(), keyapi.RegisterRequest{
		Username: name, AuthVersion: 1, UserID: random(16), Auth: random(32), RecoveryAuth: random(32), KDFTag: random(32),
		Device: keyapi.Device{Name: "device", Key: device.Public().(ed25519.PublicKey)},
		KDF:    keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &person{token: s.AccessToken, account: keyapi.Account{Platform: "email", ID: name + "/x@example.org"}, identity: identity}
	_, err = c.AddAccount(t.Context(), p.token, keyapi.AccountRequest{Account: p.account, IdentityKey: identity.Public().(ed25519.PublicKey)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *person) keyPackage(t *testing.T, lastResort bool) []byte {
	t.Helper()
	private, leaf, err := mls.GenerateSignatureKey(suite)
	if err != nil {
		t.Fatal(err)
	}
	from, to := time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	cert := keyapi.LeafCert{
		Platform: p.account.Platform, AccountID: p.account.ID, LeafKey: leaf, Suite: uint16(suite),
		NotBefore: uint64(from.Unix()), NotAfter: uint64(to.Unix()),
	}
	if err := cert.Sign(p.identity); err != nil {
		t.Fatal(err)
	}
	identity, err := cert.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	kp, _, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: suite, SignatureKey: private, Credential: mls.NewBasicCredential(identity), LastResort: lastResort,
		Lifetime: mls.Lifetime{NotBefore: uint64(from.Unix()), NotAfter: uint64(to.Unix())},
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := kp.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// patience is how long a server may be unable to answer.
const patience = 40 * time.Second

// insist repeats a request, at any server, until the key server itself answers.
func insist(ctx context.Context, c *cluster, r *mathrand.Rand, do func(*keyclient.Client) error) error {
	for begin := time.Now(); ; {
		err := do(c.any(r))
		if !notAnswered(err) || ctx.Err() != nil || time.Since(begin) > patience {
			return err
		}
		pause(ctx, 5*time.Millisecond)
	}
}

// notAnswered: nothing is known, by whatever cause.
func notAnswered(err error) bool {
	return errors.Is(err, keyclient.ErrUnavailable) || keyclient.IsCode(err, keyapi.CodeUnavailable)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func objectID(name string) keyapi.ObjectID { return sha256.Sum256([]byte(name)) }

// group is a conversation; its tokens are known to everybody who tries.
type group struct{ conversation, id, secret []byte }

func newGroup() *group { return &group{random(16), random(32), random(32)} }

func (g *group) token(epoch uint64) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "%x %d", g.secret, epoch))
	return h[:]
}

func (g *group) commit(sender keyapi.Account, epoch uint64, text string, to []keyapi.Account) *keyapi.CommitSubmission {
	hash := sha256.Sum256(g.token(epoch + 1))
	return &keyapi.CommitSubmission{
		Conversation: g.conversation, Kind: keyapi.KindGroup, Sender: sender, Group: g.id, Epoch: epoch, Create: epoch == 0,
		Token: g.token(epoch), TokenHash: hash[:], Commit: []byte(text), Recipients: to,
	}
}
