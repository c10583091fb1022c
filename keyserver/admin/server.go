package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"
)

// stopTime is how long calls may finish when the server ends.
const stopTime = 5 * time.Second

// operation answers a request with a JSON value.
type operation func(ctx context.Context, o Operator, r *request) (any, error)

// stream answers with octets.
type stream func(ctx context.Context, o Operator, r *request, to io.Writer) error

func operations() map[string]operation {
	return map[string]operation{
		"users": func(ctx context.Context, o Operator, r *request) (any, error) { return o.Users(ctx, r.After, r.Limit) },
		"user":  func(ctx context.Context, o Operator, r *request) (any, error) { return o.User(ctx, r.Name) },
		"quota": func(ctx context.Context, o Operator, r *request) (any, error) {
			if r.Quota == nil {
				return nil, errors.New("quota is missing")
			}
			return struct{}{}, o.SetQuota(ctx, r.Name, *r.Quota)
		},
		"sessions-end": func(ctx context.Context, o Operator, r *request) (any, error) {
			return o.EndSessions(ctx, r.Name, r.Session)
		},
		"user-remove": func(ctx context.Context, o Operator, r *request) (any, error) {
			return struct{}{}, o.RemoveUser(ctx, r.Name)
		},
		"invite": func(ctx context.Context, o Operator, r *request) (any, error) {
			code, i, err := o.Invite(ctx, r.Lifetime, r.Comment)
			if err != nil {
				return nil, err
			}
			return toInvited(code, i), nil
		},
		"invitations": func(ctx context.Context, o Operator, _ *request) (any, error) {
			all, err := o.Invitations(ctx)
			list := make([]invited, len(all))
			for i := range all {
				list[i] = toInvited("", &all[i])
			}
			return list, err
		},
		"invitation-revoke": func(ctx context.Context, o Operator, r *request) (any, error) {
			return struct{}{}, o.RevokeInvitation(ctx, r.ID)
		},
		"check": func(ctx context.Context, o Operator, _ *request) (any, error) {
			findings, err := o.Check(ctx)
			return append([]string{}, findings...), err
		},
	}
}

func streams() map[string]stream {
	return map[string]stream{
		"export": func(ctx context.Context, o Operator, r *request, to io.Writer) error {
			return o.Export(ctx, r.Name, to)
		},
		"backup": func(ctx context.Context, o Operator, _ *request, to io.Writer) error { return o.Backup(ctx, to) },
	}
}

// Serve answers on a listener that lets only the server's own user in, until
// ctx ends; it closes the listener.
func Serve(ctx context.Context, ln net.Listener, o Operator, log *slog.Logger) error {
	s := &http.Server{
		Handler: Handler(o), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err := s.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	<-served
	return err
}

// Handler answers the calls of a Client. Whoever reaches it is the operator.
func Handler(o Operator) http.Handler {
	calls, streams := operations(), streams()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, pathPrefix)
		call, octets := calls[name], streams[name]
		if !ok || r.Method != http.MethodPost || call == nil && octets == nil {
			refuse(w, errors.New("this key server does not know the operation: it is of another version than the command"))
			return
		}
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		in := &request{}
		if err == nil {
			err = decode(b, in)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		if octets != nil {
			send(w, func(to io.Writer) error { return octets(r.Context(), o, in, to) })
			return
		}
		answer, err := call(r.Context(), o, in)
		if err != nil {
			refuse(w, err)
			return
		}
		reply(w, http.StatusOK, answer)
	})
}

func refuse(w http.ResponseWriter, err error) { reply(w, http.StatusBadRequest, toFailure(err)) }

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // or the command has gone
}

// send streams octets. An error before the first of them is told, a later one
// by the trailer that is missing.
func send(w http.ResponseWriter, write func(io.Writer) error) {
	w.Header().Set("Trailer", complete)
	body := &startedWriter{w: w}
	err := write(body)
	switch {
	case err == nil:
		if !body.started {
			w.WriteHeader(http.StatusOK)
		}
		w.Header().Set(complete, "yes")
	case !body.started:
		w.Header().Del("Trailer")
		refuse(w, err)
	}
}

type startedWriter struct {
	w       io.Writer
	started bool
}

func (s *startedWriter) Write(p []byte) (int, error) {
	s.started = true
	return s.w.Write(p)
}
