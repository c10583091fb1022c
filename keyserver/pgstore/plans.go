package pgstore

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Every condition of the statements of transactions has an index, and the index
// is the way to go however few rows a table has: what the database knows of
// tables that have just grown is old, and a plan that reads all of one would be
// kept. So other ways are forbidden on these connections, and plans are made
// once. These are settings of PostgreSQL; a database that lacks them decides by
// itself.
const (
	indexesOnly = `SELECT set_config(name, 'off', false) FROM pg_catalog.pg_settings
		WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'enable_bitmapscan', 'enable_material', 'jit')`
	plansOnce = `SELECT set_config(name, 'force_generic_plan', false) FROM pg_catalog.pg_settings WHERE name = 'plan_cache_mode'`
	// anyWay is for the rest of a transaction that reads everything.
	anyWay = `SELECT set_config(name, 'on', true) FROM pg_catalog.pg_settings
		WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'enable_bitmapscan', 'enable_material')`
)

// suggestPlans is no condition of anything but speed.
func (s *Store) suggestPlans(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{indexesOnly, plansOnce} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			s.log.Debug("the database does not take settings of its planner", "error", err)
		}
		if conn.IsClosed() {
			return ctx.Err() // or the pool notices by itself
		}
	}
	return nil
}
