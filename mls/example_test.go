package mls_test

import (
	"fmt"
	"log"
	"time"

	"github.com/cloudmls/gateway/mls"
)

const suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519

// The life of a group: Alice creates it, adds Bob, both write, Alice removes
// Bob.
func Example() {
	now := time.Now()
	lifetime := mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.AddDate(0, 0, 90).Unix())}

	// The Authentication Service: who may call themselves what.
	validate := func(c mls.CredentialCheck) error {
		switch name := string(c.Credential.Identity); name {
		case "alice", "bob":
			return nil
		default:
			return fmt.Errorf("nobody is called %q", name)
		}
	}

	// Bob publishes a KeyPackage, after storing its secrets.
	bobKey, _, err := mls.GenerateSignatureKey(suite)
	check(err)
	bobPackage, bobSecrets, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: suite, Credential: mls.NewBasicCredential([]byte("bob")), SignatureKey: bobKey, Lifetime: lifetime,
	})
	check(err)

	// Alice creates a group and adds him.
	aliceKey, _, err := mls.GenerateSignatureKey(suite)
	check(err)
	alice, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: suite, Credential: mls.NewBasicCredential([]byte("alice")), SignatureKey: aliceKey, Lifetime: lifetime,
		Validate: validate,
	})
	check(err)
	check(bobPackage.Verify(now))
	pending, err := alice.Commit(mls.CommitOptions{Add: []*mls.KeyPackage{bobPackage}, Now: now})
	check(err)

	// Before the Commit is published, what follows from it is stored.
	_, err = pending.Staged.Group().MarshalBinary()
	check(err)

	// The delivery service accepted it: it takes effect, and Bob is told.
	check(alice.Merge(pending.Staged))
	bob, err := mls.JoinWelcome(pending.Welcome, mls.JoinOptions{Secrets: bobSecrets, Validate: validate})
	check(err)
	fmt.Println("members:", len(bob.Members()), "epoch:", bob.Epoch())

	// What reading this epoch takes, for ever.
	record, err := bob.Archive()
	check(err)

	// Alice writes.
	message, err := alice.Protect([]byte("hello"), mls.ProtectOptions{})
	check(err)
	received, err := bob.Process(message, now)
	check(err)
	fmt.Printf("bob reads: %s\n", received.(*mls.Application).Plaintext)
	again, err := record.Open(message)
	check(err)
	fmt.Printf("from the archive: %s, by %s\n", again.Plaintext, again.Credential.Identity)

	// Alice removes Bob.
	pending, err = alice.Commit(mls.CommitOptions{Remove: []mls.LeafIndex{bob.OwnLeaf()}})
	check(err)
	check(alice.Merge(pending.Staged))
	received, err = bob.Process(pending.Commit, now)
	check(err)
	fmt.Println("bob was removed:", received.(*mls.ReceivedCommit).SelfRemoved)

	// Output:
	// members: 2 epoch: 1
	// bob reads: hello
	// from the archive: hello, by alice
	// bob was removed: true
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
