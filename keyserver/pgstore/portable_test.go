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
	"time"

	"github.com/cloudmls/gateway/keyserver"
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
	"digests":              word(`sha\d+|md5|digest|hmac|encode|decode`),
	"skipping":             word(`SKIP\s+LOCKED|NOWAIT`),
}

func word(pattern string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(^|\W)(` + pattern + `)($|\W)`)
}

// allowed: where each of these is, and is not used by a store with Poll, or with
// another database than PostgreSQL.
var allowed = map[string]string{
	"news.go":                               "LISTEN and NOTIFY", // Options.Poll replaces it
	"migrations/002_storage.postgresql.sql": "storage",
	"group.go":                              "skipping", // where transactions share one of the database, so never with Serializable
	"expire.go":                             "skipping", // TestSerializableSkipsNothing
}

var sqlWords = word(`SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH|BEGIN|COMMIT|SET|LISTEN|NOTIFY|LOCK|LOCKED|VACUUM|TRUNCATE`)

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

// TestSerializableSkipsNothing: YugabyteDB refuses SKIP LOCKED at that level.
func TestSerializableSkipsNothing(t *testing.T) {
	for _, e := range expiring {
		if sql := expireSQL(e.table, e.key, e.more, true); strings.Contains(sql, "SKIP") || !strings.Contains(sql, "FOR UPDATE)") {
			t.Errorf("%s: %s", e.table, sql)
		}
		if sql := expireSQL(e.table, e.key, e.more, false); !strings.Contains(sql, "FOR UPDATE SKIP LOCKED)") {
			t.Errorf("%s: %s", e.table, sql)
		}
	}
	updates, views := newCrowds(&Store{options: Options{Serializable: true}})
	if updates.most != 1 || views.most < 1 || !strings.Contains(updates.beginning, "SERIALIZABLE") || !strings.Contains(views.beginning, "SERIALIZABLE") {
		t.Errorf("groups of %d and %d: %q, %q", updates.most, views.most, updates.beginning, views.beginning)
	}
}

// TestMigrationsMayBeCarriedOutAgain: where the making of tables is no part of a
// transaction, a process that was killed leaves some of them, and no version.
func TestMigrationsMayBeCarriedOutAgain(t *testing.T) {
	o := newOptions()
	s := open(t, o)
	fill(t, s)
	for _, sql := range []string{"DELETE FROM schema_version WHERE version > 0", "DROP INDEX results_end", "DROP TABLE notes", "DELETE FROM locks WHERE n > 100"} {
		if _, err := s.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	again := open(t, o)
	if list, err := again.Check(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("%q, %v", list, err)
	}
	var n int
	err := again.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "+
		"WHERE n.nspname = $1 AND c.relname IN ('results_end', 'notes', 'notes_end')", o.Schema).Scan(&n)
	if err != nil || n != 3 {
		t.Errorf("%d of the three that were missing are there, %v", n, err)
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

// TestSerializableExpiresOneAtATime: who removes what has ended does so alone until
// its end, or all who are at work would want the same rows; others go on.
func TestSerializableExpiresOneAtATime(t *testing.T) {
	for _, serializable := range []bool{true, false} {
		o := newOptions()
		o.Serializable = serializable
		s := open(t, o)
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			if err := w.Expire(time.Now(), 10); err != nil {
				return err
			}
			if s.expiring.Load() != serializable {
				t.Errorf("serializable %v: between the removal and the end of the transaction it is somebody's: %v", serializable, !serializable)
			}
			return s.Update(t.Context(), func(other keyserver.Writer) error { return other.Expire(time.Now().Add(time.Hour), 10) })
		})
		if err != nil || s.expiring.Load() {
			t.Errorf("serializable %v: afterwards %v, %v", serializable, s.expiring.Load(), err)
		}
	}
}
