package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrVersion: the tables are not of this program's version.
var ErrVersion = errors.New("tables of another version")

type migration struct {
	version    int
	postgres   bool // for PostgreSQL alone
	statements []string
}

// readMigrations gives them in order; their numbers begin at 1 without gaps.
func readMigrations() ([]migration, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var all []migration
	for i, name := range files { // sorted
		b, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m := migration{postgres: strings.HasSuffix(name, ".postgresql.sql")}
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		if m.version, err = strconv.Atoi(number); err != nil || m.version != i+1 {
			return nil, fmt.Errorf("migration %s is not number %d", name, i+1)
		}
		m.statements = split(string(b))
		all = append(all, m)
	}
	return all, nil
}

// split takes a file apart at each ";" that ends a line, and drops comments.
func split(file string) []string {
	var all []string
	var sql strings.Builder
	for line := range strings.Lines(file) {
		if strings.HasPrefix(line, "--") {
			continue
		}
		sql.WriteString(line)
		if strings.HasSuffix(strings.TrimSpace(line), ";") {
			all = append(all, strings.TrimSuffix(strings.TrimSpace(sql.String()), ";"))
			sql.Reset()
		}
	}
	return all
}

// migrate brings the tables to this program's version, whichever of several
// processes comes first: the others wait at a row of schema_lock.
func (s *Store) migrate(ctx context.Context, conn *pgx.Conn) error {
	all, err := readMigrations()
	if err != nil {
		return err
	}
	if s.options.NoMigrate {
		version, err := s.version(ctx, conn)
		if err == nil && version != len(all) {
			err = fmt.Errorf("%w: %d, this program has %d; run one process that may migrate", ErrVersion, version, len(all))
		}
		return err
	}
	for n := 1; ; n++ {
		err := s.migrateOnce(ctx, conn, all)
		if err == nil || n == attempts || !isServerError(err, madeTwice...) {
			return err
		}
		s.log.Info("migration is tried again", "error", err)
	}
}

// madeTwice are PostgreSQL's answers to who makes what another makes at the same
// time; IF NOT EXISTS does not keep it from them. 42710 is about the type that
// each table's row has.
var madeTwice = []string{"23505", "42P06", "42P07", "42710", "40001", "40P01", "XX000"}

func (s *Store) migrateOnce(ctx context.Context, conn *pgx.Conn, all []migration) (err error) {
	version, err := s.version(ctx, conn)
	if err == nil && version == len(all) { // no rights to change anything are needed
		return nil
	}
	for _, sql := range []string{
		"CREATE SCHEMA IF NOT EXISTS " + s.options.Schema,
		"CREATE TABLE IF NOT EXISTS schema_version (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
		"CREATE TABLE IF NOT EXISTS schema_lock (one integer PRIMARY KEY)",
		"INSERT INTO schema_lock (one) VALUES (1) ON CONFLICT DO NOTHING",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("prepare migration: %w", err)
		}
	}
	var banner string
	if err := conn.QueryRow(ctx, "SELECT version()").Scan(&banner); err != nil {
		return err
	}
	postgres := strings.HasPrefix(banner, "PostgreSQL ") && !strings.Contains(banner, "-YB-")
	for {
		done, err := s.step(ctx, conn, all, postgres)
		if err != nil || done {
			return err
		}
	}
}

// step carries out the next migration under the lock, in a transaction.
func (s *Store) step(ctx context.Context, conn *pgx.Conn, all []migration, postgres bool) (done bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT one FROM schema_lock FOR UPDATE"); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version); err != nil {
			return err
		}
		if version > len(all) {
			return fmt.Errorf("%w: %d, this program knows up to %d; run the program that made them, or a newer one", ErrVersion, version, len(all))
		}
		if done = version == len(all); done {
			return nil
		}
		m := all[version]
		for _, sql := range m.statements {
			if m.postgres && !postgres {
				break
			}
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("migration %d: %w", m.version, err)
			}
		}
		s.log.Info("migrated", "version", m.version)
		_, err := tx.Exec(ctx, "INSERT INTO schema_version (version) VALUES ($1)", m.version)
		return err
	})
	return done, err
}

// version reads without changing anything; 0: there are no tables.
func (s *Store) version(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version)
	if isServerError(err, "42P01") {
		return 0, nil
	}
	return version, err
}
