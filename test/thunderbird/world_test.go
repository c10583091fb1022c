package thunderbird

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// world is a stack with one Thunderbird, which has Alice's account at one
// provider and Erin's at the other, each behind a gateway of its own.
type world struct {
	*stack.Stack
	tb *thunderbird
	// alice and erin are the gateways of Thunderbird's accounts; erin's also
	// serves Frank. bob and carol are gateways without Thunderbird.
	alice, erin, bob, carol *stack.Gateway

	source *rand.Rand
}

const (
	// heidi has no account at the key server: mail to her leaves in clear.
	heidi = "heidi@b.test"
	grace = "grace@b.test"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := newStack(t)
	w.alice, w.erin = w.AddUser("alice", stack.Alice), w.AddUser("erin", stack.Erin, stack.Frank)
	w.bob, w.carol = w.AddUser("bob", stack.Bob), w.AddUser("carol", stack.Carol)
	return w
}

// newStack is a world without people. If the test fails, the ends of all logs
// are printed.
func newStack(t *testing.T) *world {
	t.Helper()
	w := &world{Stack: stack.New(t, lab), source: rand.New(rand.NewPCG(11, 12))}
	for _, address := range []string{stack.Alice, stack.Bob, stack.Carol, stack.Dave, stack.Erin, stack.Frank, grace, heidi} {
		empty(t, address) // an earlier test's key server is gone, and with it the keys to its mail
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for name, g := range w.Gateways {
			lines := strings.SplitAfter(g.LogText(), "\n")
			t.Logf("the gateway of %s:\n%s", name, strings.Join(lines[max(0, len(lines)-15):], ""))
		}
	})
	return w
}

// canary begins every word that must not lie readable anywhere outside
// Thunderbird.
const canary = "CANARY-"

// secret is such a word.
func (w *world) secret() string { return fmt.Sprintf("%s%016x", canary, w.source.Uint64()) }

// unreadable searches the providers, the gateways and the key server for
// secrets; afterwards a control shows that the search would have found one.
func (w *world) unreadable(t *testing.T) {
	t.Helper()
	for _, files := range stack.FindCanaries(t, []string{canary}, w.folders()...) {
		t.Errorf("secrets lie readable in %v", files)
	}
	control := fmt.Sprintf("CONTROL-%016x", w.source.Uint64())
	l := letter{id: "<control@a.test>", from: stack.Dave, to: stack.Dave, subject: control, text: "x"}
	lab.Direct(t, stack.Dave).Append("INBOX", "()", l.bytes())
	if found := stack.FindCanaries(t, []string{control}, lab.Folders()...); len(found[control]) == 0 {
		t.Error("the search does not find a word that lies open")
	}
}

// folders are all places of the providers, the gateways and the key server.
func (w *world) folders() []string { return append([]string{w.Dir}, lab.Folders()...) }

// account is how a user sets Thunderbird up with the settings that the gateway prints.
func account(t *testing.T, g *stack.Gateway, address string) args {
	t.Helper()
	name, _, _ := strings.Cut(address, "@")
	server := func(addr string) args {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		return args{"host": "localhost", "port": n, "security": "tls", "user": address, "password": g.Password}
	}
	return args{"name": strings.ToUpper(name[:1]) + name[1:], "email": address, "imap": server(g.IMAP), "smtp": server(g.SMTP)}
}

// authority is the gateway's certificate, as the user imports it.
func authority(t *testing.T, g *stack.Gateway) string {
	t.Helper()
	b, err := os.ReadFile(g.CA)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
