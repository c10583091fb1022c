package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/systemd"
)

// newLogger writes to w what the configuration asks for.
func newLogger(w io.Writer, c config.Log) *slog.Logger { return levelLogger(w, c, &slog.LevelVar{}) }

// levelLogger is newLogger with a level that can change.
func levelLogger(w io.Writer, c config.Log, level *slog.LevelVar) *slog.Logger {
	setLevel(level, c)
	o := &slog.HandlerOptions{Level: level}
	switch {
	case c.Format == "json":
		return slog.New(slog.NewJSONHandler(w, o))
	case w == os.Stderr && systemd.ToJournal(os.Stderr):
		return slog.New(systemd.NewHandler(w, level))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func setLevel(level *slog.LevelVar, c config.Log) {
	level.Set(map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level])
}

// configFlag adds --config. Without it CLOUDMLS_CONFIG names the file, else it
// lies where the system keeps a person's configuration.
func configFlag(c *cobra.Command, file *string, what string) {
	c.Flags().StringVarP(file, "config", "c", "", what+" (default $CLOUDMLS_CONFIG, or cloudmls/gateway.toml in your configuration folder)")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateFlagGroups(); err != nil {
			return misuse{err}
		}
		if *file != "" {
			return nil
		}
		if *file = os.Getenv("CLOUDMLS_CONFIG"); *file != "" {
			return nil
		}
		var err error
		if *file, err = config.DefaultGatewayFile(os.Getenv); err != nil {
			return misuse{fmt.Errorf("--config is missing: %w", err)}
		}
		return nil
	}
}

// loadGateway reads the gateway's configuration. Every error is a configError.
func loadGateway(file string) (*config.Gateway, error) {
	g, err := config.LoadGateway(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, configError{fmt.Errorf("%w (run 'cloudmls setup', or name the file with --config)", err)}
	case err != nil:
		return nil, configError{err}
	}
	return g, nil
}

// readSecret takes a secret from the file or environment variable that the
// configuration names, else from the terminal.
func readSecret(c *cobra.Command, what, file, env string) (secret.Secret, error) {
	switch {
	case file != "":
		return secret.FromFile(file)
	case env != "":
		return secret.FromEnv(env)
	}
	s, err := newTerminal(c).Secret(what)
	if errors.Is(err, errNotATerminal) {
		return s, fmt.Errorf("%w: name a password_file or password_env in the configuration, or run 'cloudmls setup'", err)
	}
	return s, err
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
