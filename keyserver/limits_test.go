package keyserver

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// written is a limit as docs/spec/keyserver-api.md writes it.
func written(name string, v any) string {
	duration := func(d time.Duration) string {
		for _, unit := range []struct {
			name string
			d    time.Duration
		}{{"days", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
			if d >= unit.d && d%unit.d == 0 {
				return fmt.Sprintf("%d %s", d/unit.d, unit.name)
			}
		}
		return d.String()
	}
	octets := func(n int64) string {
		if n%(1<<30) == 0 {
			return fmt.Sprintf("%d GiB", n>>30)
		}
		return fmt.Sprintf("%d MiB", n>>20)
	}
	switch v := v.(type) {
	case Rate:
		return fmt.Sprintf("%d, %s", v.Burst, duration(v.Every))
	case time.Duration:
		return duration(v)
	case int64:
		return octets(v)
	case int:
		if strings.HasSuffix(name, "Bytes") {
			return octets(int64(v))
		}
	}
	return fmt.Sprint(v)
}

// TestLimitsAreDocumented: the table of the specification has every limit, as it
// is, and no other.
func TestLimitsAreDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/spec/keyserver-api.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## 11. Limits\n")
	if !ok {
		t.Fatal("there is no section about limits")
	}
	rows := map[string]string{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			rows[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	want := map[string]string{
		"limit": "default", "---": "---",
		"octets in memory": written("Bytes", octetsOfOne), "bodies without a token": fmt.Sprint(openBodiesFrom),
		"taking an answer": fmt.Sprintf("%d KiB, %d s", sendLeast>>10, sendWindow/time.Second),
	}
	l := reflect.ValueOf(DefaultLimits())
	for i := range l.NumField() {
		want[l.Type().Field(i).Name] = written(l.Type().Field(i).Name, l.Field(i).Interface())
	}
	for name, value := range want {
		if rows[name] != value {
			t.Errorf("%s is %q, and the table says %q", name, value, rows[name])
		}
		delete(rows, name)
	}
	for name := range rows {
		t.Errorf("the table has %s, the code has not", name)
	}
	for _, text := range []string{
		"at most a fourth", fmt.Sprintf("of %d MiB", int64(octetsOfAll)>>20), fmt.Sprintf("%d KiB each and %d s", openBody>>10, openTimeout/time.Second),
	} {
		if !strings.Contains(section, text) {
			t.Errorf("the table lacks %q", text)
		}
	}
	if sendParts != 60 || !strings.Contains(string(b), "at a sixtieth of it") {
		t.Error("section 2 says something else of slow readers")
	}
	if got := DefaultLimits(); got != (Limits{}).withDefaults() {
		t.Error("a zero limit is not its default")
	}
}
