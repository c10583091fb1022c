package control

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestStrangersGetNoWord: a listener hangs up on whom the check refuses and
// goes on with the next; a command hangs up on a listener of somebody else.
func TestStrangersGetNoWord(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, SocketName)
	made, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = made.Close() }()
	ln := made.(*listener)
	if ln.check == nil {
		t.Fatal("nobody is checked")
	}
	checked := 0
	ln.check = func(*net.UnixConn) error {
		if checked++; checked == 1 {
			return errStranger
		}
		return nil
	}
	stranger, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	owner, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close() }()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if checked != 2 {
		t.Fatalf("accepted after %d checks, want 2: the stranger is in", checked)
	}
	if _, err := owner.Write([]byte("o")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := conn.Read(b); err != nil || b[0] != 'o' {
		t.Errorf("accepted somebody who says %q, %v; want the owner", b, err)
	}
	if n, err := stranger.Read(b); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the stranger hears %d octets, %v", n, err)
	}

	got, err := dialChecked(t.Context(), socket, func(*net.UnixConn) error { return errStranger })
	if !errors.Is(err, errStranger) || got != nil {
		t.Errorf("a stranger's listener is talked to: %v, %v", got, err)
	}
}
