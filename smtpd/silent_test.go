package smtpd

import (
	"net"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// TestSilentProvider: a provider that takes connections and says nothing is
// told from one that is down.
func TestSilentProvider(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, mode := range map[string]TLSMode{"without TLS": TLSNone, "TLS": TLSImplicit, "STARTTLS": TLSStartTLS} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Dial: 200 * time.Millisecond}}})
			w.account.upstream = Upstream{Addr: silent.Addr().String(), Mode: mode}
			_, err := send(w.client(), alice, []string{bob}, letter, nil)
			wantSMTP(t, err, 451, smtp.EnhancedCode{4, 4, 1}, "your mail provider (127.0.0.1) does not answer; nothing was sent. Try again later")
		})
	}
}
