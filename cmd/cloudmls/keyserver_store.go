package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/keyserver/admin"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/pgstore"
)

// openKeyStore opens the store that the configuration names.
func openKeyStore(ctx context.Context, f *config.KeyServerFile, log *slog.Logger) (admin.Store, error) {
	if f.Store.Kind == "file" {
		if err := makeDir(filepath.Dir(f.DataFile)); err != nil {
			return nil, err
		}
		return boltstore.Open(f.DataFile)
	}
	return openPostgreSQL(ctx, f, log)
}

func openPostgreSQL(ctx context.Context, f *config.KeyServerFile, log *slog.Logger) (*pgstore.Store, error) {
	dsn, err := configuredSecret(f.Store.DSNFile, f.Store.DSNEnv)
	if err != nil {
		return nil, configError{err}
	}
	return pgstore.Open(ctx, pgstore.Options{
		DSN: dsn.RevealString(), Schema: f.Store.Schema, MaxConns: f.Store.MaxConnections, Logger: log,
		Poll: time.Duration(f.Store.PollSeconds) * time.Second, Serializable: f.Store.Serializable,
		NoMigrate: f.Store.NoMigrate, AllowCleartext: f.Store.AllowCleartext,
	})
}
