package keyserver

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// TestFlaw20_PeersSeeAnotherIdentity: when the owner of an account proves it,
// those who wrote to whoever had claimed it before are not handed over in
// silence: nothing goes out until they have accepted the other identity.
func TestFlaw20_PeersSeeAnotherIdentity(t *testing.T) {
	mail := &keyservertest.Messenger{}
	ks := keyservertest.NewServer(t, keyservertest.Options{Server: keyserver.Options{Challengers: map[string]keyserver.Challenger{"email": mail}}})
	client := func(name string) *cloudmls.Client {
		server, err := keyclient.New(keyclient.Options{URL: ks.URL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		c, _, err := cloudmls.Register(t.Context(), name, "correct horse battery", cloudmls.Options{
			Server: server, Origin: keyservertest.Origin, Store: cloudmls.NewMemoryStore(), VaultKey: make([]byte, 32), DeviceName: name,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}
	mallory, alice, bob := client("mallory"), client("alice"), client("bob")
	hers, his := cloudmls.Account{Platform: "email", ID: "alice@example.org"}, cloudmls.Account{Platform: "email", ID: "bob@example.org"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(mallory.AddAccount(t.Context(), his))
	must(alice.AddAccount(t.Context(), hers))
	dialog := cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{hers, his}}
	begun, err := alice.Ensure(t.Context(), hers, dialog)
	must(err)
	_, err = alice.Encrypt(t.Context(), hers, begun.ID, []byte("for bob, as alice thinks"), nil)
	must(err)

	if err := bob.AddAccount(t.Context(), his); !keyclient.IsCode(err, keyapi.CodeVerificationRequired) {
		t.Fatalf("bob without a proof: %v", err)
	}
	challenge, err := bob.StartProof(t.Context(), his)
	must(err)
	must(bob.AnswerProof(t.Context(), his, challenge.ID, mail.Inbox(his)[0].Token1))

	r, err := alice.Reach(t.Context(), hers, his)
	if err != nil || !r.HasAccount || !r.Pinned || !r.Changed {
		t.Fatalf("alice sees %+v, %v", r, err)
	}
	// The gateway sends nothing from here on, by Reach (TestThreat48_ChangedIdentityIsNoticedWithinMinutes). A new group
	// of the dialog, which bob makes, is no way around it.
	_, err = bob.Ensure(t.Context(), his, dialog)
	must(err)
	synced, err := alice.Sync(t.Context(), hers)
	must(err)
	var changed *cloudmls.IdentityChangedError
	if len(synced.Problems) != 1 || !errors.As(synced.Problems[0].Err, &changed) || changed.Account != his {
		t.Fatalf("alice is told %+v", synced)
	}
	if _, err := mallory.Sync(t.Context(), his); err == nil {
		t.Error("mallory follows the account still")
	}
	must(alice.AcceptIdentity(t.Context(), hers, his, changed.Key))
	again, err := alice.Ensure(t.Context(), hers, dialog)
	must(err)
	text, err := alice.Encrypt(t.Context(), hers, again.ID, []byte("now for bob"), nil)
	must(err)
	_, err = bob.Sync(t.Context(), his)
	must(err)
	got, err := bob.Decrypt(t.Context(), his, text)
	if err != nil || string(got.Data) != "now for bob" {
		t.Errorf("bob reads %q, %v", got.Data, err)
	}
	if _, err := mallory.Decrypt(t.Context(), his, text); err == nil {
		t.Error("mallory reads what is for bob")
	}
}
