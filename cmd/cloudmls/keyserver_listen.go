package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/systemd"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/admin"
	"github.com/cloudmls/gateway/keyserver/certs"
	"github.com/cloudmls/gateway/keyserver/monitor"
)

// stopTime is how long requests may finish when the key server stops.
const stopTime = 10 * time.Second

// keyServerHandler adds what a supervisor asks to the API. No ServeMux: it
// would redirect the paths of account ids with two slashes.
func keyServerHandler(api http.Handler, h *monitor.Health) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/healthz":
			h.Alive(w, r)
		case r.Method == http.MethodGet && r.URL.Path == "/readyz":
			h.Ready(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	})
}

func metricsHandler(m *monitor.Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Expose())
	return mux
}

// endpoint is one server with its listener.
type endpoint struct {
	server   *http.Server
	listener net.Listener
}

// keyServerListeners listens for the API and, if it is configured, for those
// who read the metrics. limit bounds the connections of the API.
func keyServerListeners(
	ctx context.Context, f *config.KeyServerFile, log *slog.Logger, api, metrics http.Handler, limit func(net.Listener) net.Listener,
) ([]endpoint, error) {
	ln, err := keyServerListener(ctx, f, log, limit)
	if err != nil {
		return nil, err
	}
	all := []endpoint{{keyserver.HTTPServer(api, log), ln}}
	if f.Metrics.Listen != "" {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.Metrics.Listen)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("metrics: %w", err), all[0].listener.Close())
		}
		all = append(all, endpoint{keyserver.HTTPServer(metrics, log), ln})
	}
	return all, nil
}

// keyServerListener listens where the configuration says, or takes the socket
// that systemd listens on already; TLS comes on top.
func keyServerListener(ctx context.Context, f *config.KeyServerFile, log *slog.Logger, limit func(net.Listener) net.Listener) (net.Listener, error) {
	secure, err := keyServerTLS(f, log)
	if err != nil {
		return nil, err
	}
	ln, err := systemd.Listener()
	if err == nil && ln == nil {
		ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", f.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	ln = limit(ln)
	if secure == nil {
		return ln, nil
	}
	return tls.NewListener(ln, secure), nil
}

func keyServerTLS(f *config.KeyServerFile, log *slog.Logger) (*tls.Config, error) {
	switch {
	case f.ACME.Enabled:
		origin, err := url.Parse(f.Origin)
		if err != nil {
			return nil, err
		}
		roots, err := rootsFrom(f.ACME.CAFile)
		if err != nil {
			return nil, err
		}
		return certs.ACME(certs.ACMEOptions{
			Hosts: []string{origin.Hostname()}, Email: f.ACME.Email, Directory: f.ACME.Directory, Cache: f.ACME.CacheDir, Roots: roots, Log: log,
		})
	case f.TLSCert != "":
		files, err := certs.OpenFiles(f.TLSCert, f.TLSKey, log)
		if err != nil {
			return nil, err
		}
		return files.TLS(), nil
	}
	return nil, nil
}

// rootsFrom reads certificates to trust; nil where no file is named.
func rootsFrom(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, configError{fmt.Errorf("%s holds no certificate", file)}
	}
	return roots, nil
}

// serveAll serves until ctx ends or one of the servers fails, then lets
// requests finish; wake ends long-polls, which would otherwise be waited for.
func serveAll(ctx context.Context, all []endpoint, wake func() error) error {
	failed := make(chan error, len(all))
	for _, s := range all {
		go func() { failed <- s.server.Serve(s.listener) }()
	}
	var err error
	running := len(all)
	select {
	case err = <-failed:
		running--
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	err = errors.Join(err, wake())
	for _, s := range all {
		err = errors.Join(err, s.server.Shutdown(stop))
	}
	for range running {
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

func closeAll(all []endpoint) error {
	var err error
	for _, e := range all {
		err = errors.Join(err, e.listener.Close())
	}
	return err
}

// serveOperator answers an operator's commands, beside the file that they
// cannot open meanwhile.
func serveOperator(ctx context.Context, f *config.KeyServerFile, o admin.Operator, log *slog.Logger) (stop func(), err error) {
	if f.Store.Kind != "file" {
		return func() {}, nil
	}
	ln, err := control.ListenForOperator(adminSocket(f))
	if err != nil {
		return nil, fmt.Errorf("socket for the operator: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := admin.Serve(ctx, ln, o, log); err != nil {
			log.Error("the operator's commands cannot reach the server any more", "err", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}, nil
}
