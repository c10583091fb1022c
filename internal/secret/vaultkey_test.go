package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/zalando/go-keyring"
)

// folder is a data folder that does not exist yet.
func folder(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }

func passphrase(text string) func(bool) (Secret, error) {
	return func(bool) (Secret, error) { return New([]byte(text)), nil }
}

// credentials makes the folder that systemd would make and returns its path.
func credentials(t *testing.T, content []byte) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, DefaultCredentialName)
	if err := os.WriteFile(name, content, 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	return name
}

func mustOpen(t *testing.T, o VaultKeyOptions, wantCreated bool) Secret {
	t.Helper()
	key, created, err := OpenVaultKey(o)
	if err != nil || created != wantCreated || len(key.Reveal()) != VaultKeySize {
		t.Fatalf("OpenVaultKey(%s) = %d octets, %v, %v; want created %v", o.Source, len(key.Reveal()), created, err, wantCreated)
	}
	return key
}

// unchanged returns a function that fails the test if anything in the folder
// was changed, made or removed since.
func unchanged(t *testing.T, dir string) func(label string) {
	t.Helper()
	before := contents(t, dir)
	return func(label string) {
		t.Helper()
		after := contents(t, dir)
		if len(before) != len(after) {
			t.Errorf("%s: the folder held %d files and holds %d", label, len(before), len(after))
		}
		for name, b := range before {
			if after[name] != b {
				t.Errorf("%s: %s was changed", label, name)
			}
		}
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

func TestOpenVaultKey(t *testing.T) {
	keyring.MockInit()
	credentials(t, bytes.Repeat([]byte("ab"), 16))
	for _, source := range []VaultKeySource{VaultKeyFile, VaultKeyKeyring, VaultKeyPassphrase, VaultKeyCredential} {
		t.Run(string(source), func(t *testing.T) {
			o := VaultKeyOptions{Source: source, Dir: folder(t), Passphrase: passphrase("correct horse")}
			if _, _, err := OpenVaultKey(o); !errors.Is(err, ErrNoVaultKey) || !strings.Contains(err.Error(), "setup") {
				t.Errorf("without Create: %v, want ErrNoVaultKey and what to do", err)
			}
			if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("an unlock without Create made the folder: %v", err)
			}
			o.Create = true
			key := mustOpen(t, o, true)
			check := unchanged(t, o.Dir)
			if again := mustOpen(t, o, false); !again.Equal(key) {
				t.Error("a second call got another key")
			}
			o.Create = false
			if again := mustOpen(t, o, false); !again.Equal(key) {
				t.Error("a later call got another key")
			}
			for _, other := range []VaultKeySource{VaultKeyFile, VaultKeyKeyring, VaultKeyPassphrase, VaultKeyCredential} {
				if other == source {
					continue
				}
				for _, create := range []bool{false, true} {
					wrong := o
					wrong.Source, wrong.Create = other, create
					_, _, err := OpenVaultKey(wrong)
					if !errors.Is(err, ErrVaultKeySource) || !strings.Contains(err.Error(), string(source)) {
						t.Errorf("asked for %s: %v, want ErrVaultKeySource naming %s", other, err, source)
					}
				}
			}
			check("unlocks and wrong sources")
			for name, b := range contents(t, o.Dir) {
				if source != VaultKeyFile && strings.Contains(b, key.RevealString()) {
					t.Errorf("%s holds the key in clear", name)
				}
				if strings.Contains(strings.ToLower(b), hex.EncodeToString(key.Reveal())) {
					t.Errorf("%s holds the key in hexadecimal form", name)
				}
			}
		})
	}
}

func TestOpenVaultKeyOptions(t *testing.T) {
	for label, o := range map[string]VaultKeyOptions{
		"no folder":         {Source: VaultKeyFile},
		"unknown source":    {Source: "cloud", Dir: folder(t)},
		"no passphrase":     {Source: VaultKeyPassphrase, Dir: folder(t)},
		"short passphrase":  {Source: VaultKeyPassphrase, Dir: folder(t), Passphrase: passphrase("1234567"), Create: true},
		"empty passphrase":  {Source: VaultKeyPassphrase, Dir: folder(t), Passphrase: passphrase(""), Create: true},
		"credential's name": {Source: VaultKeyCredential, Dir: folder(t), CredentialName: "../key", Create: true},
	} {
		if _, created, err := OpenVaultKey(o); err == nil || created {
			t.Errorf("%s: %v, %v; want an error", label, created, err)
		}
		for name := range contents(t, o.Dir) {
			if o.Dir != "" {
				t.Errorf("%s: left %s", label, name)
			}
		}
	}
}

// A folder of an older version has a key file and no marker.
func TestVaultKeyOfOlderVersion(t *testing.T) {
	dir := folder(t)
	old, _, err := EnsureVaultKey(filepath.Join(dir, "vault.key"))
	if err != nil {
		t.Fatal(err)
	}
	o := VaultKeyOptions{Source: VaultKeyFile, Dir: dir}
	check := unchanged(t, dir)
	if key := mustOpen(t, o, false); !key.Equal(old) {
		t.Error("another key")
	}
	if _, _, err := OpenVaultKey(VaultKeyOptions{Source: VaultKeyKeyring, Dir: dir, Create: true}); !errors.Is(err, ErrVaultKeySource) {
		t.Errorf("asked for the keyring: %v, want ErrVaultKeySource", err)
	}
	check("older version")
	o.Create = true
	if key := mustOpen(t, o, false); !key.Equal(old) {
		t.Error("another key after Create")
	}
	if m, err := findMarker(dir); err != nil || m.unchecked || m.Source != VaultKeyFile {
		t.Errorf("marker = %+v, %v; want one for the file", m, err)
	}
	if key := mustOpen(t, o, false); !key.Equal(old) {
		t.Error("another key with the marker")
	}
}

// What is sealed under a key that is gone is never covered by a new key.
func TestThreat81_NoNewKeyOverSealedData(t *testing.T) {
	keyring.MockInit()
	for _, name := range []string{"vault", "device.db"} {
		for _, source := range []VaultKeySource{VaultKeyFile, VaultKeyKeyring, VaultKeyPassphrase} {
			dir := folder(t)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte("sealed"), 0o600); err != nil {
				t.Fatal(err)
			}
			check := unchanged(t, dir)
			o := VaultKeyOptions{Source: source, Dir: dir, Passphrase: passphrase("correct horse"), Create: true, Sealed: []string{"device.db"}}
			if _, _, err := OpenVaultKey(o); !errors.Is(err, ErrNoVaultKey) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s beside %s: %v, want ErrNoVaultKey naming it", source, name, err)
			}
			check(name)
		}
	}
}

