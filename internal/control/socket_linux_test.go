package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestOtherUsersAreRefused: the superuser included, whom the modes let in.
func TestOtherUsersAreRefused(t *testing.T) {
	if err := checkUser(os.Geteuid()); err != nil {
		t.Errorf("oneself: %v", err)
	}
	for _, uid := range []int{os.Geteuid() + 1, os.Geteuid() + 65534, -1} {
		if err := checkUser(uid); !errors.Is(err, errStranger) {
			t.Errorf("user %d: %v", uid, err)
		}
	}
}

func TestOperators(t *testing.T) {
	for _, c := range []struct {
		own, peer int
		ok        bool
	}{{1000, 1000, true}, {1000, 1001, false}, {1000, 0, false}, {0, 0, true}, {0, 1000, true}} {
		if err := checkServiceUser(c.own, c.peer); (err == nil) != c.ok {
			t.Errorf("user %d asks a service of %d: %v", c.own, c.peer, err)
		}
	}
	socket := filepath.Join(t.TempDir(), "s", SocketName)
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := ListenForOperator(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			err = conn.Close()
		}
		accepted <- err
	}()
	conn, err := ConnectAsOperator(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.Close(), <-accepted); err != nil {
		t.Error(err)
	}
	if _, err := ConnectAsOperator(t.Context(), socket+"x"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("nobody listens: %v", err)
	}
}
