package cloudmls

import (
	"context"
	"log/slog"
)

// warn logs what failed without its cause, which may name accounts: that goes to
// the debug level (F17). It is the only way to the log above that level.
func (c *Client) warn(ctx context.Context, what string, cause error) {
	c.o.Logger.WarnContext(ctx, what)
	c.o.Logger.DebugContext(ctx, "cause of a warning", slog.String("warning", what), slog.Any("err", cause))
}
