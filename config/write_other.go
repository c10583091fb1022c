//go:build !unix

package config

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: files inherit their rights from the folder here.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// syncDir does nothing: folders cannot be synced here.
func syncDir(string) error { return nil }
