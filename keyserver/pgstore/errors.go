package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudmls/gateway/keyserver"
)

// errUnsure: the connection was lost while a transaction was being committed.
var errUnsure = errors.New("whether the transaction was carried out is not known")

// worthAnotherTry tells whether a transaction of which nothing remains should
// be tried again: others were in its way, or the connection was a dead one.
func worthAnotherTry(err error) bool {
	var p *pgconn.PgError
	if errors.As(err, &p) {
		switch p.Code {
		case "40001", "40P01", // serialization failure, deadlock
			"23505",                   // somebody was first
			"57P01", "57P02", "57P03", // the server goes down, or comes up
			"25P03", "25P04", // idle in transaction, transaction timeout
			"0A000": // a cached plan is of a table that was changed
			return true
		}
		return strings.HasPrefix(p.Code, "08")
	}
	return lost(err)
}

// lost tells whether an error is that of the connection, and not of somebody's
// code: those of fn pass unchanged.
func lost(err error) bool {
	var connection *databaseError
	return errors.As(err, &connection)
}

// databaseError marks what came from the driver.
type databaseError struct{ err error }

func (e *databaseError) Error() string { return e.err.Error() }
func (e *databaseError) Unwrap() error { return e.err }

func fromDatabase(err error) error {
	if err == nil {
		return nil
	}
	return &databaseError{err}
}

// outcome is what the caller of the Store is told. Connection errors name user
// and database, never the password.
func outcome(ctx context.Context, err error) error {
	if ctx.Err() != nil && lost(err) {
		return fmt.Errorf("%w: %w", keyserver.ErrUnavailable, ctx.Err())
	}
	var p *pgconn.PgError
	if errors.As(err, &p) {
		if worthAnotherTry(err) || unavailable(p.Code) {
			return fmt.Errorf("%w: %w", keyserver.ErrUnavailable, err)
		}
		return err
	}
	var connect *pgconn.ConnectError
	if lost(err) || errors.As(err, &connect) {
		return fmt.Errorf("%w: %w", keyserver.ErrUnavailable, err)
	}
	return err
}

// unavailable: the database cannot do it now; resources, operators, timeouts,
// failing over to a node that must not write.
func unavailable(code string) bool {
	switch code {
	case "55P03", "57014", "25006", "58030",
		"40003": // whether it was carried out is not known, says CockroachDB
		return true
	}
	return strings.HasPrefix(code, "53")
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func isFromServer(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p)
}

func isServerError(err error, codes ...string) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && slices.Contains(codes, p.Code)
}
