package systemd

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready("nobody listens"); err != nil {
		t.Errorf("outside systemd: %v", err)
	}
	name := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	t.Setenv("NOTIFY_SOCKET", name)
	for _, c := range []struct {
		do   func() error
		want string
	}{
		{func() error { return Ready("two\nlines") }, "READY=1\nSTATUS=two lines"},
		{Reloading, "RELOADING=1\nMONOTONIC_USEC="},
		{Stopping, "STOPPING=1"},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 256)
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(b[:n]), c.want) {
			t.Errorf("got %q, want %q", b[:n], c.want)
		}
	}
	t.Setenv("NOTIFY_SOCKET", name+"-gone")
	if err := Stopping(); err == nil {
		t.Error("a socket that is not there gave no error")
	}
}

func TestToJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", s.Dev, s.Ino))
	if !ToJournal(f) {
		t.Error("the journal's stream was not recognised")
	}
	t.Setenv("JOURNAL_STREAM", "1:1")
	if ToJournal(f) {
		t.Error("another stream was taken for the journal's")
	}
}

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(NewHandler(&b, slog.LevelInfo)).With("account", 1).WithGroup("g")
	log.Debug("not this")
	log.Info("one", "k", "v w")
	log.Warn("two")
	log.Error("three\nlines")
	want := "<6>msg=one account=1 g.k=\"v w\"\n<4>msg=two account=1\n<3>msg=\"three\\nlines\" account=1\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