// A failed unlock, whatever the reason, leaves everything as it is, and names
// the reason.
func TestThreat81_FailedUnlockChangesNothing(t *testing.T) {
	keyring.MockInit()
	other := bytes.Repeat([]byte{1, 2}, 16)
	for _, c := range []struct {
		label  string
		source VaultKeySource
		spoil  func(t *testing.T, o *VaultKeyOptions)
		want   error
	}{
		{"key file missing", VaultKeyFile, remove("vault.key"), ErrNoVaultKey},
		{"key file short", VaultKeyFile, write("vault.key", other[:31]), ErrVaultKey},
		{"key file of another vault", VaultKeyFile, write("vault.key", other), ErrVaultKeyWrong},
		{"marker damaged", VaultKeyFile, write("vault.json", []byte("{}")), ErrVaultKey},
		{"marker empty", VaultKeyKeyring, write("vault.json", nil), ErrVaultKey},
		{"keyring empty", VaultKeyKeyring, func(*testing.T, *VaultKeyOptions) { keyring.MockInit() }, ErrNoVaultKey},
		{"keyring locked", VaultKeyKeyring, func(*testing.T, *VaultKeyOptions) { keyring.MockInitWithError(errors.New("locked")) }, ErrVaultKeyUnavailable},
		{"keyring entry of another vault", VaultKeyKeyring, ring(base64.StdEncoding.EncodeToString(other)), ErrVaultKeyWrong},
		{"keyring entry damaged", VaultKeyKeyring, ring("AAAA"), ErrVaultKey},
		{"wrong passphrase", VaultKeyPassphrase, func(_ *testing.T, o *VaultKeyOptions) { o.Passphrase = passphrase("correct hors") }, ErrVaultKeyWrong},
		{"no passphrase", VaultKeyPassphrase, func(_ *testing.T, o *VaultKeyOptions) {
			o.Passphrase = func(bool) (Secret, error) { return Secret{}, errors.New("no terminal") }
		}, ErrVaultKeyUnavailable},
		{"sealed key missing", VaultKeyPassphrase, remove("vault.sealed"), ErrNoVaultKey},
		{"sealed key damaged", VaultKeyPassphrase, func(t *testing.T, o *VaultKeyOptions) {
			name := filepath.Join(o.Dir, "vault.sealed")
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			write("vault.sealed", b)(t, o)
		}, ErrVaultKey},
		{"sealed key of another vault", VaultKeyPassphrase, func(t *testing.T, o *VaultKeyOptions) {
			s, err := sealKey(vaultID{1}, New(other), New([]byte("correct horse")))
			if err != nil {
				t.Fatal(err)
			}
			write("vault.sealed", s.encode())(t, o)
		}, ErrVaultKeyWrong},
		{"credential folder not named", VaultKeyCredential, func(t *testing.T, _ *VaultKeyOptions) { t.Setenv("CREDENTIALS_DIRECTORY", "") }, ErrVaultKeyUnavailable},
		{"credential not there", VaultKeyCredential, func(t *testing.T, _ *VaultKeyOptions) { t.Setenv("CREDENTIALS_DIRECTORY", t.TempDir()) }, ErrVaultKeyUnavailable},
		{"credential of another vault", VaultKeyCredential, func(t *testing.T, _ *VaultKeyOptions) { credentials(t, other) }, ErrVaultKeyWrong},
		{"credential damaged", VaultKeyCredential, func(t *testing.T, _ *VaultKeyOptions) { credentials(t, other[:30]) }, ErrVaultKey},
	} {
		t.Run(c.label, func(t *testing.T) {
			keyring.MockInit()
			credentials(t, []byte("0123456789abcdef0123456789ABCDEF"))
			o := VaultKeyOptions{Source: c.source, Dir: folder(t), Passphrase: passphrase("correct horse"), Create: true}
			mustOpen(t, o, true)
			c.spoil(t, &o)
			check := unchanged(t, o.Dir)
			for _, create := range []bool{true, false} { // also a set-up that is run again
				o.Create = create
				key, created, err := OpenVaultKey(o)
				if !errors.Is(err, c.want) || created || !key.IsZero() {
					t.Errorf("OpenVaultKey with Create %v = %v, %v; want %v", create, created, err, c.want)
				}
				if err != nil && !strings.Contains(err.Error(), string(c.source)) {
					t.Errorf("the error does not name the source: %v", err)
				}
			}
			check("failed unlock")
		})
	}
}

