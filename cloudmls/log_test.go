package cloudmls

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestFlaw17_WarningsNameNobody: a member who cannot be let in again is an error
// that names them, and a warning that does not. The cause is there for whoever
// asks for the debug level.
func TestFlaw17_WarningsNameNobody(t *testing.T) {
	t.Parallel()
	w, _, bob, carol, _ := splitOff(t)
	carol.mustSync()
	var warned, all safeBuffer
	bob.Close()
	o := w.options(bob.store)
	o.Logger = slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(&warned, nil), slog.NewTextHandler(&all, &slog.HandlerOptions{Level: slog.LevelDebug}),
	))
	c, err := Resume(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.wire.set(nil, func(e *exchange) {
		if e.is("POST", "/v1/keypackages/email/"+carol.self.ID+"/claim") {
			e.status, e.header = 404, "application/problem+json"
			e.answered = encodeJSON(t, keyapi.Problem{Status: 404, Code: keyapi.CodeNoKeyPackage, Title: "none"})
		}
	})
	for range 3 {
		if _, err := c.Sync(t.Context(), bob.self); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(time.Hour)
	}
	if !strings.Contains(warned.b.String(), "a member was not let in again") || strings.Contains(warned.b.String(), "carol") {
		t.Errorf("above the debug level: %s", warned.b.String())
	}
	if !strings.Contains(all.b.String(), carol.self.ID) {
		t.Error("the cause is nowhere")
	}
}

// TestFlaw17_OneWayToTheLog: errors name accounts, so that everything above the
// debug level goes through warn, which leaves them out.
func TestFlaw17_OneWayToTheLog(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	look := func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if on, ok := call.X.(*ast.SelectorExpr); ok && on.Sel.Name == "Logger" {
			if found++; !strings.HasPrefix(call.Sel.Name, "Debug") {
				t.Errorf("Logger.%s is called outside warn", call.Sel.Name)
			}
		}
		return true
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "log.go" {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, look)
	}
	if found == 0 {
		t.Error("the search finds nothing")
	}
}
