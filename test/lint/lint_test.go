// Package lint reads the container files of examples/ with the parsers of the
// programs that will: an engine is not needed for that, and what an engine
// alone can tell is not checked here. A module of its own keeps these parsers
// out of the program's dependencies.
package lint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const folder = "../../examples/keyserver"

func TestDockerfile(t *testing.T) {
	f, err := os.Open(filepath.Join(folder, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tree, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range tree.Warnings {
		t.Errorf("warning: %s", w.Short)
	}
	var complaints []string
	stages, _, err := instructions.Parse(tree.AST, linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		complaints = append(complaints, rule+": "+message)
	}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range complaints {
		t.Error(c)
	}
	last := stages[len(stages)-1]
	var user, entry bool
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User != "" && c.User != "root" && !strings.HasPrefix(c.User, "0")
		case *instructions.EntrypointCommand:
			entry = slices.Equal(c.CmdLine, []string{"/cloudmls"}) && !c.PrependShell
		}
	}
	if len(stages) != 2 || last.BaseName != "scratch" || !user || !entry {
		t.Errorf("%d stages, the last from %s, user set: %v, entry: %v", len(stages), last.BaseName, user, entry)
	}
}

func TestDockerfileIsChecked(t *testing.T) {
	tree, err := parser.Parse(strings.NewReader("FROM scratch\nCOPPY . .\n"))
	if err != nil {
		return
	}
	if _, _, err := instructions.Parse(tree.AST, linter.New(&linter.Config{})); err == nil {
		t.Error("a misspelt instruction was taken")
	}
}

func TestCompose(t *testing.T) {
	o, err := cli.NewProjectOptions([]string{filepath.Join(folder, "compose.yaml")}, cli.WithName("cloudmls"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context()) // checks the schema and what refers to what
	if err != nil {
		t.Fatal(err)
	}
	server, err := p.GetService("keyserver")
	if err != nil {
		t.Fatal(err)
	}
	if !server.ReadOnly || len(server.Ports) != 0 || !slices.Contains(server.CapDrop, "ALL") {
		t.Errorf("the key server: read-only %v, ports %v, dropped %v", server.ReadOnly, server.Ports, server.CapDrop)
	}
	database, err := p.GetService("database")
	if err != nil {
		t.Fatal(err)
	}
	if len(database.Ports) != 0 || len(database.Networks) != 1 {
		t.Errorf("the database can be reached from outside: ports %v, networks %v", database.Ports, database.Networks)
	}
	for name, c := range p.Configs {
		if _, err := os.Stat(c.File); err != nil {
			t.Errorf("config %s: %v", name, err)
		}
	}
	for name, s := range server.Environment {
		if s != nil && strings.Contains(strings.ToLower(name), "password") {
			t.Errorf("a secret in the environment: %s", name)
		}
	}
}
