package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/test/ports"
	"github.com/cloudmls/gateway/test/postgres"
)

var free = ports.New()

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloudmls": main})
}

// TestScripts runs the program as people do. Each script has a home of its own,
// a mail provider in memory with alice and bob (passwords secret-alice and
// secret-bob), free addresses, and the configuration of a key server
// (keyserver.toml) that is not started.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			return scriptEnvironment(e, []mailtest.User{{Address: "alice@a.test", Password: "secret-alice"}, {Address: "bob@a.test", Password: "secret-bob"}})
		},
		Condition: func(name string) (bool, error) {
			if name != "postgresql" {
				return false, fmt.Errorf("unknown condition %s", name)
			}
			found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
			return len(found) > 0 || os.Getenv("CLOUDMLS_E2E") == "require", err // in CI it is missing loudly
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"ready": ready, "serving": serving, "reloads": reloads, "postgres": startPostgreSQL},
	})
}

// scriptEnvironment gives a script its home, a provider and free addresses.
func scriptEnvironment(e *testscript.Env, people []mailtest.User) error {
	p := mailtest.NewT(e.T().(testing.TB), mailtest.Options{Security: mailtest.ImplicitTLS, Users: people})
	ca := filepath.Join(e.WorkDir, "provider.pem")
	if err := os.WriteFile(ca, p.AuthorityPEM(), 0o600); err != nil {
		return err
	}
	home := filepath.Join(e.WorkDir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	e.Setenv("HOME", home)
	e.Setenv("PROVIDER_IMAP", local(p.IMAPAddr()))
	e.Setenv("PROVIDER_SMTP", local(p.SMTPAddr()))
	e.Setenv("PROVIDER_CA", ca)
	for _, name := range []string{"KEYS", "IMAP1", "SMTP1", "IMAP2", "SMTP2"} {
		addr, err := free.Address()
		if err != nil {
			return err
		}
		e.Setenv(name, addr)
	}
	url := "http://" + e.Getenv("KEYS")
	e.Setenv("KEYSERVER", url)
	e.Setenv("OTHERNAME", "http://"+local(e.Getenv("KEYS")))
	text := fmt.Sprintf("listen = %q\norigin = %q\ndata_file = %q\n", e.Getenv("KEYS"), url, filepath.Join(e.WorkDir, "keys", "data.db"))
	return os.WriteFile(filepath.Join(e.WorkDir, "keyserver.toml"), []byte(text), 0o600)
}

// local names the provider as its certificate does.
func local(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return "localhost:" + port
}

// startPostgreSQL starts a database of its own and sets DSN.
func startPostgreSQL(ts *testscript.TestScript, _ bool, _ []string) {
	s, err := postgres.Start()
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Stop()) })
	dsn, err := s.NewDatabase()
	ts.Check(err)
	ts.Setenv("DSN", dsn)
}

// reloads waits until the gateway has read its configuration so many times
// again: reloads CONFIG N
func reloads(ts *testscript.TestScript, _ bool, args []string) {
	g, err := config.LoadGateway(ts.MkAbs(args[0]))
	ts.Check(err)
	s, err := control.Dial(context.Background(), controlSocket(g))
	ts.Check(err)
	defer func() { _ = s.Close() }()
	got := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, err := s.Status(context.Background())
		ts.Check(err)
		if got = status.Reloads; strconv.Itoa(got) == args[1] {
			return
		}
	}
	ts.Fatalf("%d reloads, want %s", got, args[1])
}

// serving waits until somebody listens on an address.
func serving(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if listening(context.Background(), args[0]) {
			return
		}
	}
	ts.Fatalf("nobody listens on %s", args[0])
}

// ready waits until the gateway of a configuration file answers; negated, until
// it has ended.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	g, err := config.LoadGateway(ts.MkAbs(args[0]))
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		s, err := control.Dial(context.Background(), controlSocket(g))
		if err == nil {
			_, err = s.Status(context.Background())
			_ = s.Close()
		}
		if (err == nil) != neg {
			return
		}
	}
	ts.Fatalf("the gateway of %s did not come to the wanted state", args[0])
}
