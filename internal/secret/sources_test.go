package secret

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"
)

func TestParseCredential(t *testing.T) {
	key := sha256.Sum256([]byte("a key"))
	raw := key[:]
	for label, c := range map[string]struct {
		in []byte
		ok bool
	}{
		"raw":                  {raw, true},
		"hex":                  {[]byte(hex.EncodeToString(raw)), true},
		"hex, line":            {[]byte(strings.ToUpper(hex.EncodeToString(raw)) + "\r\n"), true},
		"base64":               {[]byte(base64.StdEncoding.EncodeToString(raw) + "\n"), true},
		"base64, no padding":   {[]byte(base64.RawStdEncoding.EncodeToString(raw)), true},
		"empty":                {nil, false},
		"short":                {raw[:31], false},
		"long":                 {append(bytes.Clone(raw), 'x'), false},
		"hex with a bad digit": {[]byte(strings.Repeat("0g", 32)), false},
		"base64 of 31":         {[]byte(base64.StdEncoding.EncodeToString(raw[:31])), false},
		"zeros":                {make([]byte, 32), false},
		"zeros in hex":         {bytes.Repeat([]byte("00"), 32), false},
	} {
		got, err := parseCredential(c.in)
		if (err == nil) != c.ok || c.ok && !got.Equal(New(raw)) {
			t.Errorf("%s: %v", label, err)
		}
		if err != nil && len(c.in) > 0 && strings.Contains(err.Error(), string(c.in)) {
			t.Errorf("%s: the error shows the content", label)
		}
	}
	name := credentials(t, raw)
	if err := os.Chmod(name, 0o404); err != nil {
		t.Fatal(err)
	}
	if _, err := (credentialKeeper{}).load(vaultID{}); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("a credential open to all: %v", err)
	}
}

// Parameters below the floor would make guessing cheap, above the ceiling a
// start endless.
func TestSealedKeyBounds(t *testing.T) {
	s, err := sealKey(vaultID{7}, New(bytes.Repeat([]byte{5, 6}, 16)), New([]byte("correct horse")))
	if err != nil {
		t.Fatal(err)
	}
	good := s.encode()
	if again, err := parseSealed(good); err != nil || *again != *s {
		t.Fatalf("parseSealed = %v, %v", again, err)
	}
	for label, change := range map[string]func(b []byte){
		"time 2":         func(b []byte) { binary.BigEndian.PutUint32(b[5:], 2) },
		"time 11":        func(b []byte) { binary.BigEndian.PutUint32(b[5:], 11) },
		"memory 32 MiB":  func(b []byte) { binary.BigEndian.PutUint32(b[9:], 32<<10) },
		"memory 2 GiB":   func(b []byte) { binary.BigEndian.PutUint32(b[9:], 2<<20) },
		"no threads":     func(b []byte) { b[13] = 0 },
		"many threads":   func(b []byte) { b[13] = 17 },
		"version":        func(b []byte) { b[4] = 2 },
		"something else": func(b []byte) { b[0] = 'X' },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, err := parseSealed(b); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: %v, want the checksum", label, err)
		}
		sum := sha256.Sum256(b[:sealSize-sha256.Size])
		copy(b[sealSize-sha256.Size:], sum[:])
		if _, err := parseSealed(b); err == nil || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s with its checksum: %v, want the reason", label, err)
		}
	}
	// What is authenticated: whoever can compute a checksum still changes nothing.
	for _, at := range []int{14, 30, 46, 78, sealSize - sha256.Size - 1} { // salt, id, commitment, body
		b := bytes.Clone(good)
		b[at] ^= 1
		sum := sha256.Sum256(b[:sealSize-sha256.Size])
		copy(b[sealSize-sha256.Size:], sum[:])
		s, err := parseSealed(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.open(New([]byte("correct horse"))); !errors.Is(err, ErrVaultKeyWrong) && !errors.Is(err, ErrVaultKey) {
			t.Errorf("octet %d changed: %v", at, err)
		}
	}
	// The same passphrase as another keyboard writes it.
	composed, err := sealKey(vaultID{}, New(bytes.Repeat([]byte{5, 6}, 16)), New([]byte("Schl\u00fcsselbund")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := composed.open(New([]byte("Schlu\u0308sselbund"))); err != nil {
		t.Errorf("decomposed form: %v", err)
	}
}

func FuzzSealedKey(f *testing.F) {
	s := &sealedKey{time: sealTime, memory: sealMemory, threads: sealThreads}
	f.Add(s.encode())
	f.Add([]byte(sealMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, summed(b)} {
			s, err := parseSealed(b)
			if err != nil {
				continue
			}
			if s.time > maxSealTime || s.memory > maxSealMemory || s.threads > maxSealThreads || s.time < 3 || s.memory < 64<<10 || s.threads == 0 {
				t.Errorf("accepts time %d, memory %d, threads %d", s.time, s.memory, s.threads)
			}
			if !bytes.Equal(s.encode(), b) {
				t.Error("written again it differs")
			}
		}
	})
}

// summed gives fuzzed octets the right checksum, which a fuzzer does not find.
func summed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

func FuzzVaultMarker(f *testing.F) {
	b, err := marker{Source: VaultKeyKeyring}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"source":"file","vault":"00","check":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMarker(b)
		if err != nil {
			return
		}
		out, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseMarker(out); err != nil || again != m {
			t.Errorf("written again: %+v, %v; was %+v", again, err, m)
		}
	})
}

