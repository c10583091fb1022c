package crash

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// smallDisk puts a file system of so many octets into the place of a folder,
// which keeps its files.
func smallDisk(t *testing.T, folder string, size string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string][]byte{}
	for _, f := range files {
		if kept[f.Name()], err = os.ReadFile(filepath.Join(folder, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CLOUDMLS_E2E") != "require" {
			t.Skip("no right to mount a file system here (CAP_SYS_ADMIN)")
		}
		t.Fatalf("mount a small file system (the test needs CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, b := range kept {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes a file until the disk is full; free removes it.
func fill(t *testing.T, folder string) (free func()) {
	t.Helper()
	name := filepath.Join(folder, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for block := 64 << 10; block > 0; block /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, block))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
		err = nil
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDiskOfTheGateway: with no room left for what has to be durable
// before a ciphertext leaves, nothing leaves; with room again, everything goes
// on, without a restart and also after one.
func TestFullDiskOfTheGateway(t *testing.T) {
	lab.Need(t)
	s := stack.New(t, lab)
	b := &bench{Stack: s, t: t, load: &load{why: map[string]int{}}}
	b.a = s.Configure("alice", "alice", stack.Alice)
	data := filepath.Join(b.a.Dir, "data")
	smallDisk(t, data, "24m")
	b.a.Register()
	b.a.Run()
	b.b = s.AddUser("erin", stack.Erin, stack.Frank)
	first := b.sent(t, stack.Erin)

	free := fill(t, data)
	// The store has pages left that it can use again, so letters may still go
	// out; once it has none, the answer says that nothing was sent, and is temporary.
	var err error
	for n := 0; err == nil && n < 100; n++ {
		_, err = b.letter([]string{stack.Erin}, nil, 400)
	}
	if text := fmt.Sprint(err); err != nil && !strings.Contains(text, "othing was sent") {
		t.Errorf("with a full disk: %v", err)
	}
	b.refused(t, 2<<20, 452, "could not be stored", "nothing was sent")
	if _, err = b.letter([]string{stack.Erin}, []string{stack.Frank}, 400); err == nil || !strings.Contains(err.Error(), "othing was sent") {
		t.Errorf("a letter that needs the outbox, with a full disk: %v", err)
	}
	logs(t, b.a, "no space left on device")
	if err := imapLogin(b.a, stack.Alice); err != nil {
		t.Errorf("with a full disk mail cannot be reached: %v", err)
	}
	free()
	b.sent(t, stack.Erin)
	if _, err := b.letter([]string{stack.Erin}, []string{stack.Frank}, 2<<20); err != nil {
		t.Errorf("with room again: %v", err)
	}

	// A start with a full disk says so and destroys nothing.
	free = fill(t, data)
	b.a.Kill()
	if err := b.a.TryStart(stack.GatewayReady); err != nil && !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("start with a full disk: %v", err)
	}
	b.a.Kill()
	free()
	b.a.Start(stack.GatewayReady)
	b.sent(t, stack.Erin)
	outboxEmpty(t, b.a)
	b.whole(t)
	if first.id == "" {
		t.Error("nothing was sent before")
	}
}

// TestFullDiskOfTheKeyServer: what the key server cannot store it does not
// confirm, so nothing is sent under it.
func TestFullDiskOfTheKeyServer(t *testing.T) {
	lab.Need(t)
	s := stack.New(t, lab)
	s.KeyServer.Stop()
	data := filepath.Join(s.Dir, "keyserver")
	// The file that the first start made has holes, which a copy would fill.
	if err := os.Remove(filepath.Join(data, "data.db")); err != nil {
		t.Fatal(err)
	}
	smallDisk(t, data, "24m")
	s.KeyServer.Start(stack.KeyServerReady)
	b := &bench{Stack: s, t: t, a: s.AddUser("alice", stack.Alice), load: &load{why: map[string]int{}}}
	b.b = s.AddUser("erin", stack.Erin, stack.Frank)
	b.sent(t, stack.Erin)

	free := fill(t, data)
	// New users need room at the key server; the first that gets none is told.
	var refused *stack.Gateway
	// (Its file has pages left that it can use again.)
	for n := 0; n < 40 && refused == nil; n++ {
		name := fmt.Sprintf("guest%02d", n)
		g := s.Configure(name, name, name+"@a.test")
		if out, err := exec.Command(lab.Program, "register", "--config", g.Config).CombinedOutput(); err != nil {
			refused = g
			if !strings.Contains(string(out), "key server") {
				t.Errorf("register said: %s", out)
			}
		}
	}
	if refused == nil {
		t.Fatal("the full disk of the key server was not noticed")
	}
	// What needs no room goes on.
	b.sent(t, stack.Erin)
	if !strings.Contains(s.KeyServer.LogText(), "no space left on device") {
		t.Errorf("the key server's log does not say what is wrong:\n%s", s.KeyServer.LogText())
	}
	free()
	if out, err := exec.Command(lab.Program, "register", "--config", refused.Config).CombinedOutput(); err != nil {
		t.Errorf("register again: %v\n%s", err, out)
	}
	refused.Run() // makes up for what is missing
	b.sent(t, stack.Frank)
	b.sent(t, stack.Erin, stack.Frank)
	b.whole(t)
}
