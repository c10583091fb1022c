package main

import (
	"slices"
	"testing"
)

// The key server beside the gateway is in another trust domain: the passwords
// that password_env and passphrase_env name are not for it.
func TestLocalKeyServerGetsNoSecrets(t *testing.T) {
	got := childEnvironment([]string{
		"PATH=/bin", "MAIL_PASSWORD=secret", "VAULT_PASSPHRASE=open sesame", "CREDENTIALS_DIRECTORY=/run/credentials/x",
		"NOTIFY_SOCKET=/run/notify", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/bus", "CLOUDMLS_CONFIG=/x", "HOME=/home/alice", "PATHS=no",
	})
	if want := []string{"PATH=/bin", "HOME=/home/alice"}; !slices.Equal(got, want) {
		t.Errorf("the child gets %q, want %q", got, want)
	}
	if got := childEnvironment(nil); got == nil {
		t.Error("nil means all of the parent's environment")
	}
}
