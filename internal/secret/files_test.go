package secret

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestThreat81_VaultSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "vault")
	name := filepath.Join(dir, "key")
	if _, err := LoadVaultKey(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadVaultKey without a file: %v", err)
	}
	key, created, err := EnsureVaultKey(name)
	if err != nil || !created || len(key.Reveal()) != VaultKeySize {
		t.Fatalf("EnsureVaultKey = %d octets, %v, %v", len(key.Reveal()), created, err)
	}
	again, created, err := EnsureVaultKey(name)
	if err != nil || created || !again.Equal(key) {
		t.Errorf("the second call: %v, %v; want the same key", created, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, name: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("folder holds %v, %v; want the key alone", left, err)
	}
	// Whatever is wrong with the file, it stays as it is.
	for label, b := range map[string][]byte{
		"empty": {}, "short": key.Reveal()[:31], "long": append(bytes.Clone(key.Reveal()), 0), "huge": make([]byte, 1<<20),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := EnsureVaultKey(name); !errors.Is(err, ErrVaultKey) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrVaultKey naming the file", label, err)
		}
		if have, err := os.ReadFile(name); err != nil || !bytes.Equal(have, b) {
			t.Errorf("%s: the file was changed", label)
		}
	}
	if err := os.WriteFile(name, key.Reveal(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := EnsureVaultKey(name); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
}

func TestThreat81_VaultKeyIsMadeOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "vault", "key")
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		keys []Secret
		made int
	)
	for range 16 {
		wg.Go(func() {
			key, created, err := EnsureVaultKey(name)
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
}

func TestThreat81_OpenFolderIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := EnsureVaultKey(filepath.Join(dir, "key")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a key in a folder that is open to others: %v", err)
	}
}

func TestReadSecret(t *testing.T) {
	for in, want := range map[string]string{
		"pass\n": "pass", "pass\r\n": "pass", "pass": "pass", " pass word ": " pass word ", "p\u00e4ss\n": "p\u00e4ss",
		"": "", "\n": "", "a\nb": "", "a\n\n": "", "a\x00b": "", strings.Repeat("x", maxSecret+1): "",
	} {
		s, err := FromReader(strings.NewReader(in))
		if s.RevealString() != want || (err == nil) != (want != "") {
			t.Errorf("FromReader(%.20q) = %q, %v; want %q", in, s.RevealString(), err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pass") {
			t.Errorf("error shows the secret: %v", err)
		}
	}
	name := filepath.Join(t.TempDir(), "p")
	if err := os.WriteFile(name, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := FromFile(name); err != nil || s.RevealString() != "from file" {
		t.Errorf("FromFile = %q, %v", s.RevealString(), err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(name); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("FromFile of a file open to others: %v", err)
	}
	t.Setenv("SECRET_TEST", "from env")
	if s, err := FromEnv("SECRET_TEST"); err != nil || s.RevealString() != "from env" {
		t.Errorf("FromEnv = %q, %v", s.RevealString(), err)
	}
	if _, err := FromEnv("SECRET_TEST_UNSET"); err == nil || !strings.Contains(err.Error(), "SECRET_TEST_UNSET") {
		t.Errorf("FromEnv of an unset variable: %v", err)
	}
}
