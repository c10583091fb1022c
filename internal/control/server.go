package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"
)

// Timeouts of a server.
const (
	requestTimeout = 10 * time.Second // for a request to arrive
	stopTimeout    = 5 * time.Second
)

// Serve answers commands on a listener from Listen until ctx ends, then it lets
// calls under way end for a moment, closes the listener, and returns nil. Calls
// see their context end with ctx. log gets no contents; nil discards.
func Serve(ctx context.Context, ln net.Listener, s Service, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           newHandler(s, log),
		ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, WriteTimeout: callTimeout + requestTimeout,
		IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("control socket: %w", err), server.Close())
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

type handler struct {
	service    Service
	operations map[string]operation
	log        *slog.Logger
}

func newHandler(s Service, log *slog.Logger) http.Handler {
	return &handler{service: s, operations: operations(), log: log}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	answer, err := h.call(ctx, w, r)
	status := http.StatusOK
	if err != nil {
		e := asError(err)
		if status = statuses[e.Code]; status == 0 {
			status = http.StatusInternalServerError
		}
		h.log.DebugContext(ctx, "command failed", "operation", r.URL.Path, "code", e.Code)
		answer = e
	}
	b, err := json.Marshal(answer)
	if err != nil {
		h.log.ErrorContext(ctx, "answer of a command", "operation", r.URL.Path, "err", err)
		status, b = http.StatusInternalServerError, []byte(`{"code":"internal","message":"the answer could not be encoded"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // or the command has gone
}

func (h *handler) call(ctx context.Context, w http.ResponseWriter, r *http.Request) (any, error) {
	name, ok := strings.CutPrefix(r.URL.Path, pathPrefix)
	op := h.operations[name]
	if !ok || op == nil {
		return nil, &Error{Code: CodeVersion, Message: unknownOperation, Hint: unknownOperationFix}
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Method != http.MethodPost || err != nil || t != contentType {
		return nil, &Error{Code: CodeInvalid, Message: "a call is a POST of " + contentType}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return nil, &Error{Code: CodeInvalid, Message: "the request is too long, or did not arrive", Err: err}
	}
	return op(ctx, h.service, body)
}
