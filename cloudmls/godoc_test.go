package cloudmls

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestAliasesAreDocumented: types that are those of an internal package show nothing of
// themselves in go doc, so what they consist of stands in their comments. A server's
// methods do not: whoever needs one takes *keyclient.Client.
func TestAliasesAreDocumented(t *testing.T) {
	t.Parallel()
	inside := map[string]ast.Expr{}
	for _, s := range typesIn(t, "internal/state") {
		inside[s.Name.Name] = s.Type
	}
	checked := 0
	for _, s := range typesIn(t, ".") {
		sel, ok := s.Type.(*ast.SelectorExpr)
		if !ok || s.Assign == token.NoPos {
			continue
		}
		if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "state" {
			continue
		}
		var list *ast.FieldList
		switch of := inside[sel.Sel.Name].(type) {
		case *ast.StructType:
			list = of.Fields
		case *ast.InterfaceType:
			list = of.Methods
		case nil:
			t.Errorf("%s: there is no state.%s", s.Name.Name, sel.Sel.Name)
			continue
		default:
			continue // of a simple type
		}
		text := s.Doc.Text()
		if strings.Contains(text, "*keyclient.Client is one") {
			continue
		}
		checked++
		for _, f := range list.List {
			for _, n := range f.Names {
				if n.IsExported() && !strings.Contains(text, n.Name) {
					t.Errorf("%s: its comment does not tell of %s", s.Name.Name, n.Name)
				}
			}
		}
	}
	if checked < 8 {
		t.Errorf("%d types were looked at", checked)
	}
}

// typesIn gives the types that a folder's files declare, with their comments.
func typesIn(t *testing.T, dir string) (all []*ast.TypeSpec) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", dir, fs.ErrNotExist, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if s, ok := s.(*ast.TypeSpec); ok {
					if s.Doc == nil {
						s.Doc = g.Doc
					}
					all = append(all, s)
				}
			}
		}
	}
	return all
}
