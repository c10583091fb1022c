//go:build crashpoints && weakkdf

package model

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// bindingExtension is 0xF0C1 of docs/spec/sdk.md.
const bindingExtension mls.ExtensionType = 0xF0C1

// thief is who the lies are for: somebody who has keys of their own under the names
// of others, and who follows every group that one of these was let into.
type thief struct {
	l          *liar
	identities map[cloudmls.Account][]byte // seeds of identity keys, by whom they pretend to be
	forged     map[string]bool             // the public ones
	keys       []stolen
	epochs     []seat // every epoch of every group entered
	said       int    // forged messages
}

type stolen struct {
	of      cloudmls.Account
	secrets *mls.KeyPackageSecrets
}

// seat is an epoch of a group that the thief is in, under somebody's name.
type seat struct {
	of cloudmls.Account
	g  *mls.Group
}

// identity is the key that the thief has for an account.
func (t *thief) identity(of cloudmls.Account) ed25519.PrivateKey {
	seed := t.identities[of]
	if seed == nil {
		sum := sha256.Sum256([]byte("the thief's key for " + of.String()))
		seed = sum[:]
		t.identities[of] = seed
	}
	key := ed25519.NewKeyFromSeed(seed)
	t.forged[string(key.Public().(ed25519.PublicKey))] = true
	return key
}

// public is its public half.
func (t *thief) public(of cloudmls.Account) []byte {
	return bytes.Clone(t.identity(of).Public().(ed25519.PublicKey))
}

// keyPackage makes one of the thief's own in somebody's name.
func (t *thief) keyPackage(of cloudmls.Account, suite mls.CipherSuite) ([]byte, error) {
	now := t.l.w.now
	life := mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(80 * day).Unix())}
	private, public, err := mls.GenerateSignatureKey(suite)
	if err != nil {
		return nil, err
	}
	cert := keyapi.LeafCert{
		Platform: of.Platform, AccountID: of.ID, LeafKey: public, Suite: uint16(suite), NotBefore: life.NotBefore, NotAfter: life.NotAfter,
	}
	if err := cert.Sign(t.identity(of)); err != nil {
		return nil, err
	}
	octets, err := cert.MarshalBinary()
	if err != nil {
		return nil, err
	}
	capabilities := mls.DefaultCapabilities(suite, bindingExtension)
	capabilities.CipherSuites = []mls.CipherSuite{mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519, mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519}
	kp, secrets, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: suite, Credential: mls.NewBasicCredential(octets), SignatureKey: private, Lifetime: life, Capabilities: &capabilities,
	})
	if err != nil {
		return nil, err
	}
	t.keys = append(t.keys, stolen{of, secrets})
	return kp.MarshalBinary()
}

func believeAll(mls.CredentialCheck) error { return nil }

// overhear takes what was submitted: the thief enters whatever group it opens, and
// follows.
func (t *thief) overhear(c *keyapi.CommitSubmission) {
	if m, err := mls.ParseMessage(c.Welcome); err == nil {
		for _, k := range t.keys {
			g, err := mls.JoinWelcome(m, mls.JoinOptions{Secrets: k.secrets, Now: t.l.w.now, Validate: believeAll})
			if err == nil {
				t.epochs = append(t.epochs, seat{k.of, g})
				t.l.w.counts["the thief enters"]++
			}
		}
	}
	m, err := mls.ParseMessage(c.Commit)
	if err != nil {
		return
	}
	for _, s := range slices.Clone(t.epochs) {
		received, err := s.g.Clone().Process(m, t.l.w.now)
		if err != nil {
			continue
		}
		if commit, ok := received.(*mls.ReceivedCommit); ok && !commit.SelfRemoved {
			t.epochs = append(t.epochs, seat{s.of, commit.Staged.Group()})
		}
	}
}

// reads tries to open a message. Under the names that it gives the thief could.
func (t *thief) reads(sealed []byte) (names []cloudmls.Account) {
	m, err := mls.ParseMessage(sealed)
	if err != nil {
		t.l.w.fail("a message is no MLS message: %v", err)
		return nil
	}
	for _, s := range t.epochs {
		if received, err := s.g.Clone().Process(m, t.l.w.now); err == nil {
			if _, ok := received.(*mls.Application); ok {
				names = append(names, s.of)
			}
		}
	}
	return names
}

// holds tells whether the thief could read what was sent to people whom the sender's
// device knew by their true keys. It gives in whose place the thief reads it.
func (t *thief) holds(what string, sealed []byte, knew map[cloudmls.Account]string) []cloudmls.Account {
	names := t.reads(sealed)
	for _, name := range names {
		if knew[name] != "" {
			t.l.w.fail("the thief reads %s as %v, whom its sender knew", what, name)
		}
		t.l.w.counts["the thief reads on first contact"]++
	}
	return names
}

// speaks has the thief write in each of its groups, in the right form, and asks every
// device about it: nobody who knows the name by its true key takes it for theirs.
func (t *thief) speaks(seats []seat) {
	for _, s := range seats {
		sealed, err := s.speak(t)
		if err != nil {
			continue // it is out of the group, or at the end of its sequence
		}
		t.l.w.each(func(f *frame, c *cloudmls.Client) {
			p, err := c.Decrypt(context.Background(), f.d.u.self, sealed)
			switch {
			case err != nil:
			case f.d.u.self == s.of:
				t.l.w.fail("%s: opens what the thief says as %v", f.d.name, s.of)
			case p.SenderVerified, p.Verified && f.d.knows[s.of] != "" && f.d.knows[s.of] == string(f.d.pinned(c, s.of)):
				t.l.w.fail("%s: takes the thief for %v", f.d.name, s.of)
			default:
				t.l.w.counts["the thief is heard"]++
			}
		})
	}
}

// speak makes a message with the authenticated data of docs/spec/sdk.md.
func (s seat) speak(t *thief) ([]byte, error) {
	if s.g.Left() {
		return nil, errors.New("out of the group")
	}
	t.said++
	generation := uint32(100 + t.said)
	authenticator := s.g.EpochAuthenticator()
	tag := sha256.Sum256(append([]byte("cloudmls/1 epoch tag"), authenticator...))
	place := hmac.New(sha256.New, authenticator)
	place.Write([]byte("cloudmls/1 place tag"))
	place.Write(binary.BigEndian.AppendUint32(nil, uint32(s.g.OwnLeaf())))
	place.Write(binary.BigEndian.AppendUint32(nil, generation))
	aad := slices.Concat([]byte{1}, tag[:16], place.Sum(nil)[:8])
	m, err := s.g.Clone().Protect([]byte("the thief's words"), mls.ProtectOptions{AuthenticatedData: aad, Generation: &generation})
	if err != nil {
		return nil, err
	}
	return m.MarshalBinary()
}
