package cloudmls_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// A messenger: register, say something, read what others say. What Encrypt
// returns travels over the messenger's own wire (send, receive).
func Example() {
	ctx := context.Background()
	keys, err := keyclient.New(keyclient.Options{URL: "https://keys.example.org"})
	if err != nil {
		log.Fatal(err)
	}
	store, err := boltstore.Open(filepath.Join(os.TempDir(), "alice.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	vaultKey := make([]byte, 32) // kept in the system's key ring
	rand.Read(vaultKey)

	client, err := cloudmls.Open(ctx, "alice", "her password", cloudmls.Options{
		Server: keys, Store: store, VaultKey: vaultKey, Origin: "https://keys.example.org",
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	alice := cloudmls.Account{Platform: "chat", ID: "alice"}
	bob := cloudmls.Account{Platform: "chat", ID: "bob"}
	dialog, err := client.Ensure(ctx, alice, cloudmls.Conversation{
		Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob},
	})
	if err != nil {
		log.Fatal(err) // never a reason to send in clear
	}
	sealed, err := client.Encrypt(ctx, alice, dialog.ID, []byte("Hello Bob"), nil)
	if err != nil {
		log.Fatal(err)
	}
	send(bob, sealed)

	for message := range receive(alice) {
		plain, err := client.Decrypt(ctx, alice, message)
		if err != nil {
			fmt.Println("cannot be opened:", err)
			continue
		}
		fmt.Printf("%s (verified %v): %s\n", plain.Sender.ID, plain.Verified, plain.Data)
	}
}

func send(cloudmls.Account, []byte) {}

func receive(cloudmls.Account) func(yield func([]byte) bool) { return func(func([]byte) bool) {} }
