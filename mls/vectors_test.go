package mls

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// hexBytes is a hexadecimal string of a test vector.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) error {
	out := make([]byte, hex.DecodedLen(len(b)))
	_, err := hex.Decode(out, b)
	*h = out
	return err
}

// vectorDir finds the official test vectors of
// https://github.com/mlswg/mls-implementations, which are not part of this
// repository.
func vectorDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("MLS_VECTORS"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		shared := filepath.Join(at, "shared", "mls-vectors")
		if info, err := os.Stat(shared); err == nil && info.IsDir() {
			return shared
		}
		if at == filepath.Dir(at) {
			return filepath.Join(dir, "testdata", "vectors")
		}
	}
}

// loadVectors reads a file of test vectors. A missing file is a failure: a
// test that does not run must not look as if it passed.
func loadVectors[T any](t testing.TB, name string) []T {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir(t), name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("test vectors are missing: run `make vectors`, or set MLS_VECTORS to the folder test-vectors of mlswg/mls-implementations (%v)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatalf("%s holds no test vectors", name)
	}
	return list
}

// vectorCount says what a test did with the vectors of a file.
type vectorCount struct {
	ran         int
	unsupported map[CipherSuite]int
}

// supported counts a vector and reports whether its suite is implemented.
func (c *vectorCount) supported(cs CipherSuite) bool {
	if cs.Supported() {
		c.ran++
		return true
	}
	if c.unsupported == nil {
		c.unsupported = map[CipherSuite]int{}
	}
	c.unsupported[cs]++
	return false
}

// report logs the counts, and fails if nothing ran.
func (c *vectorCount) report(t *testing.T) {
	t.Helper()
	t.Logf("%d vectors checked; not supported, by cipher suite: %v", c.ran, c.unsupported)
	if c.ran == 0 {
		t.Error("no vector was checked")
	}
}

func wantEqual(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if hex.EncodeToString(got) != hex.EncodeToString(want) {
		t.Errorf("%s: got %x, want %x", what, got, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
