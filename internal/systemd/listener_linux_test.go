package systemd

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestListener starts itself as systemd would: through a shell that puts its
// own number into LISTEN_PID before it becomes the service.
func TestListener(t *testing.T) {
	if os.Getenv("TEST_AS_SERVICE") != "" {
		asService()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	run := func(env string) string {
		t.Helper()
		c := exec.CommandContext(t.Context(), "/bin/sh", "-c", env+` exec "$0" -test.run '^TestListener$'`, os.Args[0])
		c.Env = append(os.Environ(), "TEST_AS_SERVICE=1")
		c.ExtraFiles = []*os.File{socket}
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", env, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	answered := make(chan string, 1)
	go func() { // waits in the socket's queue until the service accepts
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer conn.Close()
		b, err := io.ReadAll(conn)
		answered <- fmt.Sprint(string(b), err)
	}()
	if out := run("LISTEN_PID=$$ LISTEN_FDS=1"); out != "accepted" {
		t.Errorf("the service said %q", out)
	}
	if got := <-answered; got != "hello<nil>" {
		t.Errorf("the client read %q", got)
	}
	if out := run("LISTEN_PID=1 LISTEN_FDS=1"); out != "no socket" {
		t.Errorf("another process's socket: %q", out)
	}
	if out := run("LISTEN_PID=$$ LISTEN_FDS=2"); !strings.Contains(out, "2 sockets") {
		t.Errorf("two sockets: %q", out)
	}
}

func asService() {
	ln, err := Listener()
	switch {
	case err != nil:
		fmt.Println(err)
		os.Exit(0)
	case ln == nil:
		fmt.Println("no socket")
		os.Exit(0)
	}
	if os.Getenv("LISTEN_FDS") != "" {
		fmt.Println("children would see the socket")
		os.Exit(1)
	}
	conn, err := ln.Accept()
	if err == nil {
		_, err = conn.Write([]byte("hello"))
	}
	if err == nil {
		err = conn.Close()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("accepted")
	os.Exit(0)
}
