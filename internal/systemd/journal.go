package systemd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Handler writes log lines for the journal: the priority in front, no time,
// which the journal adds.
type Handler struct {
	out   *output
	inner slog.Handler
}

type output struct {
	mu  sync.Mutex
	w   io.Writer
	buf bytes.Buffer
}

// NewHandler returns a handler that writes to w. It is safe for concurrent use.
func NewHandler(w io.Writer, level slog.Leveler) *Handler {
	out := &output{w: w}
	inner := slog.NewTextHandler(&out.buf, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime})
	return &Handler{out: out, inner: inner}
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return slog.Attr{}
	}
	return a
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.inner.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{out: h.out, inner: h.inner.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{out: h.out, inner: h.inner.WithGroup(name)}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.buf.Reset()
	if err := h.inner.Handle(ctx, r); err != nil {
		return err
	}
	line := strings.TrimSuffix(h.out.buf.String(), "\n")
	_, err := fmt.Fprintf(h.out.w, "<%d>%s\n", priority(r.Level), line)
	return err
}

// priority is the level of syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
