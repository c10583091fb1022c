// Package keyserver kills key servers, and the database under them, while they
// are busy, and looks whether what clients were told can have happened in some
// order: objects changed by transactions, Commits and their deliveries, claims
// of KeyPackages (threat 26). Nothing acknowledged may be lost.
//
// CLOUDMLS_SOAK=30m goes on for that time; without it each store has some
// seconds. PostgreSQL comes from test/postgres/install.
package keyserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/keyserver/pgstore"
)

// What makes the test binary a server.
const (
	envListen = "KEYSERVER_TEST_LISTEN"
	envFile   = "KEYSERVER_TEST_FILE"
	envDSN    = "KEYSERVER_TEST_DSN"
)

func TestMain(m *testing.M) {
	if os.Getenv(envListen) != "" {
		fmt.Fprintln(os.Stderr, "key server:", serve())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve runs until it is killed, or its parent is gone.
func serve() error {
	store, err := openStore()
	if err != nil {
		return err
	}
	s, err := keyserver.New(keyserver.Options{
		Store: store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		Limits: keyservertest.Unlimited(),
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", os.Getenv(envListen))
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		os.Exit(0)
	}()
	fmt.Println("ready")
	return keyserver.HTTPServer(s, nil).Serve(ln)
}

// openStore tries until a database that is just restarting answers.
func openStore() (keyserver.Store, error) {
	if path := os.Getenv(envFile); path != "" {
		return boltstore.Open(path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		s, err := pgstore.Open(ctx, pgstore.Options{DSN: os.Getenv(envDSN), MaxConns: 6})
		if err == nil || !errors.Is(err, keyserver.ErrUnavailable) || ctx.Err() != nil {
			return s, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
