package truststore

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/localtls"
)

// need ends a test without a tool; test/keyring/install installs them all.
func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err == nil {
		return
	}
	if os.Getenv("CI") != "" || os.Getenv("CLOUDMLS_E2E") == "require" {
		t.Fatalf("%s is missing: run test/keyring/install", tool)
	}
	t.Skipf("%s is missing: run test/keyring/install (Debian)", tool)
}

func newPair(t *testing.T) *localtls.Pair {
	t.Helper()
	p, err := localtls.Ensure(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nssProfile makes a profile's database, by the tool of those who make NSS.
func nssProfile(t *testing.T, home, dir string) string {
	t.Helper()
	dir = filepath.Join(home, dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	certutil(t, nil, "-N", "-d", "sql:"+dir, "--empty-password")
	return dir
}

func certutil(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	out, err := run(t.Context(), stdin, "certutil", args...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func openLedger(t *testing.T, file string, m *Machine) *Ledger {
	t.Helper()
	l, err := OpenLedger(file, m)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// nssTrusts asks NSS itself whether a profile would accept the gateway.
func nssTrusts(t *testing.T, profile string, p *localtls.Pair) bool {
	t.Helper()
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate.Certificate[0]})
	certutil(t, leaf, "-A", "-a", "-d", "sql:"+profile, "-n", "leaf", "-t", ",,")
	defer certutil(t, nil, "-D", "-d", "sql:"+profile, "-n", "leaf")
	_, err := run(t.Context(), nil, "certutil", "-V", "-d", "sql:"+profile, "-n", "leaf", "-u", "V")
	return err == nil
}

func TestProfiles(t *testing.T) {
	need(t, "certutil")
	home := filepath.Join(t.TempDir(), "a [home] with 'signs'")
	bird := nssProfile(t, home, ".thunderbird/abc.default-release")
	fox := nssProfile(t, home, ".mozilla/firefox/def.default")
	if err := os.MkdirAll(filepath.Join(home, ".thunderbird", "Crash Reports"), 0o700); err != nil {
		t.Fatal(err)
	}
	m := &Machine{OS: "linux", Home: home, SystemDir: filepath.Join(home, "none"), Run: run, Has: func(string) bool { return true }}
	stores, skipped, err := m.Find()
	want := []Store{{Thunderbird, bird}, {Firefox, fox}}
	if err != nil || len(skipped) != 0 || !slices.Equal(stores, want) {
		t.Fatalf("Find = %v, %v, %v; want %v", stores, skipped, err, want)
	}
	if only, _, err := m.Find(Firefox); err != nil || !slices.Equal(only, want[1:]) {
		t.Errorf("Find(firefox) = %v, %v", only, err)
	}

	p, file := newPair(t), filepath.Join(t.TempDir(), "trusted.json")
	l := openLedger(t, file, m)
	if nssTrusts(t, bird, p) {
		t.Fatal("trusted before the installation: the test shows nothing")
	}
	for range 2 { // the second changes nothing
		if err := l.Install(t.Context(), want[0], p.Authority); err != nil {
			t.Fatal(err)
		}
		if !nssTrusts(t, bird, p) {
			t.Error("not trusted after the installation")
		}
	}
	if nssTrusts(t, fox, p) {
		t.Error("a profile that was not named trusts it too")
	}
	if l = openLedger(t, file, m); len(l.Entries()) != 1 || !l.Trusts(want[0], p.Authority) {
		t.Errorf("the list has %v", l.Entries())
	}

	renewed := newPair(t)
	if err := l.Install(t.Context(), want[0], renewed.Authority); err != nil {
		t.Fatal(err)
	}
	if nssTrusts(t, bird, p) || !nssTrusts(t, bird, renewed) {
		t.Error("after a renewal the old one is trusted, or the new one is not")
	}
	for _, e := range l.Entries() {
		if err := l.Uninstall(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if nssTrusts(t, bird, renewed) || strings.Contains(certutil(t, nil, "-L", "-d", "sql:"+bird), "CloudMLS") {
		t.Error("still there after the removal")
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty list is still there: %v", err)
	}

	// What somebody else took away, or a profile that is gone, is no error.
	e := Entry{want[0], p.Authority}
	if err := l.Uninstall(t.Context(), e); err != nil {
		t.Errorf("a certificate that is not there: %v", err)
	}
	if err := os.RemoveAll(bird); err != nil {
		t.Fatal(err)
	}
	if err := l.Uninstall(t.Context(), e); err != nil {
		t.Errorf("a profile that is gone: %v", err)
	}
	// The described commands are the ones that work.
	add, remove := m.Describe(want[1], p.Authority, p.AuthorityFile)
	for _, line := range []string{add, remove} {
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		if trusted := nssTrusts(t, fox, p); trusted != (line == add) {
			t.Errorf("%s: trusted %v", line, trusted)
		}
	}
}

// A profile with a primary password is not changed, and the error says so.
func TestProfileWithPassword(t *testing.T) {
	need(t, "certutil")
	home := t.TempDir()
	profile := filepath.Join(home, ".thunderbird", "x")
	password := filepath.Join(home, "password")
	if err := errors.Join(os.MkdirAll(profile, 0o700), os.WriteFile(password, []byte("secret password\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	certutil(t, nil, "-N", "-d", "sql:"+profile, "-f", password)
	m := &Machine{OS: "linux", Home: home, Run: inNoTerminal, Has: func(string) bool { return true }}
	file := filepath.Join(t.TempDir(), "trusted.json")
	l, p := openLedger(t, file, m), newPair(t)
	err := l.Install(t.Context(), Store{Thunderbird, profile}, p.Authority)
	if err == nil || !strings.Contains(err.Error(), "primary password") {
		t.Errorf("Install = %v, want an error that names the primary password", err)
	}
	if len(l.Entries()) != 0 {
		t.Errorf("the list has %v", l.Entries())
	}
}

// inNoTerminal runs a tool in a session of its own, where it can ask nobody.
func inNoTerminal(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	return run(ctx, stdin, "setsid", append([]string{"-w", name}, args...)...)
}

// The real tool of Debian, on folders of its own.
func TestSystem(t *testing.T) {
	need(t, "update-ca-certificates")
	base := t.TempDir()
	local, etc, hooks, conf := filepath.Join(base, "local"), filepath.Join(base, "etc"), filepath.Join(base, "hooks"), filepath.Join(base, "conf")
	for _, dir := range []string{local, etc, hooks} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &Machine{OS: "linux", Home: base, SystemDir: local, Run: run, Has: func(string) bool { return true },
		Refresh: []string{"update-ca-certificates", "--certsconf", conf, "--localcertsdir", local, "--etccertsdir", etc, "--hooksdir", hooks}}
	if stores, skipped, err := m.Find(); err != nil || len(stores) != 0 || len(skipped) != 1 || !strings.Contains(skipped[0], "root") {
		t.Fatalf("Find without root = %v, %q, %v", stores, skipped, err)
	}
	m.Root = true
	stores, _, err := m.Find(System)
	if err != nil || len(stores) != 1 {
		t.Fatalf("Find = %v, %v", stores, err)
	}
	p := newPair(t)
	l := openLedger(t, filepath.Join(base, "trusted.json"), m)
	// Without any certificate the tool leaves the bundle as it was.
	other := newPair(t)
	if err := os.WriteFile(filepath.Join(local, "other.crt"), other.AuthorityPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	bundle := func() []byte {
		b, err := os.ReadFile(filepath.Join(etc, "ca-certificates.crt"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return b
	}
	if err := l.Install(t.Context(), stores[0], p.Authority); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(bundle(), bytes.TrimSpace(p.AuthorityPEM())) {
		t.Error("the system's bundle does not have it")
	}
	if err := l.Uninstall(t.Context(), l.Entries()[0]); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(bundle(), bytes.TrimSpace(p.AuthorityPEM())) {
		t.Error("the system's bundle still has it")
	}
	if !bytes.Contains(bundle(), bytes.TrimSpace(other.AuthorityPEM())) {
		t.Error("another authority is gone")
	}
	for dir, want := range map[string]int{local: 1, etc: 3} { // other.crt; its link, its hash, the bundle
		if left, err := os.ReadDir(dir); err != nil || len(left) != want {
			t.Errorf("%s: left %v, %v", dir, left, err)
		}
	}

	// A file of somebody else under our name is neither replaced nor removed.
	name := systemFile(stores[0], p.Authority)
	if err := os.WriteFile(name, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.Install(t.Context(), stores[0], p.Authority); err == nil {
		t.Error("installed over a file of somebody else")
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "theirs" {
		t.Errorf("their file: %q, %v", b, err)
	}
}

// What was begun and failed is taken back; what cannot be taken back stays on
// the list.
func TestFailedInstallation(t *testing.T) {
	base := t.TempDir()
	failed := errors.New("tool failed")
	m := &Machine{OS: "linux", Root: true, SystemDir: base, Refresh: []string{"refresh"}, Has: func(string) bool { return true },
		Run: func(context.Context, []byte, string, ...string) ([]byte, error) { return nil, failed }}
	p := newPair(t)
	file := filepath.Join(t.TempDir(), "trusted.json")
	l := openLedger(t, file, m)
	if err := l.Install(t.Context(), Store{System, base}, p.Authority); !errors.Is(err, failed) {
		t.Errorf("Install = %v", err)
	}
	if left, err := os.ReadDir(base); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	// The refresh failed for the removal too: the bundle may still have it.
	if again := openLedger(t, file, m); !again.Trusts(Store{System, base}, p.Authority) {
		t.Error("what may still be installed is not on the list")
	}
}

// The commands for systems that are not at hand.
func TestOtherSystems(t *testing.T) {
	p := newPair(t)
	sha1 := thumbprint(p.Authority)
	for os, want := range map[string]struct {
		kind        Kind
		add, remove []string
	}{
		"darwin": {Keychain,
			[]string{"security add-trusted-cert -r trustRoot -p ssl -k /home/a/Library/Keychains/login.keychain-db FILE"},
			[]string{"security remove-trusted-cert FILE", "security delete-certificate -Z " + sha1 + " /home/a/Library/Keychains/login.keychain-db"}},
		"windows": {Windows, []string{"certutil -user -addstore Root FILE"}, []string{"certutil -user -delstore Root " + sha1}},
	} {
		var ran []string
		m := &Machine{OS: os, Home: "/home/a", Has: func(string) bool { return false },
			Run: func(_ context.Context, _ []byte, name string, args ...string) ([]byte, error) {
				for i, a := range args {
					if strings.HasSuffix(a, ".pem") {
						args[i] = "FILE"
					}
				}
				ran = append(ran, shell(append([]string{name}, args...)...))
				return nil, nil
			}}
		stores, skipped, err := m.Find()
		if err != nil || len(skipped) != 0 || len(stores) != 1 || stores[0].Kind != want.kind {
			t.Fatalf("%s: Find = %v, %v, %v", os, stores, skipped, err)
		}
		l := openLedger(t, filepath.Join(t.TempDir(), "trusted.json"), m)
		if err := l.Install(t.Context(), stores[0], p.Authority); err != nil || !slices.Equal(ran, want.add) {
			t.Errorf("%s: ran %q, %v; want %q", os, ran, err, want.add)
		}
		ran = nil
		if err := l.Uninstall(t.Context(), l.Entries()[0]); err != nil || !slices.Equal(ran, want.remove) {
			t.Errorf("%s: ran %q, %v; want %q", os, ran, err, want.remove)
		}
	}
}

func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"kind":"system","path":"/x","certificate":"MAA="}]}`))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseLedger(b)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Certificate == nil || !slices.Contains(Kinds(), e.Store.Kind) {
				t.Errorf("entry %+v", e)
			}
		}
	})
}