func FuzzCredential(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789ABCDEF"))
	f.Add(bytes.Repeat([]byte("0a"), 32))
	f.Add([]byte("AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := parseCredential(b); err == nil && len(key.Reveal()) != VaultKeySize {
			t.Errorf("a key of %d octets", len(key.Reveal()))
		}
	})
}

func TestChangeVaultKeySource(t *testing.T) {
	keyring.MockInit()
	dir := folder(t)
	from := VaultKeyOptions{Source: VaultKeyFile, Dir: dir}
	key, _, err := EnsureVaultKey(filepath.Join(dir, "vault.key")) // of an older version
	if err != nil {
		t.Fatal(err)
	}
	credentials(t, key.Reveal())
	entry := ""
	for _, to := range []VaultKeyOptions{
		{Source: VaultKeyPassphrase, Dir: dir, Passphrase: func(bool) (Secret, error) {
			// A crash from here on leaves two keys in the folder.
			if m, err := findMarker(dir); err != nil || m.unchecked {
				t.Errorf("a second key is about to be written and no marker says which counts: %+v, %v", m, err)
			}
			return New([]byte("correct horse")), nil
		}},
		{Source: VaultKeyPassphrase, Dir: dir, Passphrase: passphrase("battery staple")},
		{Source: VaultKeyKeyring, Dir: dir},
		{Source: VaultKeyFile, Dir: dir},
		{Source: VaultKeyCredential, Dir: dir},
		{Source: VaultKeyKeyring, Dir: dir},
	} {
		if err := ChangeVaultKeySource(from, to); err != nil {
			t.Fatal(err)
		}
		if again := mustOpen(t, to, false); !again.Equal(key) {
			t.Fatalf("from %s to %s: another key", from.Source, to.Source)
		}
		if _, _, err := OpenVaultKey(from); !errors.Is(err, ErrVaultKeySource) && !errors.Is(err, ErrVaultKeyWrong) {
			t.Errorf("the old way in after %s to %s: %v", from.Source, to.Source, err)
		}
		for name, source := range map[string]VaultKeySource{"vault.key": VaultKeyFile, "vault.sealed": VaultKeyPassphrase} {
			if there, err := exists(filepath.Join(dir, name)); err != nil || there != (to.Source == source) {
				t.Errorf("from %s to %s: %s there %v, %v", from.Source, to.Source, name, there, err)
			}
		}
		m, err := findMarker(dir)
		if err != nil {
			t.Fatal(err)
		}
		entry = keyringEntry(m.ID)
		if _, err := keyring.Get(keyringService, entry); (err == nil) != (to.Source == VaultKeyKeyring) {
			t.Errorf("from %s to %s: entry of the keyring: %v", from.Source, to.Source, err)
		}
		from = to
	}
}

func TestThreat81_FailedMoveKeepsTheKey(t *testing.T) {
	keyring.MockInitWithError(errors.New("locked"))
	dir := folder(t)
	from := VaultKeyOptions{Source: VaultKeyFile, Dir: dir, Create: true}
	key := mustOpen(t, from, true)
	credentials(t, bytes.Repeat([]byte("ab"), 16))
	stray, err := sealKey(vaultID{9}, New(bytes.Repeat([]byte{5, 6}, 16)), New([]byte("correct horse")))
	if err != nil {
		t.Fatal(err)
	}
	write("vault.sealed", stray.encode())(t, &from)
	check := unchanged(t, dir)
	for _, to := range []VaultKeyOptions{
		{Source: VaultKeyKeyring, Dir: dir},                                             // locked
		{Source: VaultKeyCredential, Dir: dir},                                          // another key
		{Source: VaultKeyPassphrase, Dir: dir, Passphrase: passphrase("correct horse")}, // a stranger's file is there
		{Source: VaultKeyFile, Dir: folder(t)},                                          // another folder
	} {
		if err := ChangeVaultKeySource(from, to); err == nil {
			t.Errorf("moved to %s", to.Source)
		}
		check(string(to.Source))
	}
	if again := mustOpen(t, from, false); !again.Equal(key) {
		t.Error("another key")
	}
}

// A move that ended between the marker and the removal is finished by the next.
func TestMoveIsFinished(t *testing.T) {
	dir := folder(t)
	from := VaultKeyOptions{Source: VaultKeyFile, Dir: dir, Create: true}
	key := mustOpen(t, from, true)
	to := VaultKeyOptions{Source: VaultKeyPassphrase, Dir: dir, Passphrase: passphrase("correct horse")}
	if err := ChangeVaultKeySource(from, to); err != nil {
		t.Fatal(err)
	}
	write("vault.key", key.Reveal())(t, &from)
	if err := ChangeVaultKeySource(from, to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "vault.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("vault.key: %v, want it gone", err)
	}
	write("vault.key", bytes.Repeat([]byte{1, 2}, 16))(t, &from) // not ours: left
	if err := ChangeVaultKeySource(from, to); err == nil {
		t.Error("another key was removed, or passed over in silence")
	}
	if _, err := os.Stat(filepath.Join(dir, "vault.key")); err != nil {
		t.Error(err)
	}
}
