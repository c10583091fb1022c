package archtest

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var updateAPI = flag.Bool("update-api", false, "write the lists of exported names anew")

// published are the packages that others import.
var published = []string{"cloudmls", "cloudmls/boltstore", "mls", "keyserver/keyclient", "keyserver/keyapi"}

// TestAPI holds the exported names of the published packages, with their types,
// against the lists in testdata/api. A line that is gone breaks programs of
// others: keep the name, or say in CHANGELOG.md what to write instead and run
// go test ./internal/archtest -run TestAPI -update-api. New lines are added the
// same way, so that each of them is seen in review. ('make apidiff BASE=REVISION'
// compares two revisions by the rules of the Go project.)
func TestAPI(t *testing.T) {
	for _, pkg := range published {
		lines, err := exported(filepath.Join("../..", pkg))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", "api", strings.ReplaceAll(pkg, "/", "-")+".txt")
		if *updateAPI {
			if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		for _, l := range want {
			if !slices.Contains(lines, l) {
				t.Errorf("%s: gone or changed: %s", pkg, l)
			}
		}
		for _, l := range lines {
			if !slices.Contains(want, l) {
				t.Errorf("%s: new, not in %s: %s", pkg, file, l)
			}
		}
	}
}

// exported lists what a folder's package exports, one line each, in order.
func exported(dir string) (lines []string, err error) {
	fset := token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && receiverExported(d) {
					d.Body, d.Doc = nil, nil
					lines = append(lines, oneLine(fset, d))
				}
			case *ast.GenDecl:
				lines = append(lines, specs(fset, d)...)
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func specs(fset *token.FileSet, d *ast.GenDecl) (lines []string) {
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if n.IsExported() {
					kind := ""
					if s.Type != nil {
						kind = " " + oneLine(fset, s.Type)
					}
					lines = append(lines, d.Tok.String()+" "+n.Name+kind)
				}
			}
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				lines = append(lines, typeLines(fset, s)...)
			}
		}
	}
	return lines
}

// typeLines gives a type, and its exported fields or methods one by one: a field
// more is no change of the others.
func typeLines(fset *token.FileSet, s *ast.TypeSpec) []string {
	head := "type " + s.Name.Name + " "
	var fields *ast.FieldList
	switch t := s.Type.(type) {
	case *ast.StructType:
		head, fields = head+"struct", t.Fields
	case *ast.InterfaceType:
		head, fields = head+"interface", t.Methods
	default:
		equals := ""
		if s.Assign.IsValid() {
			equals = "= "
		}
		return []string{head + equals + oneLine(fset, s.Type)}
	}
	lines := []string{head}
	for _, f := range fields.List {
		if len(f.Names) == 0 {
			lines = append(lines, head+", embeds "+oneLine(fset, f.Type))
		}
		for _, n := range f.Names {
			if n.IsExported() {
				lines = append(lines, head+", "+n.Name+" "+oneLine(fset, f.Type))
			}
		}
	}
	return lines
}

func oneLine(fset *token.FileSet, n any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, fset, n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
