package device

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/config"
)

// The certificates that are trusted for the key server say nothing of stores of the
// user's own: else its operator could answer for any of them.
func TestOwnStoresHaveAuthoritiesOfTheirOwn(t *testing.T) {
	t.Parallel()
	asked := 0
	store := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		http.Error(w, "no key server", http.StatusTeapot)
	}))
	defer store.Close()
	store.Config.ErrorLog = nil
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: store.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none.pem")
	if err := os.WriteFile(none, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keyServer config.KeyServer
		want      string // of the error
		asked     bool
	}{
		"the key server's":  {config.KeyServer{CAFile: ca}, "certificate", false},
		"the system's":      {config.KeyServer{}, "certificate", false},
		"the stores'":       {config.KeyServer{StoreCAFile: ca}, "", true},
		"a file of nothing": {config.KeyServer{StoreCAFile: none}, "holds none", false},
		"no file":           {config.KeyServer{StoreCAFile: ca + "x"}, "read certificates", false},
	} {
		asked = 0
		srv, err := DialStore(&config.Gateway{KeyServer: c.keyServer})(context.Background(), store.URL)
		if err == nil {
			_, err = srv.Server(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || (asked > 0) != c.asked {
			t.Errorf("%s: asked %d times: %v", name, asked, err)
		}
	}
}

// What is trusted for stores comes beside the system's authorities.
func TestTrustTooKeepsTheSystems(t *testing.T) {
	t.Parallel()
	c, err := TrustToo("")
	if err != nil || c.RootCAs != nil {
		t.Errorf("without a file the system's are not taken as they are: %v", err)
	}
}
