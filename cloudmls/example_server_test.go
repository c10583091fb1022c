package cloudmls_test

import (
	"context"
	"log"
	"os"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// exampleServer is a key server on loopback, for examples.
type exampleServer struct {
	testing.TB // what keyservertest needs of it is below
	server     *keyservertest.Server
	origin     string
	dir        string
	ends       []func()
}

func startKeyServer() *exampleServer {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	s := &exampleServer{dir: dir}
	s.server = keyservertest.NewServer(s, keyservertest.Options{})
	s.origin = s.server.Origin
	return s
}

func (s *exampleServer) client() *keyclient.Client { return s.server.Client() }

func (s *exampleServer) stop() {
	for i := len(s.ends) - 1; i >= 0; i-- {
		s.ends[i]()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		log.Fatal(err)
	}
}

func (s *exampleServer) Helper()                        {}
func (s *exampleServer) TempDir() string                { return s.dir }
func (s *exampleServer) Cleanup(end func())             { s.ends = append(s.ends, end) }
func (s *exampleServer) Errorf(format string, a ...any) { log.Fatalf(format, a...) }
func (s *exampleServer) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }

// exampleDialog is Alice and Bob, who have a dialog.
type exampleDialog struct {
	*exampleServer
	atAlice, atBob *cloudmls.Client
	alice, bob     cloudmls.Account
	dialog         cloudmls.ConversationID
}

func startDialog() *exampleDialog {
	ctx := context.Background()
	x := &exampleDialog{exampleServer: startKeyServer()}
	join := func(name string) (*cloudmls.Client, cloudmls.Account) {
		self := cloudmls.Account{Platform: "chat", ID: name}
		client, _, err := cloudmls.Register(ctx, name, "a password of "+name, cloudmls.Options{
			Server: x.client(), Origin: x.origin, Store: cloudmls.NewMemoryStore(), VaultKey: make([]byte, 32),
		})
		if err == nil {
			err = client.AddAccount(ctx, self)
		}
		if err != nil {
			log.Fatal(err)
		}
		x.Cleanup(func() { client.Close() })
		return client, self
	}
	x.atAlice, x.alice = join("alice")
	x.atBob, x.bob = join("bob")
	s, err := x.atAlice.Ensure(ctx, x.alice, cloudmls.Conversation{Kind: cloudmls.KindDialog, Members: []cloudmls.Account{x.bob}})
	if err != nil {
		log.Fatal(err)
	}
	x.dialog = s.ID
	if _, err := x.atBob.Sync(ctx, x.bob); err != nil {
		log.Fatal(err)
	}
	return x
}
