package pgstore

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

// foreign are words of PostgreSQL that CockroachDB or YugabyteDB lack, or give
// another meaning.
var foreign = map[string]*regexp.Regexp{
	"LISTEN and NOTIFY":    word(`LISTEN|UNLISTEN|NOTIFY|pg_notify`),
	"advisory locks":       word(`pg_(try_)?advisory_\w+`),
	"triggers, rules":      word(`TRIGGER|CREATE\s+RULE`),
	"functions":            word(`PL/pgSQL|plpgsql|CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)|DO\s+\$`),
	"extensions":           word(`CREATE\s+EXTENSION|pgcrypto`),
	"sequences":            word(`SMALLSERIAL|BIGSERIAL|SERIAL|SEQUENCE|nextval|currval|setval|IDENTITY`),
	"deferred constraints": word(`DEFERRABLE|DEFERRED|EXCLUDE\s+USING`),
	"partitions":           word(`PARTITION\s+(BY|OF)|INHERITS|TABLESPACE`),
	"other tables":         word(`UNLOGGED|TEMP|TEMPORARY|MATERIALIZED\s+VIEW`),
	"table locks":          word(`LOCK\s+TABLE|VACUUM|CLUSTER`),
	"hidden columns":       word(`ctid|xmin|xmax|txid_current|pg_current_xact_id`),
	"large objects":        word(`lo_\w+|COPY`),
	"other statements":     word(`MERGE\s+INTO|DECLARE|FETCH|PREPARE\s+TRANSACTION`),
	"storage":              word(`SET\s+STORAGE`),
}

func word(pattern string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(^|\W)(` + pattern + `)($|\W)`)
}

// allowed: where each of these is, and is not used by a store with Poll, or with
// another database than PostgreSQL.
var allowed = map[string]string{
	"news.go":                               "LISTEN and NOTIFY", // Options.Poll replaces it
	"migrations/002_storage.postgresql.sql": "storage",
}

var sqlWords = word(`SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|BEGIN|COMMIT|SET|LISTEN|NOTIFY|LOCK|VACUUM|TRUNCATE`)

// statementsOf gives the text that may be SQL of a file: all of a migration but
// its comments, and the strings of Go.
func statementsOf(t *testing.T, name string) []string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(name, ".sql") {
		return []string{regexp.MustCompile(`(?m)--.*$`).ReplaceAllString(string(b), "")}
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			if sqlWords.MatchString(text) {
				list = append(list, text)
			}
		}
		return true
	})
	return list
}

// TestStatementsArePortable: no statement uses what databases that speak
// PostgreSQL's protocol lack, but where it is for PostgreSQL alone.
func TestStatementsArePortable(t *testing.T) {
	var files []string
	err := filepath.WalkDir(".", func(name string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(name, ".sql") || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			files = append(files, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	statements, used := 0, map[string]bool{}
	for _, name := range files {
		for _, text := range statementsOf(t, name) {
			statements++
			for what, pattern := range foreign {
				if found := pattern.FindString(text); found != "" {
					used[name] = used[name] || allowed[name] == what
					if allowed[name] != what {
						t.Errorf("%s: %s: %q", name, what, strings.TrimSpace(found))
					}
				}
			}
		}
	}
	if statements < 40 {
		t.Errorf("only %d statements were found", statements)
	}
	for name := range allowed {
		if !used[name] {
			t.Errorf("%s has no more need of its exception", name)
		}
	}
}

// TestOperatorsAreToldAboutOtherDatabases: what a store needs to run on them is
// where an operator reads.
func TestOperatorsAreToldAboutOtherDatabases(t *testing.T) {
	for name, words := range map[string][]string{
		"../../docs/guide/operating-keyserver.md": {"serializable = true", "poll_seconds = 1", "CockroachDB", "YugabyteDB"},
		"../../docs/adr/0012-postgresql.md":       {"CockroachDB", "YugabyteDB", "PgBouncer", "`Poll`"},
	} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if !strings.Contains(string(b), w) {
				t.Errorf("%s does not say %q", name, w)
			}
		}
	}
}
