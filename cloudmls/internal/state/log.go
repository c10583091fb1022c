package state

import (
	"context"
	"log/slog"
)

// warn logs what failed without its cause, which may name accounts, user names and the
// user's own stores: that goes to the debug level (F17). It is the only way for an
// error to the log above that level.
func (s *Store) warn(ctx context.Context, what string, cause error) {
	s.cfg.Logger.WarnContext(ctx, what)
	s.cause(ctx, what, cause)
}

// inform is warn for what is no failure.
func (s *Store) inform(ctx context.Context, what string, cause error) {
	s.cfg.Logger.InfoContext(ctx, what)
	s.cause(ctx, what, cause)
}

func (s *Store) cause(ctx context.Context, of string, cause error) {
	s.cfg.Logger.DebugContext(ctx, "cause of a warning", slog.String("warning", of), slog.Any("err", cause))
}
