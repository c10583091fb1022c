package main

import (
	"context"
	"path/filepath"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
)

// openKeyStore opens the store that the configuration names.
func openKeyStore(_ context.Context, f *config.KeyServerFile) (keyserver.Store, error) {
	if err := makeDir(filepath.Dir(f.DataFile)); err != nil {
		return nil, err
	}
	return boltstore.Open(f.DataFile)
}
