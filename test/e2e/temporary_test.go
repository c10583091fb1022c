package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/corpus"
	"github.com/cloudmls/gateway/test/stack"
)

// TestKillLeavesNothingReadable: a gateway that is killed while it spools a big
// submission, or a big draft, leaves nothing that can be read, wherever its
// temporary files lie.
func TestKillLeavesNothingReadable(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	s.AddUser("erin", stack.Erin)
	all, err := corpus.All()
	if err != nil {
		t.Fatal(err)
	}
	var big corpus.Message
	for _, m := range all {
		if m.Name == "attachment-10mb" {
			big = m
		}
	}
	most := big.Octets[:len(big.Octets)*3/4]
	for what, begin := range map[string]func(){
		"submission": func() {
			w, err := a.Submission(stack.Alice).Begin([]string{stack.Erin})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(most); err != nil {
				t.Fatal(err)
			}
		},
		"draft": func() {
			c := a.Mail(stack.Alice)
			c.Write(fmt.Appendf(nil, "x APPEND Drafts {%d}\r\n", len(big.Octets)))
			if l := c.Line(); l[0] != '+' {
				t.Fatalf("APPEND: %q", l)
			}
			c.Write(most)
		},
	} {
		begin()
		spooled := filepath.Join(s.Dir, what+".spooled") // a spool has no name any more: what was in it is kept
		if err := os.WriteFile(spooled, openSpool(t, a.PID(), s.Dir), 0o600); err != nil {
			t.Fatal(err)
		}
		a.Kill()
		for c, files := range stack.FindCanaries(t, big.Canaries, append(lab.Folders(), s.Dir)...) {
			t.Errorf("%s: %s lies readable in %v", what, c, files)
		}
		a.Start(stack.GatewayReady)
	}
	control := filepath.Join(a.Temp(), "control") // the search does look there
	if err := os.WriteFile(control, most, 0o600); err != nil {
		t.Fatal(err)
	}
	if found := stack.FindCanaries(t, big.Canaries, s.Dir); len(found) < 4 {
		t.Errorf("the search found %v only", found)
	}
}

// openSpool waits until the process has a spool of some megabytes below the
// folder, and returns what is in it.
func openSpool(t *testing.T, pid int, folder string) []byte {
	t.Helper()
	for deadline := time.Now().Add(stack.Deadline); time.Now().Before(deadline); {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			file, err := os.Readlink(l)
			if err != nil || !strings.HasPrefix(file, folder+"/") || !strings.Contains(file, "spool-") {
				continue
			}
			if content, err := os.ReadFile(l); err == nil && len(content) > 4<<20 {
				return content
			}
		}
		time.Sleep(10 * time.Millisecond) // another process reads what was sent
	}
	t.Fatalf("no spool below %s was open, so nothing was tested", folder)
	return nil
}
