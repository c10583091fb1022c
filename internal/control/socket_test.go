package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// leaveBehind makes a socket file as a process leaves it that was killed.
func leaveBehind(t *testing.T, socket string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Fatal(err)
	}
}

// TestStaleSockets: one that was left behind is no running gateway and is
// replaced; a live one is left alone.
func TestStaleSockets(t *testing.T) {
	socket := filepath.Join(privateDir(t), SocketName)
	if _, err := Dial(t.Context(), socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial where nothing is: %v", err)
	}
	leaveBehind(t, socket)
	if _, err := Dial(t.Context(), socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial of a stale socket: %v", err)
	}
	r := &recorder{}
	serve(t, socket, r, nil)
	if _, err := Listen(socket); !errors.Is(err, ErrRunning) {
		t.Errorf("Listen beside a live gateway: %v", err)
	}
	if _, err := dial(t, socket).Status(t.Context()); err != nil {
		t.Errorf("the live gateway was disturbed: %v", err)
	}
}

// TestSocketsKeepOthersOut: by the modes of folder and file.
func TestSocketsKeepOthersOut(t *testing.T) {
	dir := privateDir(t)
	socket := filepath.Join(dir, SocketName)
	ln, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(socket)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v (%v)", info.Mode(), err)
	}
	if err := ln.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if runtime.GOOS == "windows" {
		return // there are no such modes
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "chmod 700 "+dir) {
		t.Errorf("Listen in a folder open to others: %v", err)
	}
}

// TestOtherFilesStay: what is no socket is not removed, nor is a socket that
// somebody else put in the place of ours.
func TestOtherFilesStay(t *testing.T) {
	socket := filepath.Join(privateDir(t), SocketName)
	if err := os.WriteFile(socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("Listen on a file: %v", err)
	}
	if b, err := os.ReadFile(socket); err != nil || string(b) != "mine" {
		t.Errorf("the file is gone: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	ln, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	leaveBehind(t, socket)
	if err := ln.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("another one's socket was removed: %v", err)
	}
}

// TestLongPaths: a data folder deep down works, or says what to do.
func TestLongPaths(t *testing.T) {
	dir := filepath.Join(privateDir(t), strings.Repeat("long-", 20), strings.Repeat("path-", 20))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, SocketName)
	if runtime.GOOS != "linux" {
		if _, err := Listen(socket); err == nil || !strings.Contains(err.Error(), "shorter data_dir") {
			t.Errorf("Listen: %v", err)
		}
		return
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "missing", SocketName)); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial where nothing is: %v", err)
	}
	serve(t, socket, &recorder{}, nil)
	if _, err := dial(t, socket).Status(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Listen(socket); !errors.Is(err, ErrRunning) {
		t.Errorf("Listen beside a live gateway: %v", err)
	}
}
