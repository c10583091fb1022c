package secret

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/zalando/go-keyring"
)

// TestSecretService runs itself in a session of its own, with a message bus, and
// GNOME Keyring as Secret Service; test/keyring/install installs them.
func TestSecretService(t *testing.T) {
	if os.Getenv("SECRET_SERVICE") != "" {
		inSession(t)
		return
	}
	for _, name := range []string{"dbus-daemon", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" || os.Getenv("CLOUDMLS_E2E") == "require" {
				t.Fatalf("%s is missing: run test/keyring/install", name)
			}
			t.Skipf("%s is missing: run test/keyring/install (Debian), or install dbus and gnome-keyring", name)
		}
	}
	home := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + home, "XDG_DATA_HOME=" + filepath.Join(home, "data"),
		"LC_ALL=C", "SECRET_SERVICE=1", "TMPDIR=" + home}
	address, err := bufio.NewReader(start(t, env, "", "dbus-daemon", "--session", "--nofork", "--print-address=1")).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "DBUS_SESSION_BUS_ADDRESS="+strings.TrimSpace(address))
	start(t, env, "the password of the session", "gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe, "-test.run=^TestSecretService$", "-test.v")
	child.Env = env
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSecretService") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// start runs a program until the test ends and returns what it prints.
func start(t *testing.T, env []string, stdin, name string, args ...string) io.Reader {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env, c.Stdin = env, strings.NewReader(stdin)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait() // killed
	})
	return out
}

// secretService waits until somebody owns the name, so that the bus does not
// start a Secret Service of its own.
func secretService(t *testing.T, bus *dbus.Conn) dbus.BusObject {
	t.Helper()
	const name = "org.freedesktop.secrets"
	signals := make(chan *dbus.Signal, 16)
	bus.Signal(signals)
	defer bus.RemoveSignal(signals)
	if err := bus.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		t.Fatal(err)
	}
	for {
		var owned bool
		if err := bus.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil {
			t.Fatal(err)
		}
		if owned {
			return bus.Object(name, "/org/freedesktop/secrets")
		}
		<-signals
	}
}

func inSession(t *testing.T) {
	bus, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	service := secretService(t, bus)
	a := VaultKeyOptions{Source: VaultKeyKeyring, Dir: folder(t), Create: true}
	b := VaultKeyOptions{Source: VaultKeyKeyring, Dir: folder(t), Create: true}
	keyA, keyB := mustOpen(t, a, true), mustOpen(t, b, true)
	if keyA.Equal(keyB) {
		t.Fatal("two installations share a key")
	}
	a.Create = false
	if again := mustOpen(t, a, false); !again.Equal(keyA) {
		t.Error("another key")
	}
	// Listed under our name, for whoever looks through the keyring.
	m, err := findMarker(a.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var found, locked []dbus.ObjectPath
	err = service.Call("org.freedesktop.Secret.Service.SearchItems", 0,
		map[string]string{"service": "CloudMLS Gateway", "username": keyringEntry(m.ID)}).Store(&found, &locked)
	if err != nil || len(found) != 1 {
		t.Errorf("the service finds %v, %v", found, err)
	}

	// A locked keyring, and nobody to ask.
	collection, err := service.GetProperty("org.freedesktop.Secret.Service.Collections")
	if err != nil {
		t.Fatal(err)
	}
	var done []dbus.ObjectPath
	var prompt dbus.ObjectPath
	if err := service.Call("org.freedesktop.Secret.Service.Lock", 0, collection.Value()).Store(&done, &prompt); err != nil || len(done) == 0 {
		t.Fatalf("lock: %v, %v", done, err)
	}
	a.KeyringTimeout = 5 * time.Second
	check := unchanged(t, a.Dir)
	if _, _, err := OpenVaultKey(a); !errors.Is(err, ErrVaultKeyUnavailable) {
		t.Errorf("locked keyring: %v, want ErrVaultKeyUnavailable", err)
	}
	c := VaultKeyOptions{Source: VaultKeyKeyring, Dir: folder(t), Create: true, KeyringTimeout: 5 * time.Second}
	if _, _, err := OpenVaultKey(c); !errors.Is(err, ErrVaultKeyUnavailable) {
		t.Errorf("a new vault in a locked keyring: %v, want ErrVaultKeyUnavailable", err)
	}
	if left := contents(t, c.Dir); len(left) != 0 {
		t.Errorf("a vault that could not be made left %v", left)
	}
	check("locked")

	// No Secret Service at all: what a headless machine has.
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "nobody"))
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenVaultKey(a); !errors.Is(err, ErrVaultKeyUnavailable) || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("no keyring: %v, want ErrVaultKeyUnavailable and another way", err)
	}
	check("absent")
}

// A keyring that waits for its owner without end does not hold up a service.
func TestKeyringTimeout(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	_, err := keyringKeeper{timeout: time.Millisecond}.ask(func() (string, error) {
		<-block
		return "", nil
	})
	if err == nil || errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("ask = %v, want an end of the waiting", err)
	}
}
