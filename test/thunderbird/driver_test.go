package thunderbird

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// patience bounds one call to Thunderbird. Nothing here is measured against it.
const patience = 3 * time.Minute

// args are the arguments of a function of test/tbdriver.
type args map[string]any

// thunderbird is one running instance with a profile of its own. It is not
// safe for concurrent use.
type thunderbird struct {
	dir   string
	in    io.WriteCloser
	out   chan []byte // answers; closed when the driver has ended
	next  int
	known int // events up to this number were looked at
}

// event is something that a user would have noticed.
type event struct {
	Seq       int
	Time      time.Time
	Type      string
	Title     string
	Text      string
	Host      string
	Error     string
	Buttons   []string
	Folder    string
	UID       int
	MessageID string
	Subject   string
}

// startThunderbird starts an instance with a fresh profile; it ends with the test.
func startThunderbird(t *testing.T, options args) *thunderbird {
	t.Helper()
	dir, err := os.MkdirTemp("", "tb") // short: sockets below it have long names
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", filepath.Join(lab.Root, "test", "tbdriver", "tb.mjs"), "serve", dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tb := &thunderbird{dir: dir, in: in, out: make(chan []byte, 1)}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		defer close(tb.out)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadBytes('\n')
			if err != nil {
				return
			}
			tb.out <- line
		}
	}()
	t.Cleanup(func() {
		_ = in.Close() // the driver stops its instance and ends
		select {
		case <-stopped:
		case <-time.After(stack.Deadline):
			_ = cmd.Process.Kill()
			<-stopped
		}
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	})
	call[any](t, tb, "start", options)
	return tb
}

// call runs a function of the driver that must succeed.
func call[T any](t *testing.T, tb *thunderbird, name string, a args) T {
	t.Helper()
	v, err := try[T](t, tb, name, a)
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, a, err, tb.trouble(t))
	}
	return v
}

// try is call for what may fail in Thunderbird.
func try[T any](t *testing.T, tb *thunderbird, name string, a args) (T, error) {
	t.Helper()
	var v T
	tb.next++
	if a == nil {
		a = args{} // JSON has no empty map but this one
	}
	request, err := json.Marshal(args{"id": tb.next, "call": name, "args": a})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tb.in.Write(append(request, '\n')); err != nil {
		t.Fatalf("%s: the driver has ended: %v", name, err)
	}
	select {
	case line, ok := <-tb.out:
		if !ok {
			t.Fatalf("%s: the driver has ended\n%s", name, tb.logTail())
		}
		var answer struct {
			ID    int
			Value json.RawMessage
			Error *string
		}
		if err := json.Unmarshal(line, &answer); err != nil || answer.ID != tb.next {
			t.Fatalf("%s: the driver answered %q (%v)", name, line, err)
		}
		if answer.Error != nil {
			return v, fmt.Errorf("%s", *answer.Error)
		}
		if err := json.Unmarshal(answer.Value, &v); err != nil {
			t.Fatalf("%s: the driver answered %q: %v", name, line, err)
		}
		return v, nil
	case <-time.After(patience):
		t.Fatalf("%s %v: no answer from the driver\n%s", name, a, tb.logTail())
		return v, nil
	}
}

// quiet checks that the user saw no dialog, alert or certificate question since
// the last time.
func (tb *thunderbird) quiet(t *testing.T) {
	t.Helper()
	for _, e := range tb.notices(t) {
		t.Errorf("Thunderbird showed a %s: %s %s %s", e.Type, e.Title, e.Text, e.Error)
	}
}

// notices returns what the user had to read since the last time: everything
// but arrivals.
func (tb *thunderbird) notices(t *testing.T) []event {
	t.Helper()
	var seen []event
	for _, e := range call[[]event](t, tb, "events", args{"since": tb.known}) {
		tb.known = e.Seq
		if e.Type != "message-added" {
			seen = append(seen, e)
		}
	}
	return seen
}

// warned waits until the user was told something since the last time.
func (tb *thunderbird) warned(t *testing.T, text string) {
	t.Helper()
	var seen []event
	for deadline := time.Now().Add(stack.Deadline); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		seen = append(seen, tb.notices(t)...)
		if slices.ContainsFunc(seen, func(e event) bool { return strings.Contains(e.Text, text) }) {
			return
		}
	}
	t.Errorf("Thunderbird does not say %q, but %+v\n%s", text, seen, tb.trouble(t))
}

// trouble is what helps to understand a failure.
func (tb *thunderbird) trouble(t *testing.T) string {
	t.Helper()
	events, err := try[[]json.RawMessage](t, tb, "events", nil)
	var b strings.Builder
	for _, e := range events[max(0, len(events)-15):] {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	return fmt.Sprintf("last events (%v):\n%slog:\n%s", err, b.String(), tb.logTail())
}

var toolkitNoise = regexp.MustCompile(`Gtk-|GLib-|glib warning`)

// logTail is the end of what Thunderbird printed, without the toolkit's
// complaints that there is no display.
func (tb *thunderbird) logTail() string {
	b, err := os.ReadFile(filepath.Join(tb.dir, "thunderbird.log"))
	if err != nil {
		return err.Error()
	}
	var lines []string
	for l := range strings.Lines(string(b)) {
		if strings.TrimSpace(l) != "" && !toolkitNoise.MatchString(l) {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}
