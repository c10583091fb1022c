//go:build !linux

package systemd

import (
	"net"
	"os"
)

// Ready tells that the service serves; there is no systemd here to be told.
func Ready(string) error { return nil }

// Reloading tells that the configuration is being read again.
func Reloading() error { return nil }

// Stopping tells that the service ends.
func Stopping() error { return nil }

// ToJournal reports whether f is connected to the journal.
func ToJournal(*os.File) bool { return false }

// Listener returns nil; there is no systemd here that could listen.
func Listener() (net.Listener, error) { return nil, nil }
