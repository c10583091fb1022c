package cloudmls

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestFlaw17_StoresAreNotInTheLog: stores that fail, are gone or say the user's name in
// their errors are told of without any name above the debug level.
func TestFlaw17_StoresAreNotInTheLog(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice := r.user("alice")
	phone, tablet := alice.sibling(), alice.sibling()
	alice.moves(target(storeA))
	alice.moves(target(storeB))
	for _, d := range []*device{phone, tablet} {
		d.isAt(storeB)
	}
	var told, all safeBuffer
	tablet.Close()
	o := r.options(tablet.store)
	o.Logger = slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(&told, nil), slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}),
	))
	c, err := Resume(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	says := func(e *exchange) bool {
		e.status, e.header = 503, "application/problem+json"
		e.answered = encodeJSON(t, keyapi.Problem{Status: 503, Code: keyapi.CodeUnavailable, Detail: "alice at " + storeA + " is not well"})
		return true
	}
	r.wires[storeA].set(says, nil)
	if err := c.RevokeDevice(t.Context(), deviceID(t, phone)); err != nil {
		t.Fatal(err)
	}
	r.wires[storeA].set(nil, nil)
	r.wires[storeB].set(says, nil)
	if _, err := c.Store(t.Context()); err == nil {
		t.Error("a store that does not answer answered")
	}
	gone := r.stores[storeB]
	delete(r.stores, storeB)
	c.Close()
	if c, err = Resume(t.Context(), o); err == nil {
		err = c.Maintain(t.Context())
	}
	if err == nil {
		t.Error("maintained without its store")
	}
	r.stores[storeB] = gone
	if !strings.Contains(told.b.String(), "level=WARN") {
		t.Errorf("nothing was told: %s", told.b.String())
	}
	for _, name := range []string{"alice", "store-a", "store-b"} {
		if strings.Contains(told.b.String(), name) {
			t.Errorf("%s is named: %s", name, told.b.String())
		}
	}
	if !strings.Contains(all.b.String(), "is not well") {
		t.Error("the cause is nowhere")
	}
}

// TestFlaw17_StateHasOneWayToTheLog: of the sealed state no error comes to the log
// above the debug level, whatever it says.
func TestFlaw17_StateHasOneWayToTheLog(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("internal/state/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "log.go" {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if on, ok := fn.X.(*ast.SelectorExpr); !ok || on.Sel.Name != "Logger" {
				return true
			}
			found++
			if strings.HasPrefix(fn.Sel.Name, "Debug") {
				return true
			}
			for _, arg := range call.Args {
				if err := namesAnError(arg); err != nil {
					t.Errorf("%s: %v", set.Position(arg.Pos()), err)
				}
			}
			return true
		})
	}
	if found == 0 {
		t.Error("the search finds nothing")
	}
}

// namesAnError goes by the names that errors have in this tree, as a whole value.
func namesAnError(arg ast.Expr) (bad error) {
	ast.Inspect(arg, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name != "Error" {
			return false // a field of one
		}
		if id, ok := n.(*ast.Ident); ok && (id.Name == "err" || id.Name == "e" || id.Name == "failed" || id.Name == "cause") {
			bad = errors.New("an error is logged outside warn")
		}
		return true
	})
	return bad
}
