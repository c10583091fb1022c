package crashpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestTableIsComplete holds docs/crash-points.md against the code: the same
// points, in the packages that the table names, each at one place.
func TestTableIsComplete(t *testing.T) {
	root := filepath.Join("..", "..")
	table, err := os.ReadFile(filepath.Join(root, "docs", "crash-points.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ([a-z/]+) \\|").FindAllSubmatch(table, -1) {
		documented[string(m[1])] = string(m[2])
	}
	if len(documented) == 0 {
		t.Fatal("the table has no rows")
	}
	inCode := map[string]string{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || folder == filepath.Join("internal", "crashpoint") {
			return err
		}
		for _, name := range points(t, path) {
			if other, ok := inCode[name]; ok {
				t.Errorf("%s is in %s and in %s; a point has one place", name, other, folder)
			}
			inCode[name] = filepath.ToSlash(folder)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, folder := range inCode {
		if documented[name] != folder {
			t.Errorf("%s is in %s; the table says %q", name, folder, documented[name])
		}
	}
	for name := range documented {
		if inCode[name] == "" {
			t.Errorf("the table has %s, the code does not", name)
		}
	}
}

// points lists the names given to Here in a file.
func points(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "crashpoint.Here") {
		return nil
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fun, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || fun.Sel.Name != "Here" {
			return true
		}
		if pkg, ok := fun.X.(*ast.Ident); !ok || pkg.Name != "crashpoint" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: the name of a crash point is a literal, so that it can be found", path)
			return true
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		names = append(names, name)
		return true
	})
	return names
}
