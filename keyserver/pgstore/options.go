// Package pgstore keeps a key server's data in PostgreSQL, or in a database that
// speaks its protocol: any number of server processes on one database, none of
// which has state of its own.
//
// Isolation. A transaction is strict two-phase locking on what it touches:
// before anything is read in an Update, the row of table locks is locked that
// the user, account, conversation or other thing hashes to, whether the thing
// exists or not. So READ COMMITTED, where each statement sees what was committed
// before it, gives serializable transactions, and waiting takes the place of
// starting over. Transactions of which no two have a lock in common may share
// one of the database (group.go). Databases with another idea of READ COMMITTED
// run with Options.Serializable, where none is shared; docs/guide says which.
package pgstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of Open. Only DSN is required.
type Options struct {
	// DSN is a connection string or URL as libpq has them. It is a secret; no
	// error shows it. Variables of libpq (PGHOST, PGPASSFILE and so on) count.
	DSN string
	// Schema holds the tables; empty: "cloudmls_keyserver". It is made where the
	// user may do so. search_path is set to it and nothing else.
	Schema string
	// MaxConns bounds the connections of this process; zero: 16. One more is used
	// to listen.
	MaxConns int
	MinConns int // kept open when idle
	// StatementTimeout ends statements and lock waits on the server's side; zero:
	// 30 s.
	StatementTimeout time.Duration
	// Poll asks the database every so often for news of other processes, instead
	// of LISTEN and NOTIFY: for CockroachDB, for YugabyteDB, behind PgBouncer.
	// Zero: LISTEN.
	Poll time.Duration
	// Serializable runs all transactions at that isolation level.
	Serializable bool
	// NoMigrate refuses to start on another version than this program's, instead
	// of migrating: for processes without the right to change tables.
	NoMigrate bool
	// AllowCleartext lets the connection go over a network without TLS.
	AllowCleartext bool
	Logger         *slog.Logger // nil discards
}

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// config checks the options and fills the defaults.
func (o *Options) config() (*pgxpool.Config, error) {
	if o.DSN == "" {
		return nil, errors.New("options: DSN is missing")
	}
	if o.Schema == "" {
		o.Schema = "cloudmls_keyserver"
	}
	if !schemaName.MatchString(o.Schema) {
		return nil, errors.New("options: Schema must be lower-case letters, digits and _, at most 63")
	}
	if o.MaxConns < 0 || o.MaxConns > 10_000 || o.MinConns < 0 || o.StatementTimeout < 0 || o.Poll < 0 {
		return nil, errors.New("options: a number is below zero or out of bounds")
	}
	if o.MaxConns == 0 {
		o.MaxConns = 16
	}
	o.MinConns = min(o.MinConns, o.MaxConns)
	if o.StatementTimeout == 0 {
		o.StatementTimeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("options: DSN cannot be read: %w", withoutDSN(err))
	}
	if err := o.checkClear(c.ConnConfig); err != nil {
		return nil, err
	}
	c.MaxConns, c.MinConns = int32(o.MaxConns), int32(o.MinConns)
	c.MaxConnLifetimeJitter = c.MaxConnLifetime / 10
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = 10 * time.Second
	}
	o.pin(c.ConnConfig)
	return c, nil
}

// pin sets what the statements of this package rely on, whatever database and
// user have as their defaults.
func (o *Options) pin(c *pgx.ConnConfig) {
	timeout := strconv.FormatInt(o.StatementTimeout.Milliseconds(), 10)
	for name, value := range map[string]string{
		"search_path": o.Schema, "statement_timeout": timeout, "idle_in_transaction_session_timeout": timeout,
		"client_encoding": "UTF8",
	} {
		c.RuntimeParams[name] = value
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "cloudmls keyserver"
	}
}

// withoutDSN drops what pgx's errors quote of the connection string.
func withoutDSN(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file
	}
	return errors.New("not a connection string or URL that libpq would take; look at its form, its port and its sslmode")
}

// checkClear refuses a connection string that lets octets leave the machine in
// clear, be it only where the server has no TLS ("prefer").
func (o *Options) checkClear(c *pgx.ConnConfig) error {
	clear := func(host string, t *tls.Config) bool {
		ip, err := netip.ParseAddr(host)
		local := strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || err == nil && ip.IsLoopback()
		return t == nil && !local
	}
	bad := clear(c.Host, c.TLSConfig)
	for _, f := range c.Fallbacks {
		bad = bad || clear(f.Host, f.TLSConfig)
	}
	if bad && !o.AllowCleartext {
		return errors.New("options: DSN: the database could be spoken to in clear over a network: set sslmode=verify-full with sslrootcert, or allow clear text")
	}
	return nil
}
