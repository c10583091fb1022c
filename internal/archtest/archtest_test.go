package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

type goPackage struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
	Standard   bool
}

// TestImports holds the tree against Rules.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, Module), "/")
		if len(p.GoFiles) == 0 {
			continue // a folder of tests
		}
		seen[name] = true
		i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Package == name })
		if i < 0 {
			t.Errorf("%s has no row in the import table: decide what it may import and add one", name)
			continue
		}
		for _, imp := range p.Imports {
			if msg := breaks(Rules[i], imp); msg != "" {
				t.Errorf("%s imports %s: %s", name, imp, msg)
			}
		}
	}
	for _, r := range Rules {
		if !seen[r.Package] {
			t.Errorf("the import table has a row for %s, which does not exist", r.Package)
		}
	}
}

// TestTheTableForbids shows that the check can fail: the imports that the
// design excludes by name are refused by the table as it stands.
func TestTheTableForbids(t *testing.T) {
	for _, c := range []struct{ pkg, imports string }{
		{"mls", "net"},
		{"mls", "context"},
		{"mls", "github.com/cloudflare/circl/hpke"},
		{"cloudmls", Module + "/imapd"},
		{"cloudmls", Module + "/keyserver"},
		{"cloudmls", "go.etcd.io/bbolt"},
		{"imapd", Module + "/cloudmls"},
		{"imapd", Module + "/mls"},
		{"imapd", Module + "/proxy"},
		{"imapd", "github.com/emersion/go-imap/v2/imapserver"},
		{"smtpd", Module + "/mls"},
		{"keyserver", Module + "/cloudmls"},
		{"keyserver", "go.etcd.io/bbolt"},
		{"proxy", Module + "/config"},
		{"proxy", Module + "/keyserver"},
		{"config", Module + "/proxy"},
		{"internal/mailseal", Module + "/mls"},
		{"groupid", "os"},
	} {
		i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Package == c.pkg })
		if i < 0 {
			t.Errorf("no row for %s", c.pkg)
		} else if breaks(Rules[i], c.imports) == "" {
			t.Errorf("the table lets %s import %s", c.pkg, c.imports)
		}
	}
}

// breaks says why rule r forbids the import, or "".
func breaks(r Rule, imp string) string {
	if ours, ok := strings.CutPrefix(imp, Module+"/"); ok {
		if matches(r.Ours, ours) {
			return ""
		}
		return "not among its packages of this module"
	}
	if first, _, _ := strings.Cut(imp, "/"); !strings.Contains(first, ".") {
		if slices.Contains(r.Never, imp) {
			return "excluded from the standard library for this package"
		}
		return ""
	}
	for _, o := range r.Others {
		if o == "*" || imp == o || strings.HasPrefix(imp, o+"/") {
			return ""
		}
	}
	return "not among its third-party modules"
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if base, ok := strings.CutSuffix(p, "..."); ok && strings.HasPrefix(name, base) || p == name {
			return true
		}
	}
	return false
}

func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles,Standard", Module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
