package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
)

// newLogger writes to w what the configuration asks for.
func newLogger(w io.Writer, c config.Log) *slog.Logger {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// configFlag adds --config, which is required.
func configFlag(c *cobra.Command, file *string, what string) {
	c.Flags().StringVarP(file, "config", "c", "", what+" (required)")
	c.PreRunE = func(*cobra.Command, []string) error {
		if *file == "" {
			return misuse{errors.New("--config is missing")}
		}
		return nil
	}
}

// readSecret takes a secret from the file or environment variable that the
// configuration names, else from the terminal.
func readSecret(c *cobra.Command, what, file, env string) (secret.Secret, error) {
	switch {
	case file != "":
		return secret.FromFile(file)
	case env != "":
		return secret.FromEnv(env)
	case !term.IsTerminal(int(os.Stdin.Fd())):
		return secret.Secret{}, fmt.Errorf("no %s: name a password_file or password_env in the configuration, or run this in a terminal", what)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s: ", what)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(c.ErrOrStderr())
	if err != nil {
		return secret.Secret{}, fmt.Errorf("read the %s: %w", what, err)
	}
	if len(b) == 0 {
		return secret.Secret{}, fmt.Errorf("the %s is empty", what)
	}
	defer clear(b)
	return secret.New(b), nil
}

// trust gives a TLS configuration that trusts the certificates of a file, or
// the system's where there is none.
func trust(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none in PEM form", caFile)
	}
	return c, nil
}

// derive makes a key for one purpose from the 32 octets of a key file.
func derive(key secret.Secret, purpose string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, key.Reveal(), nil, "cloudmls/1 "+purpose, n)
}

// makeDir creates a folder for the owner alone.
func makeDir(name string) error {
	if err := os.MkdirAll(name, 0o700); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	return nil
}

// closing closes c at the end of a command and keeps its error.
func closing(err *error, what string, c func() error) {
	if closeErr := c(); closeErr != nil {
		*err = errors.Join(*err, fmt.Errorf("close %s: %w", what, closeErr))
	}
}

// ended tells whether the command was ended from outside, which is no failure.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func inDir(dir, name string) string { return filepath.Join(dir, name) }
