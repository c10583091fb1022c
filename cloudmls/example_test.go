package cloudmls_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// A messenger: people register, say something and read what others say. What
// Encrypt returns travels over the messenger's own wire (here: a variable).
func Example() {
	ctx := context.Background()
	keys := startKeyServer() // keyclient.New(keyclient.Options{URL: "https://keys.example.org"})
	defer keys.stop()

	join := func(name string) (*cloudmls.Client, cloudmls.Account) {
		client, recovery, err := cloudmls.Register(ctx, name, name+"'s long password", cloudmls.Options{
			Server: keys.client(), Origin: keys.origin, // the name under which all know the key server
			Store:    cloudmls.NewMemoryStore(), // boltstore.Open("alice.db")
			VaultKey: make([]byte, 32),          // random, kept in the system's key ring
		})
		if err != nil {
			log.Fatal(err)
		}
		_ = recovery.Code // shown to the user, once
		self := cloudmls.Account{Platform: "chat", ID: name}
		if err := client.AddAccount(ctx, self); err != nil {
			log.Fatal(err)
		}
		return client, self
	}
	atAlice, alice := join("alice")
	defer atAlice.Close()
	atBob, bob := join("bob")
	defer atBob.Close()

	dialog, err := atAlice.Ensure(ctx, alice, cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{bob}})
	if err != nil {
		log.Fatal(err) // never a reason to send in clear
	}
	sealed, err := atAlice.Encrypt(ctx, alice, dialog.ID, []byte("Hello Bob"), nil)
	if err != nil {
		log.Fatal(err)
	}
	plain, err := atBob.Decrypt(ctx, bob, sealed)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s (verified %v): %s\n", plain.Sender.ID, plain.Verified, plain.Data)
	// Output: alice (verified true): Hello Bob
}

// People compare a code over another channel; then messages say so.
func ExampleClient_Verify() {
	ctx := context.Background()
	x := startDialog()
	defer x.stop()

	code, err := x.atAlice.ComparisonCode(ctx, x.alice, x.bob)
	if err != nil {
		log.Fatal(err)
	}
	// Alice reads the 60 digits to Bob, who types them in.
	if err := x.atBob.Verify(ctx, x.bob, x.alice, code.Digits()); err != nil {
		log.Fatal(err)
	}
	sealed, err := x.atAlice.Encrypt(ctx, x.alice, x.dialog, []byte("It is me"), nil)
	if err != nil {
		log.Fatal(err)
	}
	plain, err := x.atBob.Decrypt(ctx, x.bob, sealed)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plain.SenderVerified)
	// Output: true
}

// A group has the people that a list names, as far as that is possible; who is
// missing is told with the reason.
func ExampleClient_Update() {
	ctx := context.Background()
	x := startDialog()
	defer x.stop()

	id, err := groupid.New()
	if err != nil {
		log.Fatal(err)
	}
	list := cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: []cloudmls.Account{x.bob}}
	team, err := x.atAlice.Update(ctx, x.alice, list)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("complete:", team.Complete)
	list.Members = append(list.Members, cloudmls.Account{Platform: "chat", ID: "nobody"})
	if team, err = x.atAlice.Update(ctx, x.alice, list); err != nil {
		log.Fatal(err)
	}
	for _, m := range team.Missing {
		fmt.Println("missing:", m.Account.ID, m.Why)
	}
	// Output:
	// complete: true
	// missing: nobody no account
}

// A stream carries content of any size: the bulk may lie anywhere, the message
// that opens it is small.
func ExampleClient_EncryptStream() {
	ctx := context.Background()
	x := startDialog()
	defer x.stop()

	var bulk strings.Builder
	film := strings.NewReader(strings.Repeat("frame ", 100_000))
	sealed, err := x.atAlice.EncryptStream(ctx, x.alice, x.dialog, &bulk, film, nil)
	if err != nil {
		log.Fatal(err)
	}
	stream, err := x.atBob.DecryptStream(ctx, x.bob, sealed, strings.NewReader(bulk.String()))
	if err != nil {
		log.Fatal(err)
	}
	first := make([]byte, 5)
	if _, err := stream.Read(first); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, %d octets\n", first, stream.Size)
	// Output: frame, 600000 octets
}

// A program follows what happens to its accounts: it waits, and looks when something
// came. What Sync gives is for people; messages that came too early may open now.
func ExampleClient_Wait() {
	ctx := context.Background()
	x := startDialog()
	defer x.stop()

	id, err := groupid.New()
	if err != nil {
		log.Fatal(err)
	}
	team := cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: []cloudmls.Account{x.bob}}
	if _, err := x.atAlice.Ensure(ctx, x.alice, team); err != nil {
		log.Fatal(err)
	}
	if err := x.atBob.Wait(ctx, x.bob); err != nil {
		log.Fatal(err) // the key server cannot be reached, say: later again
	}
	result, err := x.atBob.Sync(ctx, x.bob)
	if err != nil {
		log.Fatal(err)
	}
	waiting, err := x.atBob.Retryable(ctx, x.bob)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("joined:", len(result.Joined), "to open now:", len(waiting))
	if err := x.atBob.Maintain(ctx); err != nil { // once an hour
		log.Fatal(err)
	}
	// Output: joined: 1 to open now: 0
}
