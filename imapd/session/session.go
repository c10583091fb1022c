package session

import (
	"context"
	"log/slog"
	"net"
)

// Config is what the connections of one server share.
type Config struct {
	Backend Backend
	Logger  *slog.Logger
	Limits  Limits
	// SpoolDir is where large uploads are spooled, encrypted; "" means the
	// system's temporary folder.
	SpoolDir string
}

// Serve speaks to one mail client until either side ends the connection or ctx
// is cancelled, and closes conn. onLogin is called once the client has signed
// in.
func Serve(ctx context.Context, conn net.Conn, c *Config, onLogin func()) {
	conn.Close()
}
