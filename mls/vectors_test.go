package mls

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// vectorFiles are the sixteen official files with the test of each.
var vectorFiles = map[string]func(*testing.T){
	"crypto-basics.json":                  TestVectorsCryptoBasics,
	"deserialization.json":                TestVectorsDeserialization,
	"key-schedule.json":                   TestVectorsKeySchedule,
	"message-protection.json":             TestVectorsMessageProtection,
	"messages.json":                       TestVectorsMessages,
	"passive-client-handling-commit.json": TestVectorsPassiveClientHandlingCommit,
	"passive-client-random.json":          TestVectorsPassiveClientRandom,
	"passive-client-welcome.json":         TestVectorsPassiveClientWelcome,
	"psk_secret.json":                     TestVectorsPSKSecret,
	"secret-tree.json":                    TestVectorsSecretTree,
	"transcript-hashes.json":              TestVectorsTranscriptHashes,
	"tree-math.json":                      TestVectorsTreeMath,
	"tree-operations.json":                TestVectorsTreeOperations,
	"tree-validation.json":                TestVectorsTreeValidation,
	"treekem.json":                        TestVectorsTreeKEM,
	"welcome.json":                        TestVectorsWelcome,
}

// TestVectorsAreComplete makes sure that no file is missing, and that there is
// none that no test reads.
func TestVectorsAreComplete(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(vectorDir(t), "*.json"))
	noError(t, err)
	var names []string
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	if want := slices.Sorted(maps.Keys(vectorFiles)); !slices.Equal(names, want) {
		t.Errorf("files of %s: got %v, want %v", vectorDir(t), names, want)
	}
}

// vectorCount says what a test did with the vectors of a file.
type vectorCount struct {
	file    string
	ran     map[CipherSuite]int
	unknown map[CipherSuite]int
}

// allSuites counts the vectors of files that are of no suite.
const allSuites CipherSuite = 0

func countVectors(file string) *vectorCount {
	return &vectorCount{file: file, ran: map[CipherSuite]int{}, unknown: map[CipherSuite]int{}}
}

// supported counts a vector and reports whether its suite is implemented.
func (c *vectorCount) supported(cs CipherSuite) bool {
	if cs == allSuites || cs.Supported() {
		c.ran[cs]++
		return true
	}
	c.unknown[cs]++
	return false
}

// report prints how many vectors of the file passed, by suite, and how many
// are of unknown suites. It fails if nothing ran.
func (c *vectorCount) report(t *testing.T) {
	t.Helper()
	list := func(counts map[CipherSuite]int) string {
		var parts []string
		for _, cs := range slices.Sorted(maps.Keys(counts)) {
			if cs == allSuites {
				return "no suite"
			}
			parts = append(parts, fmt.Sprintf("0x%04x: %d", uint16(cs), counts[cs]))
		}
		if parts == nil {
			return "none"
		}
		return strings.Join(parts, ", ")
	}
	total := 0
	for _, n := range c.ran {
		total += n
	}
	verdict := "passed"
	if t.Failed() {
		verdict = "checked, not all of which passed"
	}
	t.Logf("%s: %d cases %s (by suite: %s); of unknown suites: %s", c.file, total, verdict, list(c.ran), list(c.unknown))
	if total == 0 {
		t.Errorf("%s: no case was checked", c.file)
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
