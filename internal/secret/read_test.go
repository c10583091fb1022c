package secret

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestTextFromFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "key.pem")
	for content, ok := range map[string]bool{"one\ntwo\n": true, "": false, strings.Repeat("x", maxText+1): false} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := TextFromFile(name)
		if (err == nil) != ok || ok && s.RevealString() != content {
			t.Errorf("%d octets: %v", len(content), err)
		}
	}
	if err := os.WriteFile(name, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := TextFromFile(name); err == nil && runtime.GOOS != "windows" {
		t.Error("a file that others may read was read")
	}
}
