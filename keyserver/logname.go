package keyserver

import (
	"encoding/hex"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Nothing in the logs names a user, a session or an account (F17, F36). What
// has to be told apart appears as the first octets of a keyed hash: the same
// thing has the same name in all lines, and nobody without the pepper can try
// out addresses.

func (s *Server) logHash(what, name string) string {
	return hex.EncodeToString(s.hidden("log "+what, name)[:6])
}

// logName is the name of an account in the logs.
func (s *Server) logName(a keyapi.Account) string { return s.logHash("account", bucketKey(a)) }
