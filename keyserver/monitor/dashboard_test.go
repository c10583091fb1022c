package monitor_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/keyserver/monitor"
)

// TestDashboard: the dashboard of examples/keyserver asks for figures that
// there are.
func TestDashboard(t *testing.T) {
	b, err := os.ReadFile("../../examples/keyserver/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	m := monitor.New("test")
	ks := keyservertest.NewServer(t, keyservertest.Options{Server: keyserver.Options{Store: m.Store(open(t))}, Wrap: m.Count})
	get(t, ks.URL+"/v1/server")
	text := exposed(t, m)
	name := regexp.MustCompile(`\b(cloudmls|process|go)_[a-z_]+`)
	asked := 0
	for _, p := range d.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, n := range name.FindAllString(target.Expr, -1) {
				asked++
				if !strings.Contains(text, "\n"+n+"{") && !strings.Contains(text, "\n"+n+" ") {
					t.Errorf("panel %q asks for %s, which there is not", p.Title, n)
				}
			}
		}
	}
	if asked < 10 {
		t.Errorf("%d figures in the dashboard", asked)
	}
}
