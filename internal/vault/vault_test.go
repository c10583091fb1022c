package vault

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/internal/secret"
)

var testKey = secret.New(bytes.Repeat([]byte{1, 2}, 16))

func text(s string) secret.Secret { return secret.New([]byte(s)) }

// newFile is the path of a vault that does not exist yet, in a folder of mode 0700.
func newFile(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "vault")
}

func mustOpen(t *testing.T, file string) *Vault {
	t.Helper()
	v, err := Open(file, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustSet(t *testing.T, v *Vault, name, value string) {
	t.Helper()
	if err := v.Set(name, text(value)); err != nil {
		t.Fatal(err)
	}
}

func wantSecret(t *testing.T, v *Vault, name, value string) {
	t.Helper()
	s, ok, err := v.Get(name)
	if err != nil || ok != (value != "") || s.RevealString() != value {
		t.Errorf("Get(%q) = %q, %v, %v; want %q", name, s.RevealString(), ok, err, value)
	}
}

func TestVault(t *testing.T) {
	file := newFile(t)
	v := mustOpen(t, file)
	wantSecret(t, v, "account/alice@example.org/imap", "")
	if ok, err := v.Delete("account/alice@example.org/imap"); ok || err != nil {
		t.Errorf("Delete of nothing = %v, %v", ok, err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("reading made the file: %v", err)
	}
	other := mustOpen(t, file) // as another process
	mustSet(t, v, "account/alice@example.org/imap", "one")
	mustSet(t, other, "account/alice@example.org/smtp", "two")
	mustSet(t, v, "client/alice@example.org/thunderbird", "three")
	for _, v := range []*Vault{v, other, mustOpen(t, file)} {
		wantSecret(t, v, "account/alice@example.org/imap", "one")
		wantSecret(t, v, "account/alice@example.org/smtp", "two")
		wantSecret(t, v, "client/alice@example.org/thunderbird", "three")
		wantSecret(t, v, "client/alice@example.org", "")
		names, err := v.Names("account/alice@example.org/")
		if want := []string{"account/alice@example.org/imap", "account/alice@example.org/smtp"}; err != nil || !slices.Equal(names, want) {
			t.Errorf("Names = %q, %v; want %q", names, err, want)
		}
	}
	mustSet(t, other, "account/alice@example.org/imap", "changed")
	wantSecret(t, v, "account/alice@example.org/imap", "changed")
	if ok, err := other.Delete("account/alice@example.org/imap"); !ok || err != nil {
		t.Errorf("Delete = %v, %v", ok, err)
	}
	wantSecret(t, v, "account/alice@example.org/imap", "")

	s, _, err := v.Get("account/alice@example.org/smtp")
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe() // the caller's copy
	wantSecret(t, v, "account/alice@example.org/smtp", "two")

	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"alice", "imap", "changed", "two", "three"} {
		if bytes.Contains(b, []byte(word)) {
			t.Errorf("the file shows %q", word)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", e.Name(), info.Mode(), err)
		}
		if e.Name() != "vault" && e.Name() != "vault.lock" {
			t.Errorf("left %s", e.Name())
		}
	}
}

func TestUpdateIsOneStep(t *testing.T) {
	file := newFile(t)
	v := mustOpen(t, file)
	mustSet(t, v, "a", "1")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	err = v.Update(func(tx *Tx) error {
		tx.Delete("a")
		if err := tx.Set("b", text("2")); err != nil {
			return err
		}
		if s, ok := tx.Get("b"); !ok || s.RevealString() != "2" {
			t.Error("a change does not see itself")
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("Update = %v", err)
	}
	if err := v.Set("a", text("1")); err != nil { // as it is
		t.Error(err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Error("a change that failed, or changes nothing, wrote")
	}
	err = v.Update(func(tx *Tx) error {
		tx.Delete("a")
		return errors.Join(tx.Set("b", text("2")), tx.Set("c", text("3")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if names, err := v.Names(""); err != nil || !slices.Equal(names, []string{"b", "c"}) {
		t.Errorf("Names = %q, %v", names, err)
	}
}

func TestLimits(t *testing.T) {
	v := mustOpen(t, newFile(t))
	for label, c := range map[string]struct{ name, value string }{
		"no name": {"", "x"}, "long name": {strings.Repeat("n", MaxName+1), "x"}, "control": {"a\nb", "x"}, "not UTF-8": {"a\xff", "x"},
		"empty": {"a", ""}, "long": {"a", strings.Repeat("x", MaxSecret+1)},
	} {
		if err := v.Set(c.name, text(c.value)); err == nil {
			t.Errorf("%s: stored", label)
		} else if c.value != "x" && c.value != "" && strings.Contains(err.Error(), c.value) {
			t.Errorf("%s: the error shows the secret", label)
		}
	}
	mustSet(t, v, strings.Repeat("n", MaxName), strings.Repeat("x", MaxSecret))
	tooMany := v.Update(func(tx *Tx) error {
		for i := range MaxSecrets {
			if err := tx.Set(strconv.Itoa(i), text("x")); err != nil {
				return err
			}
		}
		return nil
	})
	tooLong := v.Update(func(tx *Tx) error {
		for i := range MaxFile / MaxSecret {
			if err := tx.Set(strconv.Itoa(i), text(strings.Repeat("x", MaxSecret))); err != nil {
				return err
			}
		}
		return nil
	})
	if tooMany == nil || tooLong == nil {
		t.Errorf("stored too many (%v) or too much (%v)", tooMany, tooLong)
	}
	wantSecret(t, v, strings.Repeat("n", MaxName), strings.Repeat("x", MaxSecret))
	if _, err := Open(newFile(t), text("short")); err == nil {
		t.Error("a short key is taken")
	}
}

// TestThreat81_VaultThatDoesNotOpenStays: whatever is wrong, no call writes.
func TestThreat81_VaultThatDoesNotOpenStays(t *testing.T) {
	good := newFile(t)
	mustSet(t, mustOpen(t, good), "a", "1")
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		out := bytes.Clone(b)
		out[at] ^= 1
		return out
	}
	resum := func(b []byte) []byte {
		sum := sha256.Sum256(b[:len(b)-sha256.Size])
		copy(b[len(b)-sha256.Size:], sum[:])
		return b
	}
	for label, c := range map[string]struct {
		b    []byte
		key  secret.Secret
		want error
	}{
		"wrong key":              {b, secret.New(bytes.Repeat([]byte{3}, 32)), ErrKey},
		"empty":                  {nil, testKey, ErrDamaged},
		"head only":              {b[:headSize], testKey, ErrDamaged},
		"cut":                    {b[:len(b)-1], testKey, ErrDamaged},
		"longer":                 {append(bytes.Clone(b), 0), testKey, ErrDamaged},
		"huge":                   {append(bytes.Clone(b), make([]byte, MaxFile)...), testKey, ErrDamaged},
		"magic":                  {flip(0), testKey, ErrDamaged},
		"version":                {resum(flip(4)), testKey, ErrDamaged},
		"body":                   {flip(headSize + commitSize), testKey, ErrDamaged},
		"body, with checksum":    {resum(flip(headSize + commitSize)), testKey, ErrDamaged},
		"id, with checksum":      {resum(flip(5)), testKey, ErrKey},
		"commitment, with check": {resum(flip(headSize)), testKey, ErrKey},
	} {
		t.Run(label, func(t *testing.T) {
			file := newFile(t)
			v := mustOpen(t, file) // opened while there was none
			if err := os.WriteFile(file, c.b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(file, c.key); !errors.Is(err, c.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("Open = %v, want %v and the file's name", err, c.want)
			}
			if c.key.Equal(testKey) {
				_, _, getErr := v.Get("a")
				_, namesErr := v.Names("")
				_, deleteErr := v.Delete("a")
				for _, err := range []error{getErr, namesErr, v.Set("a", text("2")), deleteErr} {
					if !errors.Is(err, c.want) {
						t.Errorf("a call on it: %v, want %v", err, c.want)
					}
				}
			}
			if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, c.b) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
}

// A file that has gone is not taken for an empty vault, which the next write
// would make of it.
func TestThreat81_VaultThatIsGone(t *testing.T) {
	file := newFile(t)
	v := mustOpen(t, file)
	mustSet(t, v, "a", "1")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Get("a"); !errors.Is(err, ErrGone) {
		t.Errorf("Get = %v, want ErrGone", err)
	}
	if err := v.Set("b", text("2")); !errors.Is(err, ErrGone) {
		t.Errorf("Set = %v, want ErrGone", err)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	wantSecret(t, v, "a", "1")
}

func TestOpenToOthers(t *testing.T) {
	file := newFile(t)
	v := mustOpen(t, file)
	mustSet(t, v, "a", "1")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Get("a"); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file open to others: %v", err)
	}
	if err := errors.Join(os.Chmod(file, 0o600), os.Chmod(filepath.Dir(file), 0o750)); err != nil {
		t.Fatal(err)
	}
	if err := v.Set("a", text("2")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder open to others: %v", err)
	}
}

// The key's owner may wipe it; nothing is ever sealed under an empty key.
func TestKeyIsCopied(t *testing.T) {
	file := newFile(t)
	key := secret.New(testKey.Reveal())
	v, err := Open(file, key)
	if err != nil {
		t.Fatal(err)
	}
	key.Wipe()
	mustSet(t, v, "a", "1")
	wantSecret(t, mustOpen(t, file), "a", "1")
}

func TestSizeHidesLength(t *testing.T) {
	size := func(value string) int64 {
		file := newFile(t)
		mustSet(t, mustOpen(t, file), "a", value)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if a, b := size("x"), size(strings.Repeat("x", 500)); a != b {
		t.Errorf("1 octet makes a file of %d, 500 octets one of %d", a, b)
	}
}

func TestConcurrentUse(t *testing.T) {
	file := newFile(t)
	one, two := mustOpen(t, file), mustOpen(t, file)
	var wg sync.WaitGroup
	for i := range 8 {
		v := []*Vault{one, two}[i%2]
		wg.Go(func() {
			for j := range 5 {
				if err := v.Set(fmt.Sprintf("%d/%d", i, j), text("x")); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				if _, err := v.Names(""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if names, err := one.Names(""); err != nil || len(names) != 40 {
		t.Errorf("%d secrets of 40 arrived, %v", len(names), err)
	}
}

const childFile = "VAULT_TEST_FILE"

// TestThreat81_SeveralProcesses: no update of one process is lost to another's,
// and a reader sees them all without opening the vault again. In the end the
// writers are killed at some moment of their work: the file opens, with at
// least what they had reported.
func TestThreat81_SeveralProcesses(t *testing.T) {
	if file := os.Getenv(childFile); file != "" {
		countUp(t, file)
		return
	}
	file := newFile(t)
	reader := mustOpen(t, file)
	for round := range 6 {
		before := count(t, reader)
		var wg sync.WaitGroup
		var mu sync.Mutex
		reported := 0
		for range 3 {
			child, lines := startChild(t, file)
			wg.Go(func() {
				n := 0
				for n < 3+2*round && lines.Scan() {
					if strings.HasPrefix(lines.Text(), "wrote ") {
						n++
					}
				}
				if err := child.Process.Kill(); err != nil {
					t.Error(err)
				}
				for lines.Scan() {
					if strings.HasPrefix(lines.Text(), "wrote ") {
						n++
					}
				}
				_ = child.Wait() // killed
				mu.Lock()
				defer mu.Unlock()
				reported += n
			})
		}
		wg.Wait()
		// Each of the three may have written once more than it could say.
		if n := count(t, reader) - before; n < reported || n > reported+3 || reported < 9 {
			t.Fatalf("round %d: %d updates were reported, %d are there", round, reported, n)
		}
	}
	mustSet(t, reader, "after", "x") // the locks of the dead are free
	if _, err := os.Stat(file + ".new"); !os.IsNotExist(err) {
		t.Errorf("what the dead left is still there: %v", err)
	}
}

func count(t *testing.T, v *Vault) int {
	t.Helper()
	s, ok, err := v.Get("count")
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(s.RevealString())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func startChild(t *testing.T, file string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe, "-test.run=^TestThreat81_SeveralProcesses$")
	c.Env = append(os.Environ(), childFile+"="+file)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewScanner(out)
}

// countUp adds one to a number in the vault until the process is killed.
func countUp(t *testing.T, file string) {
	v := mustOpen(t, file)
	for {
		n := 0
		err := v.Update(func(tx *Tx) error {
			if s, ok := tx.Get("count"); ok {
				var err error
				if n, err = strconv.Atoi(s.RevealString()); err != nil {
					return err
				}
			}
			n++
			return tx.Set("count", text(strconv.Itoa(n)))
		})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("wrote", n)
	}
}

func FuzzOpen(f *testing.F) {
	for _, secrets := range []map[string][]byte{nil, {"a": []byte("1")}, {"a": []byte("1"), "b/c": bytes.Repeat([]byte("x"), 2000)}} {
		b, _, err := seal(testKey, secrets)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, sum(b)} {
			secrets, err := open(testKey, b)
			if err != nil {
				continue
			}
			if again, _, err := seal(testKey, secrets); err != nil || len(again) != len(b) {
				t.Errorf("what opens cannot be written again: %d octets, were %d, %v", len(again), len(b), err)
			}
		}
	})
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return append(bytes.Clone(b), s[:]...)
}

// FuzzDecode reaches what a fuzzer cannot seal. What is read is what is written.
func FuzzDecode(f *testing.F) {
	for _, secrets := range []map[string][]byte{nil, {"a": []byte("1")}, {"a": []byte("1"), "b/c": bytes.Repeat([]byte("x"), 2000)}} {
		b, err := encode(secrets)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(append([]byte{0, 0, 0, 2, 0, 1, 'b', 0, 0, 0, 1, 'x', 0, 1, 'a', 0, 0, 0, 1, 'x'}, make([]byte, padding-20)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		secrets, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(secrets)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("written again it differs, %v", err)
		}
	})
}