func remove(name string) func(*testing.T, *VaultKeyOptions) {
	return func(t *testing.T, o *VaultKeyOptions) {
		if err := os.Remove(filepath.Join(o.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func write(name string, b []byte) func(*testing.T, *VaultKeyOptions) {
	return func(t *testing.T, o *VaultKeyOptions) {
		if err := os.WriteFile(filepath.Join(o.Dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func ring(text string) func(*testing.T, *VaultKeyOptions) {
	return func(t *testing.T, o *VaultKeyOptions) {
		m, err := findMarker(o.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := keyring.Set(keyringService, keyringEntry(m.ID), text); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVaultKeyIsMadeOnce(t *testing.T) {
	keyring.MockInit()
	o := VaultKeyOptions{Source: VaultKeyFile, Dir: folder(t), Create: true}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		keys []Secret
		made int
	)
	for range 16 {
		wg.Go(func() {
			key, created, err := OpenVaultKey(o)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if created {
				made++
			}
			keys = append(keys, key)
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("made %d keys", made)
	}
	for _, k := range keys {
		if !k.Equal(keys[0]) {
			t.Error("callers got different keys")
		}
	}
	m, err := findMarker(o.Dir)
	if err != nil || m.unchecked || !m.Check.matches(keys[0], m.ID) {
		t.Errorf("marker = %+v, %v", m, err)
	}
}

// Two set-ups at once with different sources: one of them wins, and the key of
// the folder opens from the source that the marker names.
func TestVaultKeyRaceOfSources(t *testing.T) {
	keyring.MockInit()
	dir := folder(t)
	first := mustOpen(t, VaultKeyOptions{Source: VaultKeyPassphrase, Dir: dir, Passphrase: passphrase("correct horse"), Create: true}, true)
	// The loser is past the look at the marker.
	o := VaultKeyOptions{Source: VaultKeyKeyring, Dir: dir, Create: true}
	loser := &recording{keeper: keyringKeeper{}}
	if _, _, err := makeVaultKey(o, loser); !errors.Is(err, ErrVaultKeySource) {
		t.Errorf("makeVaultKey = %v, want ErrVaultKeySource", err)
	}
	if _, err := keyring.Get(keyringService, keyringEntry(loser.id)); loser.id == (vaultID{}) || !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("the loser's entry is still in the keyring: %v", err)
	}
	o.Source, o.Passphrase = VaultKeyPassphrase, passphrase("correct horse")
	if key := mustOpen(t, o, false); !key.Equal(first) {
		t.Error("the winner's key is gone")
	}
	// Between a winner's key file and its marker.
	if err := os.Remove(filepath.Join(dir, "vault.json")); err != nil {
		t.Fatal(err)
	}
	if key := mustOpen(t, o, false); !key.Equal(first) {
		t.Error("without the marker: another key")
	}
	if m, err := findMarker(dir); err != nil || m.unchecked {
		t.Errorf("the marker was not made up for: %+v, %v", m, err)
	}
}

// recording remembers the id that a key was made under.
type recording struct {
	keeper
	id vaultID
}

func (r *recording) make(id vaultID) (Secret, error) {
	r.id = id
	return r.keeper.make(id)
}

// Two key files without a marker: nobody guesses.
func TestVaultKeyAmbiguous(t *testing.T) {
	dir := folder(t)
	o := VaultKeyOptions{Source: VaultKeyPassphrase, Dir: dir, Passphrase: passphrase("correct horse"), Create: true}
	mustOpen(t, o, true)
	remove("vault.json")(t, &o)
	write("vault.key", bytes.Repeat([]byte{1, 2}, 16))(t, &o)
	check := unchanged(t, dir)
	for _, source := range []VaultKeySource{VaultKeyFile, VaultKeyPassphrase} {
		o.Source = source
		if _, _, err := OpenVaultKey(o); !errors.Is(err, ErrVaultKey) {
			t.Errorf("%s: %v, want ErrVaultKey", source, err)
		}
	}
	check("ambiguous")
}
